"""How good made pairs of images are: the table of a report.

Letters: N pairs, H height, W width, F features, R rows of the table.
"""

from collections.abc import Callable, Mapping
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core.keys import stream
from jaxedge.data import joint_pairs
from jaxedge.features import likeness
from jaxedge.learn import fidelity, information
from jaxedge.recipes import gan_scores

# Where a value is from: made on ideal hardware, made on the chip, what real
# pairs have in their place, and the law of the data where it is known.
PLACES = ("ideal", "chip", "real", "truth")
# Components of either modality that tell of the other.
COMPONENTS = 3
# Couples of pairs that are compared for the diversity.
COUPLES = 500
_WINDOWS = (11, 7, 5, 3)
_LEAST = 10  # Pairs that a set has at least to be compared with another.


class Table(NamedTuple):
    """Rows of the table.

    Attributes:
        names: [R].
        values: [R, 4], by `PLACES`; NaN where there is none.
        counts: images or pairs that a row is of, [R].
    """

    names: tuple[str, ...]
    values: np.ndarray
    counts: np.ndarray


class Rows:
    """A table that grows by a row."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[list[float], int]] = {}

    def add(self, name: str, count: int, **values: float) -> None:
        """A row; `values` by `PLACES`, of which those left out are NaN."""
        row = [float(values.get(place, np.nan)) for place in PLACES]
        self._rows[name] = row, count

    def table(self) -> Table:
        """The whole."""
        rows = self._rows.values()
        return Table(
            tuple(self._rows),
            np.array([values for values, _ in rows]).reshape(-1, len(PLACES)),
            np.array([count for _, count in rows], int),
        )


def likenesses(
    rows: Rows,
    prefix: str,
    real_NxHxW: np.ndarray,
    made: Mapping[str, np.ndarray],
) -> None:
    """How near made images come to the true ones, in the mean over images.

    Args:
        rows: grow by "mae", "psnr" and "ssim".
        prefix: of these names.
        real_NxHxW: in [-1, 1].
        made: by place, [N, H, W] each.
    """
    side = min(real_NxHxW.shape[1:])
    window = min(likeness.WINDOW, side - (side + 1) % 2)
    span = gan_scores.SPAN
    measures: dict[str, Callable[..., jax.Array]] = {
        "mae": likeness.mae,
        "psnr": functools.partial(likeness.psnr, span=span),
        "ssim": functools.partial(likeness.ssim, span=span, window=window),
    }
    real = real_NxHxW[..., None]
    for name, measure in measures.items():
        found = {
            place: float(np.mean(measure(images[..., None], real)))
            for place, images in made.items()
        }
        rows.add(prefix + name, len(real), **found)


def scales(side: int) -> tuple[int, int]:
    """Window and scales of MS-SSIM for images of a side.

    The largest window for which there are two scales, or one if there is none,
    and as many scales as fit, five at most.
    """

    def fit(window: int) -> int:
        most = len(likeness.WEIGHTS)
        return sum(window * 2**i <= side for i in range(most))

    window = next((w for w in _WINDOWS if fit(w) > 1), _WINDOWS[-1])
    return window, max(fit(window), 1)


def diversities(
    rows: Rows, key: jax.Array, sets: Mapping[str, np.ndarray]
) -> None:
    """How alike pairs of a set are to each other: MS-SSIM between them.

    Of both modalities in the mean. Weights of as many scales as fit are made to
    sum to 1, so that numbers of other sizes of images do not compare.

    Args:
        rows: grow by "diversity", which is the lower the more diverse.
        key: of which pairs are compared.
        sets: by place, [N, H, W, 2].
    """
    side = min(next(iter(sets.values())).shape[1:3])
    if side < _WINDOWS[-1]:
        return
    window, count = scales(side)
    weights = np.array(likeness.WEIGHTS[:count])
    compare = functools.partial(
        likeness.ms_ssim,
        span=gan_scores.SPAN,
        weights=weights / weights.sum(),
        window=window,
    )
    found = {
        place: float(
            fidelity.diversity(
                stream(key, "diversity"), images, compare, pairs=COUPLES
            ).mean
        )
        for place, images in sets.items()
    }
    rows.add("diversity", COUPLES, **found)


def distances(
    rows: Rows, real_NxF: np.ndarray, sets: Mapping[str, np.ndarray]
) -> None:
    """How far sets of features are from those of real pairs.

    Args:
        rows: grow by "precision", "recall", "fid" and "kid".
        real_NxF: features of real test pairs.
        sets: by place, features of as many pairs.
    """
    count = len(real_NxF)
    if count < _LEAST:
        return
    found: dict[str, dict[str, float]] = {}
    for place, made in sets.items():
        cover = fidelity.precision_recall(real_NxF, made)
        values = {
            "precision": cover.precision,
            "recall": cover.recall,
            "fid": fidelity.fid(real_NxF, made),
            "kid": fidelity.mmd(real_NxF, made),
        }
        for name, value in values.items():
            found.setdefault(name, {})[place] = float(value)
    for name, values in found.items():
        rows.add(name, count, **values)


def informations(
    rows: Rows,
    sets: Mapping[str, np.ndarray],
    known_NxHxWx2: np.ndarray,
    rho: float | None,
) -> None:
    """How much one modality of a pair tells of the other, nats.

    That of normal numbers with the same covariances: of coarse pixels along
    the first principal axes of either modality of real training pairs, the
    same for all sets. Of "joint_pairs" also of the two numbers that made a pair
    (`joint_pairs.summary_first` and `summary_second`), whose law is known.

    Args:
        rows: grow by "information" and "summary_information".
        sets: by place, [N, H, W, 2], the data set's first modality in front.
        known_NxHxWx2: training pairs, likewise.
        rho: of "joint_pairs"; None for other data.
    """
    count = len(next(iter(sets.values())))
    if min(count, len(known_NxHxWx2)) < _LEAST:
        return
    axes = [_axes(known_NxHxWx2[..., i : i + 1]) for i in range(2)]

    def told(pairs: np.ndarray) -> float:
        parts = [
            _coarse(pairs[..., i : i + 1]) @ axis for i, axis in enumerate(axes)
        ]
        return float(information.gaussian(*parts))

    rows.add("information", count, **{k: told(v) for k, v in sets.items()})
    if rho is None:
        return

    def summed(pairs: np.ndarray) -> float:
        first = joint_pairs.summary_first(pairs[..., 0])
        second = joint_pairs.summary_second(pairs[..., 1])
        # Made images may differ by less than float32 tells of their mean.
        pair = ((x - x.mean())[:, None] for x in (first, second))
        return float(information.gaussian(*pair))

    truth = float(joint_pairs.mutual_information(rho))
    rows.add(
        "summary_information",
        count,
        truth=truth,
        **{k: summed(v) for k, v in sets.items()},
    )


def _coarse(images: np.ndarray) -> np.ndarray:
    return np.asarray(gan_scores.coarse(jnp.asarray(images)))


def _axes(images_NxHxWx1: np.ndarray) -> np.ndarray:
    """The first principal axes of coarse pixels, [F, COMPONENTS]."""
    x = _coarse(images_NxHxWx1)
    _, _, axes = np.linalg.svd(x - x.mean(0), full_matrices=False)
    return axes[:COMPONENTS].T


def nearest(pairs_NxHxWx2: np.ndarray, known: np.ndarray) -> Any:
    """The training pair that is nearest to each, by its pixels.

    Args:
        pairs_NxHxWx2: made or real.
        known: training pairs, [M, H, W, 2].

    Returns:
        The root of the mean squared difference over pixels and modalities, [N],
        and rows of the training pairs, [N].
    """
    a, b = (x.reshape(len(x), -1) for x in (pairs_NxHxWx2, known))
    apart, rows = fidelity.nearest(a, b)
    root = np.sqrt(a.shape[1])
    return np.asarray(apart)[:, 0] / root, np.asarray(rows)[:, 0]
