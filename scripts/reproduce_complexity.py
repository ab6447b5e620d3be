"""Which measures of complexity order modalities well, for `scripts/reproduce`.

Pairs whose order is known by construction say which measures find it: a
function of an image holds no more information than the image, an image changed
at random holds no less than before, and a mixture has at least the mean entropy
of its classes. MR, CT and PET slices of the same patients say what order each
measure finds in real modalities, and how stable it is over patients. There the
true order is unknown.
"""

from collections.abc import Callable, Mapping, Sequence
import os
from pathlib import Path
from typing import Any
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from reproduce_complexity_sets import (
    BASES,
    CLASS,
    HARDER,
    IMAGES,
    PAIRS,
    base_sets,
    halved,
    slices,
    spaced,
)
from scipy import stats

from jaxedge import data
from jaxedge.core import checks
from jaxedge.data import sarcoma
from jaxedge.features import complexity
from jaxedge.run import canvas

NAME = "complexity"
PAIR_DRAWS, PATIENT_DRAWS = 20, 100  # of half of the images or patients


def reproduce(rest: Sequence[str]) -> dict[str, Any]:
    """Measures both kinds of sets.

    Args:
        rest: `--data_root=DIR` or nothing.

    Returns:
        "zlib": its version; "pairs": one row a set, pair and measure, with both
        values and the share of halves that are in the known order; "agreement":
        rank correlations of measures, [measure][measure]; "modalities": one row
        a measure, with values, percentiles over halves, and orders.
    """
    root = _root(rest)
    pairs, ranks = [], []
    for base in BASES:
        print(f"{NAME}: {base}", flush=True)
        rows, rank = of_base(base, root)
        pairs += rows
        ranks.append(rank)
    print(f"{NAME}: sarcoma", flush=True)
    return {
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        "measures": complexity.names(),
        "pairs": pairs,
        "agreement": np.round(np.mean(ranks, axis=0), 3).tolist(),
        "modalities": of_modalities(root),
    }


def _root(rest: Sequence[str]) -> Path:
    root = os.environ.get(data.ROOT_VARIABLE, "")
    for argument in rest:
        flag, _, value = argument.partition("=")
        if flag != "--data_root":
            raise checks.UsageError(
                f"{argument!r} is no flag of {NAME}; use --data_root=DIR."
            )
        root = value
    if not root:
        raise checks.UsageError(
            f"{NAME} needs real images; give --data_root=DIR or set"
            f" {data.ROOT_VARIABLE}."
        )
    return Path(root)


def program() -> Callable[[np.ndarray], np.ndarray]:
    """All measures of a set as one array [M], compiled once a shape."""
    found = {n: m for n, m in complexity.MEASURES.items() if not m.on_host}
    names = complexity.names()

    @jax.jit
    def on_device(x):
        return jnp.stack([m.function(x) for m in found.values()])

    def every(x: np.ndarray) -> np.ndarray:
        value = dict(zip(found, np.asarray(on_device(x), float), strict=True))
        return np.array(
            [
                value[n] if n in value else complexity.measure(x, n)
                for n in names
            ]
        )

    return every


# Pairs of a known order.


