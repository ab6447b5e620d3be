"""Data sets in memory, checked once where they enter.

Letters: N examples, P positions (pixels, points), B batch, H height, W width,
C channels.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxedge.core import checks

# Label of a position that counts nowhere, such as a pixel off the retina.
IGNORED = -1


class Source(NamedTuple):
    """One split of a labelled data set; build it with `make_source`.

    Attributes:
        x: inputs, [N, ...] float32; images are [N, H, W, C]. Those of a text
            are tokens, [N, T] int32, see `data.text`.
        y: labels, int32 in [0, len(classes)): [N], or for segmentation [N, P]
            or [N, H, W], one a position, where `IGNORED` counts nowhere; of a
            text the next tokens, [N, T].
        classes: the name of each label.
        name: the data set's name.
        split: "train", "valid" or "test".
        aux: what else is known of each example, by name, [N, ...] each, such
            as the stored outputs of a teacher; may lie on disk (memmap).
    """

    x: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...]
    name: str
    split: str
    aux: Mapping[str, np.ndarray] | None = None

    def rows(self, rows: np.ndarray) -> "Source":
        """A part of the examples, given their indices."""
        aux = self.aux and {k: v[rows] for k, v in self.aux.items()}
        return self._replace(x=self.x[rows], y=self.y[rows], aux=aux)


class Batch(NamedTuple):
    """Rows of a `Source`.

    Attributes:
        x: inputs, [B, ...] float32.
        y: labels, int32, [B] or one a position, [B, ...].
        weight: [B] float32, 1 for a row of the source and 0 for padding.
        aux: rows of the source's `aux`.
        target: what each answer is to be, a distribution [B, K], where it is
            not the label alone.
    """

    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    aux: Any = None
    target: Any = None


def make_source(
    x: Any, y: Any, *, classes: tuple[str, ...], name: str, split: str
) -> Source:
    """A `Source` whose arrays have been checked.

    Args:
        x: inputs, [N, ...] float32, finite, N > 0.
        y: labels, any integer dtype, in [0, len(classes)): [N], or one a
            position of [N, ..., F] inputs, of which some may be `IGNORED`.
        classes: the name of each label.
        name: the data set's name, for error messages and reports.
        split: the split's name, likewise.

    Returns:
        The source, with labels as int32.

    Raises:
        UsageError: naming the data set, the array and the remedy.
    """
    x, y = np.asarray(x), np.asarray(y)
    where = f"{name}/{split}"
    _check_inputs(f"the inputs of {where}", x)
    _check_labels(f"the labels of {where}", y, x.shape, len(classes))
    return Source(x, y.astype(np.int32), tuple(classes), name, split)


def _check_inputs(what: str, x: np.ndarray) -> None:
    # Another dtype is not cast: uint8 pixels want scaling, float64 rounding,
    # and which scaling is right only the caller knows.
    if x.dtype != np.float32:
        raise checks.UsageError(
            f"{what} are {x.dtype}, but must be float32; scale and convert"
            " them with astype(numpy.float32)."
        )
    if x.ndim < 2 or x.size == 0:
        raise checks.UsageError(
            f"{what} have shape {x.shape}, but must be [N, ...] with at least"
            " one example and one feature."
        )
    checks.finite(what, x)


def _check_labels(
    what: str, y: np.ndarray, shape: tuple[int, ...], classes: int
) -> None:
    if y.dtype.kind not in "iu":
        raise checks.UsageError(
            f"{what} are {y.dtype}, but must be integers; give the index of"
            " each example's class."
        )
    # Positions have features of their own, so inputs have one axis more.
    placed = 1 < y.ndim == len(shape) - 1
    if y.shape != (shape[:-1] if placed else shape[:1]):
        where = f" or {shape[:-1]}, one a position" if len(shape) > 2 else ""
        raise checks.UsageError(
            f"{what} have shape {y.shape}, but the inputs need {shape[:1]}:"
            f" one label an example{where}."
        )
    allowed = (y >= 0) & (y < classes)
    if placed:
        allowed |= y == IGNORED
        if not (y != IGNORED).any():
            raise checks.UsageError(f"{what} ignore every position.")
    if not allowed.all():
        place = tuple(int(i) for i in np.argwhere(~allowed)[0])
        shown = place if placed else place[0]
        raise checks.UsageError(
            f"{what} hold {y[place]} at index {shown}, but must lie in"
            f" [0, {classes - 1}]; relabel or drop such examples."
        )
