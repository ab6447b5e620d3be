"""Small floating-point numbers in blocks that share a scale, and their bytes.

The microscaling formats of OCP (MX specification 1.0, 2023) and NVFP4 are two
choices of format, block and scale; any other is as good. A block may also have
the better of two formats, which the sign of its scale tells at no cost, and the
best of several scales.

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
# Sign of a float8_e4m3fn, which no scale needs: the block has the other format.
_OTHER = 0x80


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
        other: a second format of as many bits, that of the blocks whose scale
            has a minus sign; for "e4m3" alone.
        tries: values of the largest code, as multiples of the block's largest
            number, of which the one with the least squared error is taken, the
            first of equals.
    """

    format: Format
    size: int
    scale: str = "e8m0"
    other: Format | None = None
    tries: tuple[float, ...] = (1.0,)

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
        if not self.tries:
            raise checks.UsageError("tries is empty; (1.0,) takes the largest.")
        for ratio in self.tries:
            checks.in_range("tries", ratio, 0, open_low=True)
        if self.other is None:
            return
        self.other.check()
        if self.scale != "e4m3" or self.other.bits != self.format.bits:
            raise checks.UsageError(
                f"other is {self.other.name}, but a second format needs a scale"
                f" with a sign, e4m3 in place of {self.scale}, and"
                f" {self.format.bits} bits."
            )

    @property
    def searched(self) -> "Blocks":
        """The same bits a number, better spent.

        Each block tries scales and, where its scale can tell, equal steps for
        numbers of like size.
        """
        other = self.other
        if self.scale == "e4m3" and self.format.exponent_bits > 1:
            other = Format(1, self.format.bits - 2)
        # A power of two has no use for less than an octave.
        tries = (1.0, 0.5, 2.0) if self.scale == "e8m0" else _TRIES
        return self._replace(other=other, tries=tries)


# As far as E2M1 has its second largest code, 4, at the largest number in place
# of 6, which "4over6" decides between. 1 is first: a block of no importance has
# all its numbers in range.
_TRIES = (1.0, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.05, 1.1, 1.2, 1.3, 1.5)
MXFP4 = Blocks(minifloat.E2M1, 32, "e8m0")
NVFP4 = Blocks(minifloat.E2M1, 16, "e4m3")
NAMED = {
    "mxfp4": MXFP4,
    "nvfp4": NVFP4,
    "mxfp4_searched": MXFP4.searched,
    "nvfp4_searched": NVFP4.searched,
    "mxfp6_e2m3": Blocks(Format(2, 3), 32, "e8m0"),
    "mxfp6_e3m2": Blocks(Format(3, 2), 32, "e8m0"),
}


def of(name: str) -> Blocks:
    """The block format `name`, a key of `NAMED`."""
    if name not in NAMED:
        raise checks.unknown("block format", name, NAMED)
    return NAMED[name]


def fake_quant(
    x: jax.Array, blocks: Blocks, importance: jax.Array | None = None
) -> jax.Array:
    """Rounds to the values of a block format along the last axis.

    The last block may be short. The gradient passes straight through where
    nothing is clipped; scales have none.

    Args:
        x: [..., I], floating point; computed in float32. A block with NaN or an
            infinity is all NaN.
        blocks: the format.
        importance: weights of the squared errors of a search, at least 0, [I].

    Returns:
        Shape and dtype of `x`.
    """
    blocks.check()
    _check_axis(x)
    parts = split(x.astype(jnp.float32), blocks.size)
    still = jax.lax.stop_gradient(parts)
    finite = jnp.isfinite(_largest(still))[..., None]
    whole = whole_of(still, blocks)
    stored = choose(still, whole, blocks, _importance(importance, x, blocks))
    value = jnp.where(finite, to_values(parts, stored, whole, blocks), jnp.nan)
    return _join(value, x.shape[-1]).astype(x.dtype)