def of_base(base: str, root: Path) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Rows of a set's pairs, and the rank correlations of measures."""
    rng = np.random.default_rng(0)
    sets, kinds = base_sets(base, root, rng)
    every = program()
    values = _values(every, sets, kinds)
    drawn = []
    for _ in range(PAIR_DRAWS):
        pick = rng.permutation(IMAGES)[: IMAGES // 2]
        part = {k: x[pick] for k, x in sets.items()}
        drawn.append(_values(every, part, [x[pick] for x in kinds]))
    # Spearman's, over the image and what was made of it.
    rank = stats.rankdata([values[k] for k in sets], axis=0)
    return _pair_rows(base, values, drawn), np.corrcoef(rank, rowvar=False)


def _values(
    every: Callable[[np.ndarray], np.ndarray],
    sets: Mapping[str, np.ndarray],
    kinds: Sequence[np.ndarray],
) -> dict[str, np.ndarray]:
    """Measures [M] of each set, and their mean over single classes."""
    found = {k: every(x) for k, x in sets.items()}
    return found | {CLASS: np.mean([every(x) for x in kinds], axis=0)}


def _pair_rows(
    base: str,
    values: Mapping[str, np.ndarray],
    drawn: Sequence[Mapping[str, np.ndarray]],
) -> list[dict[str, Any]]:
    rows = []
    for pair, (_, kind) in PAIRS.items():
        ends = ("image", pair) if kind in HARDER else (pair, "image")
        right = np.mean([d[ends[0]] < d[ends[1]] for d in drawn], axis=0)
        for i, name in enumerate(complexity.names()):
            simple, harder = (float(values[end][i]) for end in ends)
            rows.append(
                {
                    "set": base,
                    "pair": pair,
                    "measure": name,
                    "simpler": _digits(simple),
                    "harder": _digits(harder),
                    "right": simple < harder,
                    "halves_right": float(right[i]),
                }
            )
    return rows


def _digits(value: float) -> float:
    return float(f"{value:.4g}")


# Real modalities.


def of_modalities(root: Path) -> dict[str, Any]:
    """Values, intervals over patients, and orders of MR, CT and PET."""
    x_NxHxWxC, patient_N = slices(root)
    half = halved(x_NxHxWxC)
    picked = spaced(patient_N)
    every = program()

    def of(x):
        return np.stack([every(x[..., c]) for c in range(x.shape[-1])], 1)

    rng = np.random.default_rng(1)
    value_MxC = of(half[picked.ravel()])
    # As far apart, for a mean, as bootstrap samples are, and without repeats.
    drawn = [
        of(half[rng.permutation(picked)[: len(picked) // 2].ravel()])
        for _ in range(PATIENT_DRAWS)
    ]
    whole_MxC = of(x_NxHxWxC)
    spread = np.percentile(drawn, (2.5, 50, 97.5), axis=0)
    rows = []
    for i, name in enumerate(complexity.names()):
        order = _order(value_MxC[i])
        rows.append(
            {
                "measure": name,
                "values": dict(
                    zip(sarcoma.SITES, map(_digits, value_MxC[i]), strict=True)
                ),
                "halves": {
                    site: [_digits(end) for end in spread[:, i, c]]
                    for c, site in enumerate(sarcoma.SITES)
                },
                "order": order,
                "halves_so": float(
                    np.mean([_order(d[i]) == order for d in drawn])
                ),
                "order_96": _order(whole_MxC[i]),
            }
        )
    return {
        "patients": len(picked),
        "slices": picked.size,
        "slices_96": len(x_NxHxWxC),
        "rows": rows,
    }


def _order(value_C: np.ndarray) -> str:
    """Modalities, the simpler first."""
    return " < ".join(sarcoma.SITES[c] for c in np.argsort(value_C))


# What is written.


def page(content: Mapping[str, Any]) -> list[str]:
    """The lines of the result as markdown."""
    return [
        "How arXiv:2308.14066 measures the complexity of a modality, of which"
        " it synthesises the lower first, is unknown. These are the measures of"
        " `jaxedge.features.complexity`, which are ours; definitions are in"
        " their docstrings.",
        "",
        f"![measures]({NAME}.svg)",
        "",
        *_pair_lines(content["pairs"]),
        "",
        *_modality_lines(content["modalities"]),
        "",
        *_agreement_lines(content),
        "",
        f"zlib is version {content['zlib']}.",
    ]


def scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Share of halves in the known order, by measure and pair, over sets."""
    return {
        name: {
            pair: float(
                np.mean(
                    [
                        row["halves_right"]
                        for row in rows
                        if (row["measure"], row["pair"]) == (name, pair)
                    ]
                )
            )
            for pair in PAIRS
        }
        for name in dict.fromkeys(row["measure"] for row in rows)
    }


def _pair_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    found = scores(rows)
    means = {name: np.mean(list(v.values())) for name, v in found.items()}
    ranked = sorted(found, key=lambda n: -means[n])
    sides = [f"{pair}: {how}" for pair, (how, _) in PAIRS.items()]
    lines = [
        "## Pairs of a known order",
        "",
        f"{IMAGES} images each of {', '.join(BASES)}. Blurred, coarse,"
        " silhouette and edges are functions of the image and hold no more"
        " information; a noisy or shifted image holds no less than the image;"
        " classes together have at least the mean entropy of the classes. That"
        " is an order of information: whether a network finds the image of"
        " edges easier than the image is another question.",
        "",
        *(f"- {side}" for side in sides),
        "",
        f"Share (%) in the known order, of {PAIR_DRAWS} halves of the images of"
        f" each of {len(BASES)} sets; an equal value is not in order.",
        "",
        f"| measure |{''.join(f' {pair} |' for pair in PAIRS)} mean |",
        f"|---|{'--:|' * (len(PAIRS) + 1)}",
    ]
    for name in ranked:
        cells = "".join(f" {100 * v:.0f} |" for v in found[name].values())
        lines.append(f"| {name} |{cells} {100 * means[name]:.0f} |")
    most = [n for n in ranked if min(found[n].values()) > 0.5]
    blind = ", ".join(
        f"{pair} {sum(v[pair] > 0.5 for v in found.values())}" for pair in PAIRS
    )
    return [
        *lines,
        "",
        f"{ranked[0]} finds the most orders,"
        f" {100 * means[ranked[0]]:.0f} %. Above one half in every column:"
        f" {', '.join(most) or 'no measure'}. Measures above one half, of"
        f" {len(found)}: {blind}.",
        "",
        "prediction_entropy was chosen after a look at these pairs, in which"
        " zlib takes a blurred image for more complex; they are no independent"
        " test of it. The pairs are our choice, and so is their equal weight.",
    ]


def _modality_lines(content: Mapping[str, Any]) -> list[str]:
    rows = content["rows"]
    head = "".join(f" {site} |" for site in sarcoma.SITES)
    lines = [
        "## MR, CT and PET",
        "",
        f"{content['slices']} slices of {content['patients']} patients of"
        " the sarcoma set, in its windows of intensity, as means over 2 x 2"
        f" pixels (48 x 48). A value is the median of {PATIENT_DRAWS} halves of"
        " the patients, drawn without repeats, with the 2.5th to 97.5th"
        " percentile; for a mean over patients, halves are as far apart as"
        " bootstrap samples, whose repeats would mislead measures of the"
        " variation between images. The order is that of all patients, beside"
        " the share of halves that have it; the last column is the order at"
        f" 96 x 96 pixels, of all {content['slices_96']} slices.",
        "",
        f"| measure |{head} order | halves so (%) | order at 96 |",
        f"|---|{'--:|' * len(sarcoma.SITES)}---|--:|---|",
    ]
    for row in rows:
        cells = "".join(
            f" {middle:.3g} ({low:.3g} to {high:.3g}) |"
            for low, middle, high in row["halves"].values()
        )
        same = row["order"] == row["order_96"]
        lines.append(
            f"| {row['measure']} |{cells} {row['order']} |"
            f" {100 * row['halves_so']:.0f} |"
            f" {'the same' if same else row['order_96']} |"
        )
    votes: dict[str, list[str]] = {}
    for row in rows:
        votes.setdefault(row["order"], []).append(row["measure"])
    told = "; ".join(
        f"{order} by {len(votes[order])} ({', '.join(votes[order])})"
        for order in sorted(votes, key=lambda o: -len(votes[o]))
    )
    firsts = [row["order"].split(" < ")[0] for row in rows]
    first = max(set(firsts), key=firsts.count)
    return [
        *lines,
        "",
        f"Of {len(rows)} measures, the order is {told}. {first} is the simplest"
        f" by {firsts.count(first)} of them.",
    ]


def _agreement_lines(content: Mapping[str, Any]) -> list[str]:
    names = content["measures"]
    lines = [
        "## How far measures agree",
        "",
        "Spearman's rank correlation of two measures over the image and its six"
        f" variants, mean over {len(BASES)} sets:",
        "",
        f"| |{''.join(f' {name} |' for name in names)}",
        f"|---|{'--:|' * len(names)}",
    ]
    for name, row in zip(names, content["agreement"], strict=True):
        cells = "".join(f" {value:.2f} |" for value in row)
        lines.append(f"| {name} |{cells}")
    return lines


def draw(content: Mapping[str, Any], path: Path) -> None:
    """Known orders found, and the modalities by every measure."""
    names = list(content["measures"])
    fig, (left, right) = canvas.figure(9.4, 4.2, columns=2)
    found = scores(content["pairs"])
    place = np.arange(len(names))
    means = [100 * np.mean(list(found[n].values())) for n in names]
    left.barh(place, means, color=canvas.BLUE, height=0.6)
    left.set_xlabel("Known orders found (% of halves)")
    left.set_xlim(0, 100)
    left.axvline(50, color=canvas.INK, lw=1, ls=":")
    rows = content["modalities"]["rows"]
    colours = (canvas.BLUE, canvas.ORANGE, canvas.GREEN)
    for at, row in enumerate(rows):
        most = max(middle for _, middle, _ in row["halves"].values())
        for c, (site, ends) in enumerate(row["halves"].items()):
            y, colour = at + 0.2 * (c - 1), colours[c]
            low, middle, high = np.array(ends) / most
            right.plot([low, high], [y, y], color=colour, lw=1.5)
            label = site if at == 0 else None
            right.plot(middle, y, "o", color=colour, ms=4, label=label)
    right.set_xlabel("Complexity over the largest of the three")
    for ax in (left, right):
        ax.set_yticks(place, names)
        ax.set_ylim(len(names) - 0.5, -0.5)
    right.set_yticklabels([])
    canvas.legend(
        right, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(colours)
    )
    canvas.save(fig, path)


__all__ = ["NAME", "draw", "page", "reproduce"]
