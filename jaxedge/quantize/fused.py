"""The kernel of `products`: packed weights that are unpacked as they are met.

Pallas, by Triton on GPUs, interpreted elsewhere. Never run on a GPU.

Letters: M vectors, I inputs, O outputs, P codes a byte, H bytes of an output,
B blocks.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.quantize import minifloat
from jaxedge.quantize.blocks import Packed
from jaxedge.quantize.layer import Rows
from jaxedge.quantize.minifloat import Format

# Of a kernel: vectors, outputs, and bytes of an output at a time. Triton wants
# powers of two, at least 16.
_LEAST_M, _MOST_M, _TILE_O, _TILE_H = 16, 64, 64, 64
_E4M3 = Format(4, 3)


def multiply(
    x_MxI: jax.Array,  # noqa: N803 - the letters of its axes.
    weights: Rows | Packed,
) -> jax.Array:
    """Products by one kernel, for weights that `lack` nothing.

    Sizes that are no multiples of a tile are padded first.

    Args:
        x_MxI: floating point.
        weights: bytes of [O, I].

    Returns:
        Float32 [M, O].
    """
    tile, (m, o) = _tile(weights), (x_MxI.shape[0], weights.codes.shape[0])
    step_m = min(_MOST_M, max(_LEAST_M, 1 << (m - 1).bit_length() if m else 0))
    dtype = x_MxI.dtype
    if dtype != jnp.bfloat16 or not tile.exact:
        dtype = jnp.dtype(jnp.float32)
    codes = _padded(weights.codes, _TILE_O, _TILE_H)
    # Codes of one place in their bytes meet every P-th input. Blocks end where
    # tiles do, so that both operands are as long.
    x = _padded(x_MxI.astype(dtype), step_m, tile.each * _TILE_H)
    x_PxMxH = jnp.moveaxis(x.reshape(len(x), -1, tile.each), 2, 0)
    operands = [x_PxMxH, codes]
    if isinstance(weights, Packed):
        scales = _padded(weights.scales, _TILE_O, _TILE_H // tile.span)
        operands.append(scales)
    y = _call(tile, step_m, *operands)[:m, :o]
    return y * jnp.broadcast_to(_factor(weights), y.shape)


def lack(weights: Rows | Packed) -> str | None:
    """Why weights cannot be multiplied fused; None if they can."""
    formats = _formats(weights)
    if max(format.exponent_bits for format in formats) > 5:
        return f"{formats[0].name} has more than 5 bits of exponent"
    if isinstance(weights, Rows):
        return None
    size, bytes_ = weights.blocks.size, _bytes_of_block(weights)
    if size & (size - 1) or not 1 <= bytes_ <= _TILE_H:
        return (
            f"its blocks have {size} numbers, in place of a power of two that"
            f" fills 1 to {_TILE_H} bytes"
        )
    return None


def _formats(weights: Rows | Packed) -> list[Format]:
    if isinstance(weights, Rows):
        return [weights.format]
    both = weights.blocks.format, weights.blocks.other
    return [format for format in both if format is not None]


def _codes_a_byte(weights: Rows | Packed) -> int:
    return 2 if _formats(weights)[0].bits <= 4 else 1


def _bytes_of_block(weights: Packed) -> int:
    """0 where blocks end within a byte."""
    each, left = divmod(weights.blocks.size, _codes_a_byte(weights))
    return 0 if left else each


class _Tile(NamedTuple):
    """What a kernel knows of its bytes.

    Attributes:
        format: of the codes.
        other: of the blocks whose scale has a minus sign.
        each: codes a byte, the first in the low bits.
        scale: how the scales of blocks are stored; None without blocks.
        span: bytes of a block.
        exact: whether numbers times their scales are bfloat16.
    """

    format: Format
    other: Format | None
    each: int
    scale: str | None
    span: int
    exact: bool


def _tile(weights: Rows | Packed) -> _Tile:
    each = _codes_a_byte(weights)
    if isinstance(weights, Rows):
        return _Tile(weights.format, None, each, None, _TILE_H, True)
    found = weights.blocks
    # Of bits after the first one: 7 of bfloat16, 3 of a scale.
    room = {"e8m0": 7, "e4m3": 3, "float32": -1}[found.scale]
    exact = found.format.mantissa_bits <= room and found.other is None
    span = _bytes_of_block(weights)
    return _Tile(found.format, found.other, each, found.scale, span, exact)


def _factor(weights: Rows | Packed) -> jax.Array:
    """What is left to multiply the products with, [] or [1, O]."""
    if isinstance(weights, Rows):
        return weights.scale[None]
    found = weights.blocks
    if found.scale == "e8m0":
        return jnp.float32(minifloat.usual_scale(found.format))
    return minifloat.scale_of(found.format, weights.whole)


def _padded(a: jax.Array, *steps: int) -> jax.Array:
    """A matrix filled up with zeros to multiples, at least one, of steps."""
    sizes = [
        max(1, -(-n // step)) * step
        for n, step in zip(a.shape, steps, strict=True)
    ]
    fill = [(0, size - n) for n, size in zip(a.shape, sizes, strict=True)]
    return jnp.pad(a, fill) if any(more for _, more in fill) else a


def _call(tile: _Tile, step_m: int, x: jax.Array, *coded: jax.Array) -> Any:
    """The kernel over all tiles of the products, float32 [M, O]."""
    # Most programs have no use for Pallas, whose import takes its time.
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    def whole_rows(a: jax.Array) -> pl.BlockSpec:
        return pl.BlockSpec((_TILE_O, a.shape[1]), lambda i, j: (j, 0))

    each, m, h = x.shape
    o = coded[0].shape[0]
    return pl.pallas_call(
        functools.partial(_kernel, tile),
        grid=(m // step_m, o // _TILE_O),
        in_specs=[
            pl.BlockSpec((each, step_m, h), lambda i, j: (0, i, 0)),
            *(whole_rows(a) for a in coded),
        ],
        out_specs=pl.BlockSpec((step_m, _TILE_O), lambda i, j: (i, j)),
        out_shape=jax.ShapeDtypeStruct((m, o), jnp.float32),
        interpret=jax.default_backend() != "gpu",
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=2),
        name="packed_matmul",
    )(x, *coded)


def _kernel(tile: _Tile, x_ref: Any, codes_ref: Any, *refs: Any) -> None:
    """Products of a tile of vectors and one of outputs.

    Args:
        tile: what the bytes are.
        x_ref: [P, m, H].
        codes_ref: uint8 [o, H].
        *refs: of the scales [o, B], if there are any, and of the products
            [m, o].
    """
    from jax.experimental import pallas as pl

    *scales_ref, y_ref = refs
    count = _TILE_H // tile.span

    def add(i: jax.Array, y: jax.Array) -> jax.Array:
        at = pl.ds(i * _TILE_H, _TILE_H)
        codes = codes_ref[:, at].astype(jnp.int32)
        scales = None
        if scales_ref:
            scales = scales_ref[0][:, pl.ds(i * count, count)]
        for place in range(tile.each):
            code = codes
            if tile.each == 2:
                code = (codes >> (4 * place)) & 15
            x = x_ref[place, :, at]
            w = _numbers(code, scales, tile).astype(x.dtype)
            y = y + jax.lax.dot_general(
                x,
                w,
                (((1,), (1,)), ((), ())),
                precision=jax.lax.Precision.HIGHEST,
                preferred_element_type=jnp.float32,
            )
        return y

    y = jnp.zeros(y_ref.shape, jnp.float32)
    y_ref[...] = jax.lax.fori_loop(0, codes_ref.shape[1] // _TILE_H, add, y)


def _numbers(code: jax.Array, scales: jax.Array | None, tile: _Tile) -> Any:
    """Numbers of a tile of codes [o, h] and the scales of its blocks."""
    value = _number(code, tile.format)
    if scales is None:
        return value
    if tile.scale == "float32":
        scale = scales
    elif tile.scale == "e8m0":
        scale = scales.astype(jnp.int32) << 23
        scale = jax.lax.bitcast_convert_type(scale, jnp.float32)
    else:
        stored = scales.astype(jnp.int32)
        # The largest bias that a format has here is 0, float8's is 7.
        scale = _number(stored & 127, _E4M3) * np.float32(2.0**-7)
        if tile.other is not None:
            ratio = np.float32(tile.format.top / tile.other.top)
            other = _number(code, tile.other) * ratio
            value = jnp.where(_spread(stored, code) > 127, other, value)
    return value * _spread(scale, code)


def _spread(of_blocks: jax.Array, code: jax.Array) -> jax.Array:
    """What blocks have, [o, b], for each of their bytes, [o, h]."""
    rows, count = of_blocks.shape
    shape = rows, count, code.shape[1] // count
    return jnp.broadcast_to(of_blocks[:, :, None], shape).reshape(code.shape)


def _number(code: jax.Array, format: Format) -> jax.Array:
    """Values of codes at a bias of zero, float32, by arithmetic alone."""
    k = format.mantissa_bits
    size = code & (2 ** (format.bits - 1) - 1)
    exponent, mantissa = size >> k, size & (2**k - 1)
    whole = jnp.where(exponent > 0, mantissa + 2**k, mantissa)
    power = (jnp.maximum(exponent, 1) - k + 127) << 23
    value = whole.astype(jnp.float32) * jax.lax.bitcast_convert_type(
        power, jnp.float32
    )
    return jnp.where(code >> (format.bits - 1) > 0, -value, value)
