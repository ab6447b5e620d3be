"""Images of two modalities: which pairs are known, and what makes them pairs.

A source of pairs has x [N, H, W, 2] float32 in [-1, 1], the modality that is
named first in channel 0, and y [N], a class of the whole pair. Its `aux` has
"paired", "has_first" and "has_second", [N] uint8: both modalities of a row are
given and belong together, the first is given, the second is given. What is not
given is -1 everywhere in x, so that no training on the pair can use it; the
label is still that of the pair.

Letters: N rows, H height, W width, S side.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxedge.core import checks
from jaxedge.data.source import Source, make_source

LOW, HIGH = -1.0, 1.0
_ROUNDED = 1e-6  # By which a value may pass an end: arithmetic in float32.
_SHOWN = 3  # More ids than that help nobody.


class Pairing(NamedTuple):
    """What is given of each row, [N] uint8 of 0 and 1.

    Attributes:
        paired: both modalities, known to belong together.
        has_first: the first modality.
        has_second: the second modality.
    """

    paired: np.ndarray
    has_first: np.ndarray
    has_second: np.ndarray

    def then(self, other: "Pairing") -> "Pairing":
        """These rows and after them others."""
        both = zip(self, other, strict=True)
        return Pairing(*(np.concatenate(ends) for ends in both))


def complete(n: int) -> Pairing:
    """Of n rows all are pairs."""
    return Pairing(*(np.ones(n, np.uint8) for _ in range(3)))


def lone(first_N: Any) -> Pairing:
    """Rows of one modality each, the first where `first_N` [N] is true."""
    first = np.asarray(first_N, bool)
    return Pairing(
        np.zeros(len(first), np.uint8),
        first.astype(np.uint8),
        (~first).astype(np.uint8),
    )


def drawn(group_N: Any, share: float, seed: int) -> Pairing:
    """The pairs that are kept, and what is left of the others.

    Groups, such as patients, are put in an order that the seed alone
    determines. The first round(share G) of G groups, at least one, keep their
    pairs; of the others every second one in that order gives the first modality
    alone, and the rest the second alone. So a larger share keeps the pairs of a
    smaller one and changes no other group.

    Args:
        group_N: the group of each row, [N].
        share: in (0, 1].
        seed: in [0, 2^32).

    Raises:
        UsageError: for a share or seed out of range.
    """
    check_draw(share, seed)
    names, group = np.unique(np.asarray(group_N), return_inverse=True)
    rank = np.empty(len(names), int)
    # Its stream is frozen, unlike that of newer generators.
    order = np.random.RandomState(seed).permutation(len(names))
    rank[order] = np.arange(len(names))
    kept = rank < max(1, int(share * len(names) + 0.5))
    even = rank % 2 == 0
    parts = kept, kept | even, kept | ~even
    return Pairing(*(part[group].astype(np.uint8) for part in parts))


def check_draw(share: Any, seed: Any) -> None:
    """Raises unless the options `pairs` and `seed` of a source are in range."""
    checks.in_range("pairs", share, 0, 1, open_low=True)
    checks.whole("seed", seed)
    checks.in_range("seed", seed, 0, 2**32 - 1)


def make(
    first_NxHxW: np.ndarray,
    second_NxHxW: np.ndarray,
    y: Any,
    pairing: Pairing,
    *,
    aux: Mapping[str, np.ndarray],
    **about: Any,
) -> Source:
    """A checked source of pairs, see the text of this module.

    Args:
        first_NxHxW: the first modality in [-1, 1], anything where it is not
            given.
        second_NxHxW: the second one, likewise.
        y: labels, [N].
        pairing: of the N rows.
        aux: what else is known of them.
        **about: classes, name and split, as of `make_source`.

    Raises:
        UsageError: for unequal sizes, or values out of range.
    """
    check_sizes("first", first_NxHxW.shape, "second", second_NxHxW.shape)
    where = f"{about['name']}/{about['split']}"
    x = np.empty((*first_NxHxW.shape, 2), np.float32)
    for channel, (image, given) in enumerate(
        [
            (first_NxHxW, pairing.has_first),
            (second_NxHxW, pairing.has_second),
        ]
    ):
        x[..., channel] = np.where(given[:, None, None], image, LOW)
        check_range(f"modality {channel} of {where}", x[..., channel])
    source = make_source(np.clip(x, LOW, HIGH), y, **about)
    return source._replace(aux={**aux, **pairing._asdict()})


def check_modalities(names: Any, known: Sequence[str] | None = None) -> None:
    """Raises unless these are two different names, of the known ones.

    Raises:
        UsageError: naming the option.
    """
    two = not isinstance(names, str) and [type(n) for n in names] == [str, str]
    if not two or names[0] == names[1]:
        raise checks.UsageError(
            f"modalities is {names!r}, but must be two different names, the"
            " one that is synthesised first in front."
        )
    for name in names:
        if known is not None:
            checks.choice("modality", name, known)


def check_pairs(ids_first: Sequence[Any], ids_second: Sequence[Any]) -> None:
    """Raises unless row i of both lists is of the same patient or slice.

    Args:
        ids_first: of the images of the first modality.
        ids_second: of those of the second.

    Raises:
        UsageError: naming the first ids that do not match.
    """
    first, second = ([str(i) for i in ids] for ids in (ids_first, ids_second))
    if first == second:
        return
    missing = [
        (name, [i for i in dict.fromkeys(ids) if i not in {*others}])
        for name, ids, others in (
            ("first", first, second),
            ("second", second, first),
        )
    ]
    told = [
        f"only the {name} modality has {_shown(ids)}"
        for name, ids in missing
        if ids
    ]
    if not told:
        both = enumerate(zip(first, second, strict=False))
        shorter = min(len(first), len(second))
        place = next((i for i, (a, b) in both if a != b), shorter)
        ends = [
            repr(ids[place]) if place < len(ids) else "nothing"
            for ids in (first, second)
        ]
        told = [
            f"row {place} is {ends[0]} in the first, {ends[1]} in the other"
        ]
    raise checks.UsageError(
        f"lists of {len(first)} and {len(second)} images are given as pairs,"
        f" but their ids do not match: {'; '.join(told)}. Put both in the same"
        " order, leave out what has no partner, or give it as unpaired."
    )


def _shown(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return ", ".join(map(repr, ids[:_SHOWN])) + more


def check_sizes(
    first: str, shape: Sequence[int], second: str, other: Sequence[int]
) -> None:
    """Raises unless the images of two modalities have the same shape.

    Raises:
        UsageError: with both names and shapes.
    """
    if tuple(shape) != tuple(other):
        raise checks.UsageError(
            f"modality {first} has the shape {tuple(shape)} and {second}"
            f" {tuple(other)}, but a pair has one size; register and resample"
            " one onto the grid of the other."
        )


def check_range(what: str, x: np.ndarray) -> None:
    """Raises unless all values are finite and in [-1, 1].

    Raises:
        UsageError: with the range that they have, which is a window to give.
    """
    checks.finite(what, x)
    low, high = float(np.min(x)), float(np.max(x))
    if low < LOW - _ROUNDED or high > HIGH + _ROUNDED:
        such = f", such as ({low:.6g}, {high:.6g})" if low < high else ""
        raise checks.UsageError(
            f"{what} has values from {low:.6g} to {high:.6g}, but they must lie"
            f" in [-1, 1]; give the window that becomes [-1, 1]{such}."
        )


def scaled(what: str, x: Any, window: Sequence[float] | None) -> np.ndarray:
    """Values with a window put onto [-1, 1], float32.

    Args:
        what: for messages.
        x: any real dtype.
        window: what becomes -1 and what 1; values beyond are set to the nearer
            end. None for values that are in [-1, 1] already.

    Raises:
        UsageError: for NaN, a window that is none, or values out of range.
    """
    x = np.asarray(x, np.float32)
    if window is None:
        check_range(what, x)
        return np.clip(x, LOW, HIGH)
    checks.finite(what, x)
    low, high = check_window(what, window)
    part = (x - np.float32(low)) / np.float32(high - low)
    return np.clip(2 * part - 1, LOW, HIGH).astype(np.float32)


def check_window(what: str, window: Any) -> tuple[float, float]:
    """Both ends of a window.

    Raises:
        UsageError: unless these are two finite numbers, the lower one first.
    """
    try:
        low, high = (float(end) for end in window)
    except (TypeError, ValueError):
        low = high = np.nan
    if not (np.isfinite([low, high]).all() and low < high):
        raise checks.UsageError(
            f"the window of {what} is {window!r}, but must be two numbers, the"
            " lower one first."
        )
    return low, high


def area_averaged(x: np.ndarray, side: int) -> np.ndarray:
    """Square images with S pixels a side, each the mean of what it covers.

    Args:
        x: [..., H, H], H at least S, which it need not be a multiple of.
        side: S.

    Returns:
        [..., S, S], of the dtype of x.

    Raises:
        UsageError: for images that are smaller or not square.
    """
    checks.whole("side", side, 1)
    size = x.shape[-1]
    if x.shape[-2] != size or size < side:
        raise checks.UsageError(
            f"images of {x.shape[-2]} x {size} pixels cannot be averaged to"
            f" {side} x {side}; take a side of at most theirs, and squares."
        )
    # How much of pixel j of the old grid lies in pixel i of the new one.
    edges = np.arange(side + 1) * (size / side)
    low = np.maximum(edges[:-1, None], np.arange(size))
    high = np.minimum(edges[1:, None], np.arange(1, size + 1))
    weight = np.maximum(high - low, 0) * (side / size)
    return (weight @ x @ weight.T).astype(x.dtype)
