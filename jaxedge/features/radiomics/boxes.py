"""Reductions over boxes of voxels: sums, extremes, moments about the mean.

A volume lies in memory as one row of numbers, with enough empty voxels between
its lines that a neighbour is a fixed step away in that row (`flatten`). A box
of n voxels along an axis then costs about 2 log2 n joins of rows: those of 1,
2, 4, ... voxels from each on are joined, and the ones that n has bits for are
put together. Nothing is ever taken away, so sums of positive numbers keep all
their digits, and those of whole numbers below 2^24 are exact.
"""

from collections.abc import Callable
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

# A tree of rows and the operator that joins the same tree of two ranges.
Join = Callable[[Any, Any], Any]


class Frame(NamedTuple):
    """How a volume lies in a row, for boxes of a radius; static, hashable.

    Attributes:
        shape: of the volume, [Z, Y, X].
        radius_3: of the box along each axis; one that reaches further than the
            volume is cut to its size.
        reach: longest step to a neighbour along an axis, for pairs.
    """

    shape: tuple[int, ...]
    radius_3: tuple[int, ...]
    reach: int = 0

    @property
    def strides(self) -> tuple[int, ...]:
        """Steps in the row to the next voxel along each axis."""
        _, y, x = (
            size + max(radius, self.reach)
            for size, radius in zip(self.shape, self.radius_3, strict=True)
        )
        return (y * x, x, 1)

    @property
    def margins(self) -> tuple[int, ...]:
        """What a box along each axis takes from both ends of the row."""
        pairs = zip(self.radius_3, self.strides, strict=True)
        return tuple(radius * stride for radius, stride in pairs)

    @property
    def length(self) -> int:
        """Of the row between the margins: every voxel, and what is between."""
        return self.shape[0] * self.strides[0]


def frame(
    shape: tuple[int, ...],
    radius: int,
    plane: int | None = None,
    reach: int = 0,
) -> Frame:
    """The frame of cubic boxes.

    Args:
        shape: of the volume, [Z, Y, X].
        radius: in voxels, at least 1: a box has 2 * radius + 1 along an axis.
        plane: axis along which boxes are one voxel thick; None for none.
        reach: longest step to a neighbour along an axis, for pairs.
    """
    radii = (
        0 if axis == plane else min(radius, size - 1)
        for axis, size in enumerate(shape)
    )
    return Frame(tuple(shape), tuple(radii), reach)


