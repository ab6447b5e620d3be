"""Small floating-point numbers in blocks that share a scale, and their bytes.

The microscaling formats of OCP (MX specification 1.0, 2023) and NVFP4 are two
choices of format, block and scale; any other is as good.

Letters: ... leading axes, I numbers along the last one, B blocks of n of them.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks
from jaxedge.core.trees import pytree, static
from jaxedge.quantize import minifloat
from jaxedge.quantize.minifloat import Format

SCALES = ("e8m0", "e4m3", "float32")
# Largest number of the scale's dtype, float8_e4m3fn.
_TOP_E4M3 = 448.0
# Largest code of e8m0 that is a number, 2^127.
_MOST_E8M0 = 254


class Blocks(NamedTuple):
    """A block format.

    Attributes:
        format: of the numbers.
        size: n, numbers that share a scale.
        scale: "e8m0" is a power of two, that of the largest number of the block
            less that of the format, as OCP MX has it, so that numbers up to a
            third beyond the largest code are clipped; "e4m3" a float8_e4m3fn,
            under one float32 scale for the whole, as NVFP4; "float32" puts the
            largest number on the largest code.
    """

    format: Format
    size: int
    scale: str = "e8m0"

    @property
    def bits_per_weight(self) -> float:
        """With the scale of the block, without that of the whole."""
        bits = {"e8m0": 8, "e4m3": 8, "float32": 32}
        return self.format.bits + bits[self.scale] / self.size

    def check(self) -> None:
        """Raises UsageError for a format that cannot be."""
        self.format.check()
        checks.whole("size", self.size, 1)
        checks.choice("scale", self.scale, SCALES)


MXFP4 = Blocks(minifloat.E2M1, 32, "e8m0")
NVFP4 = Blocks(minifloat.E2M1, 16, "e4m3")
NAMED = {
    "mxfp4": MXFP4,
    "nvfp4": NVFP4,
    "mxfp6_e2m3": Blocks(Format(2, 3), 32, "e8m0"),
    "mxfp6_e3m2": Blocks(Format(3, 2), 32, "e8m0"),
}


def of(name: str) -> Blocks:
    """The block format `name`, a key of `NAMED`."""
    if name not in NAMED:
        raise checks.unknown("block format", name, NAMED)
    return NAMED[name]


def fake_quant(x: jax.Array, blocks: Blocks) -> jax.Array:
    """Rounds to the values of a block format along the last axis.

    The last block may be short. The gradient passes straight through where
    nothing is clipped; scales have none.

    Args:
        x: [..., I], floating point; computed in float32. A block with NaN or an
            infinity is all NaN.
        blocks: the format.

    Returns:
        Shape and dtype of `x`.
    """
    blocks.check()
    _check_axis(x)
    parts = _split(x.astype(jnp.float32), blocks.size)
    finite = jnp.all(jnp.isfinite(parts), -1, keepdims=True)
    stored = _stored(jax.lax.stop_gradient(parts), blocks)
    scale = _scales(*stored, blocks)[..., None]
    value = minifloat.to_values(parts, blocks.format, scale)
    value = jnp.where(finite, value, jnp.nan)
    return _join(value, x.shape[-1]).astype(x.dtype)


@pytree
class Packed:
    """An array in real bytes.

    Attributes:
        codes: two numbers a byte where they have at most four bits, the first
            in the low nibble; else a byte each; uint8, block after block along
            the last axis.
        scales: of the blocks, [..., B]: uint8, the exponent + 127, for "e8m0";
            uint8, the bits of float8_e4m3fn, for "e4m3"; float32 otherwise.
        whole: scale of the whole, float32 []; 1 but for "e4m3".
        blocks: the format.
        size: I.
        dtype: name of what it was, and is again.
    """

    codes: jax.Array
    scales: jax.Array
    whole: jax.Array
    blocks: Blocks = static()
    size: int = static()
    dtype: str = static()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return (*self.scales.shape[:-1], self.size)

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales."""
        leaves: list[Any] = [self.codes, self.scales, self.whole]
        return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def pack(x: jax.Array, blocks: Blocks) -> Packed:
    """Quantises an array along its last axis into bytes.

    Args:
        x: [..., I], finite.
        blocks: the format.

    Raises:
        UsageError: for NaN or infinite numbers, or none at all.
    """
    blocks.check()
    _check_axis(x)
    checks.finite("x", x)
    parts = _split(x.astype(jnp.float32), blocks.size)
    stored, whole = _stored(parts, blocks)
    scale = _scales(stored, whole, blocks)[..., None]
    codes = minifloat.encode(parts, blocks.format, scale)
    codes = codes.reshape(*codes.shape[:-2], -1)
    if blocks.format.bits <= 4:
        codes = minifloat.pack(codes)
    return Packed(codes, stored, whole, blocks, x.shape[-1], str(x.dtype))


