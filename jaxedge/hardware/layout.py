"""Where the cells of a weight lie: tiles, groups of rows, pairs, slices.

Letters: I inputs, O outputs, S slices of a weight, P cells of a slice (2 for a
pair), T row tiles, U groups of rows that are driven at once, R rows of a group.
"""

from collections.abc import Sequence
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

PAIRS = ("interleaved", "separate", "offset")
PACKING = ("dense", "even", "kernel")


class Layout(NamedTuple):
    """Sizes of one weight on its tiles.

    Attributes:
        inputs: I.
        outputs: O.
        slices: S.
        parts: P, cells that a slice takes.
        row_tiles: T.
        tile_rows: rows of a tile that are used.
        group: R; a row tile is read in `groups` turns.
        groups: of one row tile.
        column_tiles: of one part where parts lie apart, else of all.
        tile_weights: weights that a row of a column tile holds; a weight is
            never cut.
        apart: whether each part has arrays of its own.
    """

    inputs: int
    outputs: int
    slices: int
    parts: int
    row_tiles: int
    tile_rows: int
    group: int
    groups: int
    column_tiles: int
    tile_weights: int
    apart: bool

    @property
    def units(self) -> int:
        """U = T groups: partial sums of one output."""
        return self.row_tiles * self.groups

    @property
    def cells(self) -> int:
        """Cells that hold the weight."""
        return self.inputs * self.outputs * self.slices * self.parts

    @property
    def arrays(self) -> int:
        """Tiles that the weight occupies."""
        return (
            self.row_tiles
            * self.column_tiles
            * (self.parts if self.apart else 1)
        )

    def split(self, array: jax.Array) -> jax.Array:
        """[..., I, O] to [..., U, R, O]; rows beyond I are zero."""
        *lead, inputs, outputs = array.shape
        none = [(0, 0)] * len(lead)
        fill = self.row_tiles * self.tile_rows - inputs
        array = jnp.pad(array, [*none, (0, fill), (0, 0)])
        array = array.reshape(*lead, self.row_tiles, self.tile_rows, outputs)
        fill = self.groups * self.group - self.tile_rows
        array = jnp.pad(array, [*none, (0, 0), (0, fill), (0, 0)])
        return array.reshape(*lead, self.units, self.group, outputs)

    def join(self, array: jax.Array) -> jax.Array:
        """[..., U, R, O] to [..., I, O], the inverse of `split`."""
        *lead, _, _, outputs = array.shape
        shape = (*lead, self.row_tiles, self.groups * self.group, outputs)
        array = array.reshape(shape)[..., : self.tile_rows, :]
        array = array.reshape(*lead, -1, outputs)
        return array[..., : self.inputs, :]

    def lines(self, array: jax.Array) -> jax.Array:
        """Cells [S, P, I, O] as they lie on word lines, [N, U, R, C].

        N are the arrays side by side, C the columns of one; columns beyond the
        last weight are zero. The slices and parts of a weight are neighbours,
        unless the parts lie apart.
        """
        array = self.split(array)  # [S, P, U, R, O]
        array = jnp.moveaxis(array, (0, 1), (-2, -1))  # [U, R, O, S, P]
        fill = self.column_tiles * self.tile_weights - self.outputs
        array = jnp.pad(array, [(0, 0)] * 2 + [(0, fill)] + [(0, 0)] * 2)
        u, r = array.shape[:2]
        shape = (u, r, self.column_tiles, self.tile_weights, *array.shape[3:])
        array = array.reshape(shape)
        if self.apart:
            array = jnp.moveaxis(array, (-1, 2), (0, 1))  # [P, N, U, R, W, S]
            return array.reshape(-1, u, r, self.tile_weights * self.slices)
        array = jnp.moveaxis(array, 2, 0)  # [N, U, R, W, S, P]
        return array.reshape(self.column_tiles, u, r, -1)

    def cells_of(self, lines: jax.Array) -> jax.Array:
        """[N, U, R, C] to [S, P, I, O], the inverse of `lines`."""
        u, r = lines.shape[1:3]
        n, w, s = self.column_tiles, self.tile_weights, self.slices
        if self.apart:
            array = lines.reshape(self.parts, n, u, r, w, s)
            array = jnp.moveaxis(array, (0, 1), (-1, 2))
        else:
            array = lines.reshape(n, u, r, w, s, self.parts)
            array = jnp.moveaxis(array, 0, 2)
        array = array.reshape(u, r, n * w, s, self.parts)
        array = jnp.moveaxis(array[:, :, : self.outputs], (-2, -1), (0, 1))
        return self.join(array)


def plan(
    shape: Sequence[int],
    *,
    rows: int,
    columns: int,
    rows_on: int | None = None,
    pair: str = "interleaved",
    slices: int = 1,
    packing: str = "dense",
) -> Layout:
    """Lays a weight out on tiles of `rows` x `columns` cells (D.7).

    Args:
        shape: [I, O] or a kernel [h, w, I, O] of h w I inputs.
        rows: of a tile.
        columns: of a tile.
        rows_on: rows driven at once; None drives all of a tile.
        pair: "interleaved" puts the cells of a pair side by side, "separate"
            in two arrays, "offset" has one cell and no pair.
        slices: S.
        packing: "dense" fills every row of a tile; "even" takes as many rows
            of all; "kernel" keeps the I channels of a place of the kernel in
            one tile, where they fit.
    """
    inputs, outputs = math.prod(shape[:-1]), shape[-1]
    tile_rows = min(rows, inputs)
    channels = shape[-2]
    if packing == "even":
        tile_rows = math.ceil(inputs / math.ceil(inputs / rows))
    if packing == "kernel" and channels <= rows < inputs:
        tile_rows = rows // channels * channels
    group = min(rows_on or tile_rows, tile_rows)
    parts = 1 if pair == "offset" else 2
    apart = pair == "separate"
    width = slices * (1 if apart else parts)
    tile_weights = max(columns // width, 1)
    return Layout(
        inputs=inputs,
        outputs=outputs,
        slices=slices,
        parts=parts,
        row_tiles=math.ceil(inputs / tile_rows),
        tile_rows=tile_rows,
        group=group,
        groups=math.ceil(tile_rows / group),
        column_tiles=math.ceil(outputs / tile_weights),
        tile_weights=tile_weights,
        apart=apart,
    )