def flatten(array_ZxYxX: jax.Array, frame: Frame, fill: Any = 0) -> jax.Array:
    """A volume as a row, with margins for the boxes along every axis.

    Args:
        array_ZxYxX: any dtype.
        frame: of that shape.
        fill: value between and around the voxels.

    Returns:
        [2 * margin + length], where voxel 0 is at `margin`, the sum of the
        frame's margins.
    """
    _, y, x = frame.shape
    stride, line, _ = frame.strides
    pads = [(0, 0), (0, stride // line - y), (0, line - x)]
    margin = sum(frame.margins)
    row = jnp.pad(array_ZxYxX, pads, constant_values=fill).ravel()
    return jnp.pad(row, (margin, margin), constant_values=fill)


def unflatten(row: jax.Array, frame: Frame) -> jax.Array:
    """The volume [Z, Y, X] of a row [length] without margins."""
    (z, y, x), (stride, line, _) = frame.shape, frame.strides
    return row.reshape(z, stride // line, line)[:, :y, :x]


def reduce(join: Join, tree: Any, frame: Frame, offset: Any = None) -> Any:
    """Every voxel's box, joined: a reduction over the voxels in it.

    With an offset o, of those voxels v whose neighbour v + o is in the box too:
    what belongs to a pair of voxels is held at its first.

    Args:
        join: associative; of two trees like `tree`, elementwise.
        tree: rows that `flatten` made.
        frame: of those rows.
        offset: [3] steps along (z, y, x), at most `frame.reach`; they may be
            traced, so that one program serves all directions.

    Returns:
        Tree of rows [length], for `unflatten`.
    """
    for axis in range(3):
        step = None if offset is None else offset[axis]
        tree = _along(join, tree, frame, axis, step)
    return tree


def sums(tree: Any, frame: Frame, offset: Any = None) -> Any:
    """Sums over boxes, as `reduce`."""
    return reduce(lambda a, b: jax.tree.map(jnp.add, a, b), tree, frame, offset)


class Moments(NamedTuple):
    """Sums of powers of the distance to the mean of a set of numbers.

    Attributes:
        count: how many, float32.
        mean: 0 of an empty set.
        powers: sums of the powers 2, 3, ...
    """

    count: jax.Array
    mean: jax.Array
    powers: tuple[jax.Array, ...]

    def central(self, power: int) -> jax.Array:
        """Mean power of the distance to the mean; 0 of an empty set."""
        return self.powers[power - 2] / jnp.maximum(self.count, 1)


def whole_moments(
    values: jax.Array,
    valid: jax.Array,
    frame: Frame,
    offset: Any = None,
    *,
    order: int = 2,
) -> Moments:
    """Moments over boxes of whole numbers, of which no digit is lost.

    Sums of powers are taken twice: as int32, which are right but for a multiple
    of 2^32, and as float32, which tell that multiple. Moved to the whole number
    next to the mean, they are small, and what is left is half a step at most.
    The multiple is found while the sum of the highest powers in a box is below
    about 2^51.

    Args:
        values: int32 row of `flatten`, best around 0.
        valid: bool row, which of them count.
        frame: of those rows.
        offset: as in `reduce`.
        order: highest power, 2 to 4.

    Returns:
        Rows [length].
    """
    whole = [jnp.where(valid, 1, 0), jnp.where(valid, values, 0)]
    real = [row.astype(jnp.float32) for row in whole]
    for _ in range(order - 1):
        whole.append(whole[-1] * values)
        real.append(real[-1] * values.astype(jnp.float32))
    whole, real = sums((whole, real[2:]), frame, offset)
    real = [row.astype(jnp.float32) for row in whole[:2]] + real
    count = real[0]
    centre = jnp.round(real[1] / jnp.maximum(count, 1))
    whole = _moved(whole, -centre.astype(jnp.int32))
    real = _moved(real, -centre)
    near = [_exactly(w, r) for w, r in zip(whole, real, strict=True)]
    rest = near[1] / jnp.maximum(count, 1)
    return Moments(count, centre + rest, tuple(_moved(near, -rest)[2:]))


def _moved(sums: list[jax.Array], step: jax.Array) -> list[jax.Array]:
    """Sums of the powers 0, 1, ... of numbers that are all moved by a step."""
    moved = []
    for power in range(len(sums)):
        total = sums[0]
        for lower in range(1, power + 1):
            total = total * step + math.comb(power, lower) * sums[lower]
        moved.append(total)
    return moved


def _exactly(whole: jax.Array, near: jax.Array) -> jax.Array:
    """The number near `near` that is `whole` but for a multiple of 2^32."""
    low = whole.astype(jnp.float32)
    return jnp.round((near - low) * 2.0**-32) * 2.0**32 + low


class _Set(NamedTuple):
    """Numbers by their moments; the mean is `anchor`, one of them, + `shift`.

    Where numbers differ little, so do their anchors, and no digits are lost.
    """

    count: jax.Array
    anchor: jax.Array
    shift: jax.Array
    powers: tuple[jax.Array, ...]


def moments(
    values: jax.Array, valid: jax.Array, frame: Frame, *, order: int = 2
) -> Moments:
    """Moments over boxes.

    Sets are joined by the formulas of Pebay (SAND2008-6212), which subtract
    means alone; sums of powers, from which those of the mean are taken away,
    lose every digit where the spread is small.

    Args:
        values: float row of `flatten`, finite.
        valid: bool row, which of them count.
        frame: of those rows.
        order: highest power, 2 to 4.

    Returns:
        Rows [length].
    """
    nothing = jnp.zeros_like(values)
    found = reduce(
        _join_sets,
        _Set(
            valid.astype(values.dtype),
            jnp.where(valid, values, 0),
            nothing,
            (nothing,) * (order - 1),
        ),
        frame,
    )
    return Moments(found.count, found.anchor + found.shift, found.powers)


def _join_sets(a: _Set, b: _Set) -> _Set:
    count = a.count + b.count
    share = 1 / jnp.maximum(count, 1)
    p, q = a.count * share, b.count * share
    apart = (b.anchor - a.anchor) + (b.shift - a.shift)
    alone = a.count == 0
    anchor = jnp.where(alone, b.anchor, a.anchor)
    shift = jnp.where(alone, b.shift, a.shift + apart * q)
    # 0 where either set is empty, whatever its anchor.
    between = apart * apart * a.count * q
    powers = [a.powers[0] + b.powers[0] + between]
    if len(a.powers) > 1:
        cross = p * b.powers[0] - q * a.powers[0]
        own = apart * (between * (p - q) + 3 * cross)
        powers.append(a.powers[1] + b.powers[1] + own)
    if len(a.powers) > 2:
        spread = p * p * b.powers[0] + q * q * a.powers[0]
        cross = p * b.powers[1] - q * a.powers[1]
        own = between * (p * p - p * q + q * q) + 6 * spread
        own = apart * (apart * own + 4 * cross)
        powers.append(a.powers[2] + b.powers[2] + own)
    return _Set(count, anchor, shift, tuple(powers))


def _along(join: Join, tree: Any, frame: Frame, axis: int, step: Any) -> Any:
    """Joins over a box along one axis: of voxels, or of pairs with a step."""
    radius, stride = frame.radius_3[axis], frame.strides[axis]
    length = jax.tree.leaves(tree)[0].size - 2 * radius * stride

    def pairs(step: int, tree: Any) -> Any:
        count = 2 * radius + 1 - abs(step)
        if count < 1:
            return jax.tree.map(lambda row: jnp.zeros(length, row.dtype), tree)
        found = _ranges(join, tree, stride, count)
        return _at(found, max(-step, 0) * stride, length)

    if step is None:
        return pairs(0, tree)
    reach = range(-frame.reach, frame.reach + 1)
    branches = [functools.partial(pairs, known) for known in reach]
    return jax.lax.switch(step + frame.reach, branches, tree)


def _ranges(join: Join, tree: Any, stride: int, count: int) -> Any:
    """Joins of `count` voxels from each on, as far as they all are there."""
    size = jax.tree.leaves(tree)[0].size
    length = size - (count - 1) * stride
    found, power, span, done = None, tree, 1, 0
    while done < count:
        if count & span:
            piece = _at(power, done * stride, length)
            found = piece if found is None else join(found, piece)
            done += span
        size -= span * stride
        if done < count:
            power = join(_at(power, 0, size), _at(power, span * stride, size))
        span *= 2
    return found


def _at(tree: Any, start: Any, length: int) -> Any:
    """A part of every row; the start may be traced."""
    if isinstance(start, int):
        return jax.tree.map(lambda row: row[start : start + length], tree)
    return jax.tree.map(
        lambda row: jax.lax.dynamic_slice(row, (start,), (length,)), tree
    )
