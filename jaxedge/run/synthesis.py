"""What a report tells of pairs of images that a network makes.

Letters: E examples shown, N pairs compared, H height, W width, T times, L lines
of an interpolation, K classes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxedge import data
from jaxedge.core.keys import stream
from jaxedge.recipes import sequential_gan
from jaxedge.run import judge, pair_maker, results, synthesis_scores

HOME = "synthesis/"
# Times of training that are shown, and lines and points of interpolations.
TIMES, LINES, POINTS = 6, 3, 7
# Pairs that are compared in sets, and training pairs that copies are sought in.
COMPARED, SOUGHT = 1000, 5000


class Networks(NamedTuple):
    """Variables before training, after it, and on a chip."""

    start: Any
    ideal: Any
    chip: Any


def collect(
    given: sequential_gan.Settings,
    networks: Networks,
    splits: Mapping[str, data.Source],
    kept: Path,
    key: jax.Array,
    data_root: str | None = None,
) -> dict[str, np.ndarray]:
    """The arrays of what a report shows of made pairs.

    Args:
        given: the settings of the run.
        networks: of it.
        splits: from its `prepare`.
        kept: folder of the pairs of earlier times, see `pair_maker.Kept`.
        key: of the chip's reads, and of what is drawn to compare.
        data_root: as of `data.load`.

    Returns:
        Under "synthesis/": "modalities" [2], their names, the first one made
        first; "classes" [K]; "conditional" []; what `examples`, `times`,
        `between`, `copies` and `scored` find.
    """
    maker = pair_maker.network(given, splits)
    real, swapped = pair_maker.known_pairs(given, splits["train"], data_root)
    named = pair_maker.modalities(given.data, swapped)
    test = _some(splits["test"], COMPARED)
    z = maker.vectors(np.arange(len(test.y)), test.y)
    pairs = {
        "ideal": maker.pairs(networks.ideal, z),
        "chip": maker.pairs(networks.chip, z, stream(key, "made")),
    }
    arrays = {
        "modalities": np.array(named, dtype=str),
        "classes": np.array(test.classes, dtype=str),
        "conditional": np.array(bool(maker.model.labels)),
        **examples(maker, networks, test, pairs, key),
        **times(maker, networks, kept),
        **between(maker, networks.ideal),
        **copies(pairs["ideal"], test.x, _some(real, SOUGHT).x),
        **scored(
            given, maker, networks, real, test, pairs, swapped, key
        ),
    }  # fmt: skip
    return {f"{HOME}{name}": array for name, array in arrays.items()}


def numbers(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The table of a report by name and place, for the record of a run.

    Args:
        arrays: with those of `collect`.

    Returns:
        By name the values by place, and "images", of how many; nothing of a
        run that makes no pairs.
    """
    if f"{HOME}score/names" not in arrays:
        return {}
    parts = (arrays[f"{HOME}score/{n}"] for n in ("names", "values", "counts"))
    return {
        str(name): {
            **{
                place: float(value)
                for place, value in zip(
                    synthesis_scores.PLACES, values, strict=True
                )
                if np.isfinite(value)
            },
            "images": int(count),
        }
        for name, values, count in zip(*parts, strict=True)
    }


def _some(source: data.Source, most: int) -> data.Source:
    """At most so many rows, evenly from all over a source."""
    count = len(source.y)
    return source.rows(np.linspace(0, count - 1, min(most, count)).astype(int))


# What is shown.


def examples(
    maker: pair_maker.Maker,
    networks: Networks,
    test: data.Source,
    pairs: Mapping[str, np.ndarray],
    key: jax.Array,
) -> dict[str, np.ndarray]:
    """Pairs beside real ones, and second modalities beside the true ones.

    Args:
        maker: of the networks.
        networks: of which the ideal one and that on a chip are used.
        test: real pairs.
        pairs: made by place, of as many normal vectors.
        key: of the chip.

    Returns:
        "real", "ideal" and "chip" [E, H, W, 2] and "label" [E], of the real
        pairs and, of a conditional network, of the made ones; and
        "second/ideal" and "second/chip" [E, H, W], made of the first modality
        of the real pairs.
    """
    rows = np.linspace(
        0, len(test.y) - 1, min(pair_maker.SHOWN, len(test.y))
    ).astype(int)
    given = test.x[rows, ..., 0], test.y[rows]
    return {
        "real": test.x[rows],
        "label": test.y[rows],
        **{place: found[rows] for place, found in pairs.items()},
        "second/ideal": maker.second(networks.ideal, *given),
        "second/chip": maker.second(
            networks.chip, *given, stream(key, "second")
        ),
    }


def times(
    maker: pair_maker.Maker, networks: Networks, kept: Path
) -> dict[str, np.ndarray]:
    """What the same normal vectors became in the course of training.

    Args:
        maker: of the networks.
        networks: of which that before training is used.
        kept: folder of `pair_maker.Kept`.

    Returns:
        "time/steps" [T], rising from 0, and "time/pairs" [T, E, H, W, 2].
    """
    paths = sorted(kept.glob("*.npz"), key=lambda path: int(path.stem))
    chosen = np.linspace(0, len(paths) - 1, min(TIMES - 1, len(paths)))
    paths = [paths[i] for i in chosen.astype(int)]
    later = [results.Archive(path)["pairs"] for path in paths]
    steps = [0, *(int(path.stem) for path in paths)]
    start = maker.pairs(networks.start, pair_maker.watched(maker))
    return {
        "time/steps": np.array(steps),
        "time/pairs": np.stack([start, *later]),
    }