def unpack(packed: Packed) -> jax.Array:
    """The values, [..., I]; those of `fake_quant`."""
    blocks, codes = packed.blocks, packed.codes
    numbers = packed.scales.shape[-1] * blocks.size
    if blocks.format.bits <= 4:
        codes = minifloat.unpack(codes, numbers)
    parts = codes.reshape(*codes.shape[:-1], -1, blocks.size)
    scale = _scales(packed.scales, packed.whole, blocks)[..., None]
    value = minifloat.decode(parts, blocks.format, scale)
    return _join(value, packed.size).astype(packed.dtype)


def _check_axis(x: jax.Array) -> None:
    if x.ndim < 1 or not x.size:
        raise checks.UsageError(
            f"x has shape {x.shape}, but blocks lie along a last axis that is"
            " not empty."
        )


def _split(x: jax.Array, size: int) -> jax.Array:
    """[..., I] to [..., B, n]; the last block is filled up with zeros."""
    count = math.ceil(x.shape[-1] / size)
    fill = count * size - x.shape[-1]
    if fill:
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, fill)])
    return x.reshape(*x.shape[:-1], count, size)


def _join(parts: jax.Array, size: int) -> jax.Array:
    """[..., B, n] to [..., I]."""
    return parts.reshape(*parts.shape[:-2], -1)[..., :size]


def _stored(parts: jax.Array, blocks: Blocks) -> tuple[jax.Array, jax.Array]:
    """Scales of blocks as they are stored, [..., B], and that of the whole."""
    most = jnp.max(jnp.abs(parts), -1)
    one = jnp.ones((), jnp.float32)
    if blocks.scale == "e8m0":
        # The exponent of the largest number, less that of the largest code.
        bits = jax.lax.bitcast_convert_type(most, jnp.int32)
        code = (bits >> 23) - 2 ** (blocks.format.exponent_bits - 1)
        return jnp.clip(code, 0, _MOST_E8M0).astype(jnp.uint8), one
    if blocks.scale == "float32":
        return most, one
    whole = jnp.max(most) * np.float32(1 / _TOP_E4M3)
    safe = jnp.where(whole > 0, whole, 1)
    share = jnp.minimum(most / jnp.broadcast_to(safe, most.shape), _TOP_E4M3)
    code = share.astype(jnp.float8_e4m3fn)
    return jax.lax.bitcast_convert_type(code, jnp.uint8), whole


def _scales(stored: jax.Array, whole: jax.Array, blocks: Blocks) -> jax.Array:
    """Scales of the format's grid, [..., B]."""
    format = blocks.format
    if blocks.scale == "e8m0":
        code = stored.astype(jnp.int32)
        # Code 0 is 2^-127, a subnormal number of float32: zero here.
        power = jax.lax.bitcast_convert_type(code << 23, jnp.float32)
        return power * np.float32(minifloat.usual_scale(format))
    largest = stored
    if blocks.scale == "e4m3":
        code = jax.lax.bitcast_convert_type(stored, jnp.float8_e4m3fn)
        largest = code.astype(jnp.float32)
        largest = largest * jnp.broadcast_to(whole, largest.shape)
    return minifloat.scale_of(format, largest)