@pytree
class Packed:
    """An array in real bytes.

    Attributes:
        codes: two numbers a byte where they have at most four bits, the first
            in the low nibble; else a byte each; uint8, block after block along
            the last axis.
        scales: of the blocks, [..., B]: uint8, the exponent + 127, for "e8m0";
            uint8, the bits of float8_e4m3fn, for "e4m3", with a minus sign
            where the block has the other format; float32 otherwise.
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


def pack(
    x: jax.Array, blocks: Blocks, importance: jax.Array | None = None
) -> Packed:
    """Quantises an array along its last axis into bytes.

    Args:
        x: [..., I], finite.
        blocks: the format.
        importance: as for `fake_quant`.

    Raises:
        UsageError: for NaN or infinite numbers, or none at all.
    """
    blocks.check()
    _check_axis(x)
    checks.finite("x", x)
    parts = split(x.astype(jnp.float32), blocks.size)
    whole = whole_of(parts, blocks)
    stored = choose(parts, whole, blocks, _importance(importance, x, blocks))
    return packed(parts, stored, whole, blocks, x.shape[-1], str(x.dtype))


def packed(
    parts: jax.Array,
    stored: jax.Array,
    whole: jax.Array,
    blocks: Blocks,
    size: int,
    dtype: str = "float32",
) -> Packed:
    """Bytes of blocks [..., B, n] whose scales are known.

    Args:
        parts: from `split`.
        stored: from `choose`, [..., B].
        whole: from `whole_of`, [].
        blocks: the format.
        size: I.
        dtype: of what is unpacked.
    """
    found = [
        minifloat.encode(parts, format, scale)
        for format, scale in _grids(stored, whole, blocks)
    ]
    codes = _pick(stored, *found)
    codes = codes.reshape(*codes.shape[:-2], -1)
    if blocks.format.bits <= 4:
        codes = minifloat.pack(codes)
    return Packed(codes, stored, whole, blocks, size, dtype)


def unpack(packed: Packed) -> jax.Array:
    """The values, [..., I]; those of `fake_quant`."""
    blocks, codes = packed.blocks, packed.codes
    numbers = packed.scales.shape[-1] * blocks.size
    if blocks.format.bits <= 4:
        codes = minifloat.unpack(codes, numbers)
    parts = codes.reshape(*codes.shape[:-1], -1, blocks.size)
    found = [
        minifloat.decode(parts, format, scale)
        for format, scale in _grids(packed.scales, packed.whole, blocks)
    ]
    value = _pick(packed.scales, *found)
    return _join(value, packed.size).astype(packed.dtype)


def whole_of(parts: jax.Array, blocks: Blocks) -> jax.Array:
    """The scale of the whole, float32 []; 1 but for "e4m3"."""
    if blocks.scale != "e4m3":
        return jnp.ones((), jnp.float32)
    # Block by block, as `choose` has it: one pass over the numbers for both. A
    # block that is no number leaves the others as they are.
    most = _largest(parts)
    most = jnp.max(most, where=jnp.isfinite(most), initial=0)
    return most * np.float32(1 / _TOP_E4M3)


def choose(
    parts: jax.Array,
    whole: jax.Array,
    blocks: Blocks,
    importance: jax.Array | None = None,
) -> jax.Array:
    """Scales of blocks as they are stored.

    Args:
        parts: from `split`, [..., B, n].
        whole: from `whole_of`.
        blocks: the format.
        importance: weights of the squared errors, broadcastable to `parts`.

    Returns:
        [..., B], as in `Packed`.
    """
    most = _largest(parts)
    if blocks.other is None and len(blocks.tries) == 1:
        return _stored(most * np.float32(blocks.tries[0]), whole, blocks)

    def one(best: tuple, ratio: jax.Array) -> tuple[tuple, None]:
        codes = [_stored(most * ratio, whole, blocks)]
        if blocks.other:
            codes.append(codes[0] | np.uint8(_OTHER))
        for code in codes:
            off = (to_values(parts, code, whole, blocks) - parts) ** 2
            if importance is not None:
                off = off * importance
            least, chosen = best
            error = off.sum(-1)
            better = error < least
            best = (
                jnp.where(better, error, least),
                jnp.where(better, code, chosen),
            )
        return best, None

    first = _stored(most, whole, blocks)
    best = jnp.full(most.shape, jnp.inf, most.dtype), first
    ratios = jnp.asarray(blocks.tries, jnp.float32)
    return jax.lax.scan(one, best, ratios)[0][1]


def to_values(
    parts: jax.Array, stored: jax.Array, whole: jax.Array, blocks: Blocks
) -> jax.Array:
    """Blocks [..., B, n] rounded by their scales, from `choose`."""
    found = [
        minifloat.to_values(parts, format, scale)
        for format, scale in _grids(stored, whole, blocks)
    ]
    return _pick(stored, *found)


def split(x: jax.Array, size: int) -> jax.Array:
    """[..., I] to [..., B, n]; the last block is filled up with zeros."""
    count = math.ceil(x.shape[-1] / size)
    fill = count * size - x.shape[-1]
    if fill:
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, fill)])
    return x.reshape(*x.shape[:-1], count, size)


def _check_axis(x: jax.Array) -> None:
    if x.ndim < 1 or not x.size:
        raise checks.UsageError(
            f"x has shape {x.shape}, but blocks lie along a last axis that is"
            " not empty."
        )


def _join(parts: jax.Array, size: int) -> jax.Array:
    """[..., B, n] to [..., I]."""
    return parts.reshape(*parts.shape[:-2], -1)[..., :size]


def _largest(parts: jax.Array) -> jax.Array:
    """Sizes of the largest numbers of blocks, [..., B]; NaN if one is none.

    By their bits, whose order is that of the sizes: XLA's maximum of floats
    passes over NaN on CPUs.
    """
    bits = jax.lax.bitcast_convert_type(parts, jnp.int32) & 0x7FFFFFFF
    return jax.lax.bitcast_convert_type(jnp.max(bits, -1), jnp.float32)


def _importance(
    importance: jax.Array | None, x: jax.Array, blocks: Blocks
) -> jax.Array | None:
    """Weights [I] as blocks."""
    if importance is None:
        return None
    if importance.shape != x.shape[-1:]:
        raise checks.UsageError(
            f"importance has shape {importance.shape}, but x {x.shape}; it must"
            " be [I]."
        )
    checks.in_range("importance", importance, 0)
    parts = split(importance.astype(jnp.float32), blocks.size)
    return parts.reshape((1,) * (x.ndim - 1) + parts.shape)


def _pick(stored: jax.Array, *found: jax.Array) -> jax.Array:
    """Of one or two formats, that of each block."""
    if len(found) == 1:
        return found[0]
    return jnp.where((stored >= _OTHER)[..., None], found[1], found[0])


def _stored(most: jax.Array, whole: jax.Array, blocks: Blocks) -> jax.Array:
    """Scales as they are stored, by the value of the largest code, [..., B]."""
    if blocks.scale == "e8m0":
        # The exponent of the largest number, less that of the largest code.
        bits = jax.lax.bitcast_convert_type(most, jnp.int32)
        code = (bits >> 23) - 2 ** (blocks.format.exponent_bits - 1)
        return jnp.clip(code, 0, _MOST_E8M0).astype(jnp.uint8)
    if blocks.scale == "float32":
        return most
    safe = jnp.where(whole > 0, whole, 1)
    share = jnp.minimum(most / jnp.broadcast_to(safe, most.shape), _TOP_E4M3)
    code = share.astype(jnp.float8_e4m3fn)
    return jax.lax.bitcast_convert_type(code, jnp.uint8)


def _grids(
    stored: jax.Array, whole: jax.Array, blocks: Blocks
) -> list[tuple[Format, jax.Array]]:
    """Formats and scales of their grids, [..., B, 1]."""
    if blocks.scale == "e8m0":
        code = stored.astype(jnp.int32)
        # Code 0 is 2^-127, a subnormal number of float32: zero here.
        power = jax.lax.bitcast_convert_type(code << 23, jnp.float32)
        usual = np.float32(minifloat.usual_scale(blocks.format))
        return [(blocks.format, (power * usual)[..., None])]
    formats, largest = [blocks.format], stored
    if blocks.other:
        formats.append(blocks.other)
    if blocks.scale == "e4m3":
        code = stored & np.uint8(_OTHER - 1) if blocks.other else stored
        code = jax.lax.bitcast_convert_type(code, jnp.float8_e4m3fn)
        largest = code.astype(jnp.float32)
        largest = largest * jnp.broadcast_to(whole, largest.shape)
    return [
        (format, minifloat.scale_of(format, largest)[..., None])
        for format in formats
    ]