def between(maker: pair_maker.Maker, variables: Any) -> dict[str, np.ndarray]:
    """Pairs along ways from one normal vector to another.

    A way is z = cos(t) a + sin(t) b, all of whose points are as likely as its
    ends; a straight one would lead through less likely vectors.

    Returns:
        "between" [L, T, H, W, 2], a class a line where the network has such.
    """
    labels = max(maker.model.labels, 1)
    y = np.arange(LINES) % labels
    # Behind those that are compared.
    rows = 10**6 + np.arange(2 * LINES)
    z = maker.vectors(rows, np.tile(y, 2))
    angle = np.linspace(0, np.pi / 2, POINTS)[None, :, None]
    a, b = z[:LINES, None], z[LINES:, None]
    way = (np.cos(angle) * a + np.sin(angle) * b).astype(np.float32)
    way = np.where(maker.free, way, a)
    found = maker.pairs(variables, way.reshape(-1, way.shape[-1]))
    return {"between": found.reshape(LINES, POINTS, *found.shape[1:])}


def copies(
    made_NxHxWx2: np.ndarray, test: np.ndarray, known: np.ndarray
) -> dict[str, np.ndarray]:
    """Whether made pairs are copies of training pairs.

    Args:
        made_NxHxWx2: pairs.
        test: real pairs that training did not see.
        known: training pairs.

    Returns:
        "near/made" and "near/test" [N], the distance of each to the nearest
        training pair, see `synthesis_scores.nearest`; "near/known" [], how many
        these are; and of the made pairs that are nearest "near/shown" and
        "near/found" [E, H, W, 2], themselves and the training pairs.
    """
    apart, rows = synthesis_scores.nearest(made_NxHxWx2, known)
    chosen = np.argsort(apart, kind="stable")[: pair_maker.SHOWN]
    return {
        "near/made": apart,
        "near/test": synthesis_scores.nearest(test, known)[0],
        "near/known": np.array(len(known)),
        "near/shown": made_NxHxWx2[chosen],
        "near/found": known[rows[chosen]],
    }


def scored(
    given: sequential_gan.Settings,
    maker: pair_maker.Maker,
    networks: Networks,
    real: data.Source,
    test: data.Source,
    pairs: Mapping[str, np.ndarray],
    swapped: bool,
    key: jax.Array,
) -> dict[str, np.ndarray]:
    """The table of a report, and of which judge its features are.

    Args:
        given: the settings of the run.
        maker: of the networks.
        networks: of which the ideal one and that on a chip are used.
        real: training pairs.
        test: real test pairs.
        pairs: made by place, of as many normal vectors.
        swapped: whether modalities are in another order than in the data set.
        key: of the chip, of the judge and of what is drawn.

    Returns:
        "score/names", "score/values" and "score/counts", see
        `synthesis_scores.Table`; "judge/pairs", "judge/task",
        "judge/accuracy" on the test pairs, and "judge/taught" [], by how many
        made pairs another one was taught, 0 for none.
    """
    rows = synthesis_scores.Rows()
    first, second = test.x[..., 0], test.x[..., 1]
    places = {"ideal": networks.ideal, "chip": networks.chip}

    def read(function: Any, name: str) -> dict[str, np.ndarray]:
        keys = {"ideal": None, "chip": stream(key, name)}
        return {
            place: function(variables, first, test.y, keys[place])
            for place, variables in places.items()
        }

    found = read(maker.second, "second")
    synthesis_scores.likenesses(rows, "", second, found)
    if maker.model.encodes:
        again = read(maker.reconstructed, "again")
        synthesis_scores.likenesses(rows, "first_", first, again)
    synthesis_scores.diversities(rows, key, {**pairs, "real": test.x})
    taught = judge.train(stream(key, "judge"), real)
    # What as many training pairs have: the best that can be expected.
    sets = {**pairs, "real": _some(real, len(test.y)).x}
    enough = {k: v for k, v in sets.items() if len(v) == len(test.y)}
    synthesis_scores.distances(
        rows,
        judge.features(taught, test.x),
        {k: judge.features(taught, v) for k, v in enough.items()},
    )
    order = slice(None, None, -1 if swapped else 1)
    joint = given.data.name == "joint_pairs"
    synthesis_scores.informations(
        rows,
        {k: v[..., order] for k, v in {**pairs, "real": test.x}.items()},
        real.x[..., order],
        given.data.rho if joint else None,
    )
    accuracy = judge.accuracy(taught, test)
    by_made, count = {}, 0
    if maker.model.labels and taught.task == judge.LABELS:
        count = len(real.y)
        z = maker.vectors(2 * 10**6 + np.arange(count), real.y)
        by_made["ideal"] = judge.synthetic_accuracy(
            stream(key, "judge"),
            maker.pairs(networks.ideal, z),
            real.y,
            test,
        )
    if taught.task == judge.LABELS:
        rows.add("accuracy", len(test.y), real=accuracy, **by_made)
    table = rows.table()
    return {
        "score/names": np.array(table.names, dtype=str),
        "score/values": table.values,
        "score/counts": table.counts,
        "judge/pairs": np.array(taught.pairs),
        "judge/task": np.array(taught.task, dtype=str),
        "judge/accuracy": np.array(accuracy),
        "judge/taught": np.array(count),
    }
