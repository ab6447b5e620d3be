"""Floating-point numbers of a few bits: grids, rounding, codes.

A number of format EjMk is a sign, j bits of exponent and k of mantissa. All
codes are finite: there is no infinity and no NaN (LLM-FP4, arXiv:2310.16836,
eq. 1), and the smallest exponent is that of subnormal numbers. Its bias is a
real number, so that it stands for a scale: value = 2^-bias * grid. Here scales
are given by the value of the largest code, `max_value`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks

# Where a quantiser differs from this one, for comparison with its numbers.
COMPAT = ("released",)
_MOST_BITS = 8


class Format(NamedTuple):
    """A number format.

    Attributes:
        exponent_bits: j, at least 1; one bit makes a grid of equal steps.
        mantissa_bits: k, at least 0; 1 + j + k is at most 8.
    """

    exponent_bits: int
    mantissa_bits: int

    @property
    def bits(self) -> int:
        """Of a code, with its sign."""
        return 1 + self.exponent_bits + self.mantissa_bits

    @property
    def top(self) -> float:
        """The largest value at a bias of zero (eq. 4)."""
        largest = 2.0 ** (2**self.exponent_bits - 1)
        return (2 - 2.0**-self.mantissa_bits) * largest

    @property
    def name(self) -> str:
        """Such as "e2m1"."""
        return f"e{self.exponent_bits}m{self.mantissa_bits}"

    def check(self) -> None:
        """Raises UsageError for bits that make no format."""
        checks.whole("exponent_bits", self.exponent_bits, 1)
        checks.whole("mantissa_bits", self.mantissa_bits, 0)
        if self.bits > _MOST_BITS:
            raise checks.UsageError(
                f"{self.name} has {self.bits} bits with its sign, but formats"
                f" of at most {_MOST_BITS} are known."
            )


E3M0, E2M1, E1M2 = Format(3, 0), Format(2, 1), Format(1, 2)


def formats(bits: int) -> tuple[Format, ...]:
    """All formats of a number of bits, fewest exponent bits first."""
    checks.whole("bits", bits, 2)
    checks.in_range("bits", bits, high=_MOST_BITS)
    return tuple(Format(j, bits - 1 - j) for j in range(1, bits))


def of(name: str) -> Format:
    """The format of a name such as "e2m1".

    Raises:
        UsageError: for a name that is none.
    """
    known = {f.name: f for bits in range(2, 9) for f in formats(bits)}
    if str(name).lower() not in known:
        raise checks.unknown("number format", name, known)
    return known[str(name).lower()]


def grid(format: Format) -> np.ndarray:
    """Every value at a bias of zero, sorted, float64 [2^bits - 1].

    Plus and minus zero are one value.

    Examples:
        >>> grid(E2M1)[7:].tolist()
        [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0]
    """
    format.check()
    positive = _values(format)
    return np.concatenate([-positive[:0:-1], positive])


def bias_for(format: Format, max_value: ArrayLike) -> jax.Array:
    """The exponent bias with which the largest code is a value (eq. 7).

    bias = 2^j - log2(max_value) + log2(2 - 2^-k) - 1.

    Args:
        format: of the numbers.
        max_value: above 0, any shape.
    """
    format.check()
    checks.in_range("max_value", max_value, 0, open_low=True)
    return np.log2(format.top) - jnp.log2(jnp.asarray(max_value, jnp.float32))


def scale_of(
    format: Format, max_value: ArrayLike, *, compat: str | None = None
) -> jax.Array:
    """The scale with which the largest code is a value, float32.

    Values are the scale times a grid, that of a bias of zero, for formats of
    more than five exponent bits moved so that float32 holds it.

    Args:
        format: of the numbers.
        max_value: at least 0, any shape; where it is 0 all values are 0.
        compat: as for `fake_quant`.
    """
    format.check()
    checks.in_range("max_value", max_value, 0)
    # A product, as XLA makes of a division by a constant inside jit alone.
    inverse = np.float32(1 / _top(format, compat))
    return jnp.asarray(max_value, jnp.float32) * inverse


def usual_scale(format: Format) -> float:
    """The scale at the usual bias, 2^(j-1) - 1: a power of two.

    With it E2M1 reaches 6, as in OCP's formats.
    """
    return 2.0 ** (1 + _shift(format) - 2 ** (format.exponent_bits - 1))


def fake_quant(
    x: jax.Array,
    format: Format,
    max_value: ArrayLike,
    *,
    compat: str | None = None,
) -> jax.Array:
    """Rounds to the nearest value of a format, halves to even, and clips.

    The gradient passes straight through where nothing is clipped. That of
    `max_value` is sign(x) where it clips, and elsewhere the rounding error over
    `max_value`, to which the values are proportional (as learned steps have it,
    arXiv:1902.08153).

    Args:
        x: floating point, any shape; computed in float32. NaN stays NaN, and
            infinities are clipped.
        format: of the numbers.
        max_value: value of the largest code, at least 0, broadcastable to `x`:
            one for a tensor, a channel or a token. Where it is 0 all is 0.
        compat: "released" has the extra level of the paper's code, 2^(2^j) at a
            bias of zero, as its largest: 17 values of "4 bits".

    Returns:
        Shape and dtype of `x`.

    Raises:
        UsageError: for a bad format, a negative maximum, or shapes that do not
            fit.

    Examples:
        >>> x = jnp.array([0.2, 0.3, 2.4, -9.0])
        >>> fake_quant(x, E2M1, max_value=6.0).tolist()
        [0.0, 0.5, 2.0, -6.0]
    """
    scale = scale_of(format, max_value, compat=compat)
    return to_values(x, format, scale, compat=compat)


def to_values(
    x: jax.Array,
    format: Format,
    scale: jax.Array,
    *,
    compat: str | None = None,
) -> jax.Array:
    """`fake_quant` by a scale, from `scale_of` or `usual_scale`."""
    format.check()
    top = _top(format, compat)
    scale = _fitted(scale, x.shape)
    y = _over(x.astype(jnp.float32), scale)
    value = _round(y, format, top) * jnp.broadcast_to(scale, y.shape)
    return value.astype(x.dtype)


def encode(x: jax.Array, format: Format, scale: ArrayLike) -> jax.Array:
    """Codes of the nearest values: sign, exponent, mantissa, uint8.

    Args:
        x: as for `fake_quant`, but finite.
        format: of the numbers.
        scale: as for `to_values`.

    Returns:
        In [0, 2^bits), the sign in the highest bit; shape of `x`. Negative
        numbers that round to zero have the code of plus zero.
    """
    format.check()
    checks.finite("x", x)
    y = _over(x.astype(jnp.float32), _fitted(scale, x.shape))
    y = _round(y, format, _top(format))
    size = jnp.abs(y)
    bits = jax.lax.bitcast_convert_type(size, jnp.int32)
    least = 1 - _shift(format)
    exponent = jnp.maximum((bits >> 23) - 127, least)
    # Mantissas of one exponent follow those of the one below.
    steps = size * _power(format.mantissa_bits - exponent)
    code = (exponent - least) * 2**format.mantissa_bits
    code = code + steps.astype(jnp.int32)
    sign = jnp.where(y < 0, 2 ** (format.bits - 1), 0)
    return (code + sign).astype(jnp.uint8)


def decode(code: jax.Array, format: Format, scale: ArrayLike) -> jax.Array:
    """Values of codes from `encode`, float32."""
    format.check()
    table = np.concatenate([_values(format), -_values(format)])
    table = table * 2.0 ** -_shift(format)
    values = jnp.asarray(table, jnp.float32)[code.astype(jnp.int32)]
    return values * jnp.broadcast_to(_fitted(scale, code.shape), code.shape)


def pack(code: jax.Array) -> jax.Array:
    """Two codes of up to four bits a byte, the first in the low nibble.

    Args:
        code: uint8 [..., n], each below 16. An odd n is filled up with a zero.

    Returns:
        uint8 [..., ceil(n / 2)].

    Raises:
        UsageError: for codes of another dtype or beyond four bits.
    """
    _check_uint8("code", code)
    checks.in_range("code", code, 0, 15)
    if code.shape[-1] % 2:
        code = jnp.pad(code, [(0, 0)] * (code.ndim - 1) + [(0, 1)])
    return code[..., 0::2] | (code[..., 1::2] << 4)


def unpack(packed: jax.Array, n: int | None = None) -> jax.Array:
    """Codes of `pack`, uint8 [..., n].

    Args:
        packed: uint8 [..., p].
        n: how many there were; None for 2 p.

    Raises:
        UsageError: for another dtype, or an n that was not packed so.
    """
    _check_uint8("packed", packed)
    most = 2 * packed.shape[-1]
    n = most if n is None else n
    if n not in (most, most - 1):
        raise checks.UsageError(
            f"n is {n}, but {packed.shape[-1]} bytes hold {most} codes, or one"
            " less."
        )
    pair = jnp.stack([packed & 15, packed >> 4], -1)
    return pair.reshape(*packed.shape[:-1], most)[..., :n]


def _check_uint8(name: str, a: jax.Array) -> None:
    if a.dtype != jnp.uint8 or a.ndim < 1:
        raise checks.UsageError(
            f"{name} is {a.dtype}{list(a.shape)}, but must be uint8 [..., n]."
        )


def _values(format: Format) -> np.ndarray:
    """Values of the codes without a sign, in order, at a bias of zero."""
    k = format.mantissa_bits
    code = np.arange(2 ** (format.bits - 1))
    exponent, mantissa = code >> k, code % 2**k
    # Subnormal numbers share the exponent 1 with the first normal ones.
    whole = np.where(exponent > 0, 2**k + mantissa, mantissa)
    return whole * 2.0 ** (np.maximum(exponent, 1) - k)


def _fitted(scale: ArrayLike, shape: tuple[int, ...]) -> jax.Array:
    """Scales for numbers of a shape, with as many axes, float32."""
    scale = jnp.asarray(scale, jnp.float32)
    fits = scale.ndim <= len(shape) and all(
        a in (1, b)
        for a, b in zip(scale.shape[::-1], shape[::-1], strict=False)
    )
    if not fits:
        raise checks.UsageError(
            f"the maxima have shape {scale.shape}, which does not broadcast to"
            f" that of x, {shape}; keep the axes of a channel or token, of"
            " size 1 elsewhere."
        )
    return scale.reshape((1,) * (len(shape) - scale.ndim) + scale.shape)


def _shift(format: Format) -> int:
    """By how many octaves the grid is moved down, so that float32 holds it."""
    return 2 ** (format.exponent_bits - 1) if format.exponent_bits > 5 else 0


def _top(format: Format, compat: str | None = None) -> float:
    """The largest value of the moved grid."""
    top = format.top
    if compat is not None:
        checks.choice("compat", compat, COMPAT)
        top = 2.0 ** (2**format.exponent_bits)
    return top * 2.0 ** -_shift(format)


def _over(x: jax.Array, scale: jax.Array) -> jax.Array:
    """x / scale, 0 where the scale is."""
    scale = jnp.broadcast_to(scale, x.shape)
    return jnp.where(scale > 0, x / jnp.where(scale > 0, scale, 1), 0 * x)


def _power(n: jax.Array) -> jax.Array:
    """2^n of whole numbers from -126 to 127, exactly."""
    return jax.lax.bitcast_convert_type((n + 127) << 23, jnp.float32)


def _nearest(y: jax.Array, format: Format, top: float) -> jax.Array:
    """To the moved grid (eq. 8 and 9), without a logarithm."""
    y = jnp.clip(y, -top, top)
    bits = jax.lax.bitcast_convert_type(y, jnp.int32)
    # The bits of 2^f, f = floor(log2 |y|), which is at least that of the
    # subnormal numbers.
    floor = jnp.maximum(bits & 0x7F800000, (128 - _shift(format)) << 23)
    k = format.mantissa_bits << 23
    step = jax.lax.bitcast_convert_type(floor - k, jnp.float32)
    inverse = jax.lax.bitcast_convert_type((254 << 23) - floor + k, jnp.float32)
    rounded = jnp.round(y * inverse) * step
    return jnp.where(jnp.isnan(y), y, rounded)


_round = jax.custom_vjp(_nearest, nondiff_argnums=(1, 2))


def _forward(
    y: jax.Array, format: Format, top: float
) -> tuple[jax.Array, jax.Array]:
    return _nearest(y, format, top), jnp.abs(y) <= top


def _backward(
    format: Format, top: float, inside: jax.Array, slope: jax.Array
) -> tuple[jax.Array]:
    del format, top
    return (jnp.where(inside, slope, 0),)


_round.defvjp(_forward, _backward)
