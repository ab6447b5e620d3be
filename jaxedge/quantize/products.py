"""Products by packed weights, on three paths.

"emulated" unpacks the weights and multiplies, anywhere; it is what the others
are held to. "fused" unpacks a tile at a time inside one kernel (Pallas, by
Triton on GPUs), so that memory is read for the bytes of the weights and not for
their values. "native" leaves it to matrix units that know blocks, by
`jax.nn.scaled_matmul`, if the vectors are in blocks as well.

The fused kernel was held to the emulated path as Pallas interprets it, and
lowered to Triton's language; neither it nor the native path ever ran on a GPU:
their speed is unknown.

Letters: M vectors, I inputs, O outputs, B blocks.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxedge.core import checks
from jaxedge.quantize import blocks, fused, minifloat
from jaxedge.quantize.blocks import Blocks, Packed
from jaxedge.quantize.layer import Rows
from jaxedge.quantize.minifloat import E2M1

PATHS = ("auto", "emulated", "fused", "native")
_TOP_E4M3 = 448.0
# Of NVIDIA's Blackwell, the first with blocks in its matrix units.
_BLACKWELL = 10.0


def matmul(
    x: jax.Array,
    weights: Rows | Packed,
    *,
    inputs: Blocks | None = None,
    path: str = "auto",
) -> jax.Array:
    """Vectors times packed weights, with float32 sums (or emulated float64).

    The weights have no gradient. On "fused" and "native" the gradient of `x` is
    that of "emulated", in reverse mode alone.

    Args:
        x: [..., I], floating point; finite for "native".
        weights: bytes of [O, I], as of `layer.rows` or `blocks.pack`; more axes
            by vmap.
        inputs: block format among whose values `x` is, as `blocks.fake_quant`
            left it. "native" needs it to have `x` in blocks again; the others
            take `x` as it is.
        path: "auto" is native where `native_lack` finds nothing, else fused on
            GPUs where `fused.lack` finds nothing, else emulated. By its name
            "fused" is interpreted, slowly, where there is no GPU; it multiplies
            in bfloat16 where `x` is that and the weights are that exactly, and
            else in float32, not in TF32.

    Returns:
        [..., O], dtype of `x`.

    Raises:
        UsageError: for shapes that do not fit, or a path that the weights or
            the device cannot take.
    """
    checks.choice("path", path, PATHS)
    _check(x, weights)
    run = _RUNS[_taken(path, weights, inputs)]
    flat = x.reshape(-1, x.shape[-1])
    y = run(flat, weights, inputs)
    return y.reshape(*x.shape[:-1], y.shape[-1]).astype(x.dtype)


def native_lack(weights: Rows | Packed, inputs: Blocks | None) -> str | None:
    """Why there is no native product here; None if there is.

    There is one of MXFP4, MXFP6 and MXFP8 in any mixture, whose numbers are all
    float8_e4m3fn to the matrix units (those beyond 448 are clipped), and one of
    NVFP4 by NVFP4, on NVIDIA GPUs of compute capability 10.0 and more.
    """
    if isinstance(weights, Rows):
        return "its weights have no blocks"
    if inputs is None:
        return "its vectors are in no blocks: inputs is None"
    kinds = _kind(weights.blocks), _kind(inputs)
    if kinds[0] is None or kinds[0] != kinds[1]:
        return (
            "matrix units multiply MX by MX formats of blocks of 32, or NVFP4"
            f" by NVFP4, not {weights.blocks} by {inputs}"
        )
    have = _capability()
    if have < _BLACKWELL:
        return (
            "it needs an NVIDIA GPU of compute capability"
            f" {_BLACKWELL} (Blackwell) or more, and this device,"
            f" {jax.devices()[0].device_kind}, has {have or 'none'}"
        )
    return None


def _taken(path: str, weights: Rows | Packed, inputs: Blocks | None) -> str:
    """The path in the stead of "auto", or a path that can be taken."""
    if path == "auto":
        if native_lack(weights, inputs) is None:
            return "native"
        on_gpu = jax.default_backend() == "gpu"
        return "fused" if on_gpu and not fused.lack(weights) else "emulated"
    lack = None
    if path == "fused":
        lack = fused.lack(weights)
    if path == "native":
        lack = native_lack(weights, inputs)
    if lack:
        raise checks.UsageError(
            f"path is {path!r}, but {lack}; take 'auto' or 'emulated'."
        )
    return path


def _check(x: jax.Array, weights: Rows | Packed) -> None:
    shape = weights.codes.shape[:-1] + weights.shape[-1:]
    if len(shape) != 2:
        raise checks.UsageError(
            f"the weights have shape {shape}, but must be [O, I]; map over"
            " other axes by jax.vmap."
        )
    fits = x.ndim >= 1 and x.shape[-1] == shape[-1]
    if not fits or not jnp.issubdtype(x.dtype, jnp.floating):
        raise checks.UsageError(
            f"x is {x.dtype}{list(x.shape)}, but must be floating point, [...,"
            f" {shape[-1]}], for weights [O, I] of shape {shape}."
        )


# Emulated.


def _values(weights: Rows | Packed) -> jax.Array:
    """[O, I], float32, without a gradient."""
    if isinstance(weights, Rows):
        return jax.lax.stop_gradient(weights.values)
    return jax.lax.stop_gradient(blocks.unpack(weights)).astype(jnp.float32)


def _emulated(
    x_MxI: jax.Array,  # noqa: N803 - the letters of its axes.
    weights: Rows | Packed,
    inputs: Blocks | None,
) -> jax.Array:
    del inputs
    dtype = jnp.promote_types(x_MxI.dtype, jnp.float32)
    return x_MxI.astype(dtype) @ _values(weights).T.astype(dtype)


def _with_emulated_gradient(run: Any) -> Any:
    """A product whose residuals are the bytes of its weights."""

    @functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
    def product(x: jax.Array, weights: Any, inputs: Blocks | None) -> jax.Array:
        return run(x, weights, inputs)

    def forward(x: jax.Array, weights: Any, inputs: Blocks | None) -> Any:
        # An empty array tells the dtype.
        return run(x, weights, inputs), (weights, jnp.zeros(0, x.dtype))

    def backward(inputs: Blocks | None, kept: Any, slope: jax.Array) -> Any:
        del inputs
        weights, like = kept
        return (slope @ _values(weights)).astype(like.dtype), None

    product.defvjp(forward, backward)
    return product


def _fused(x: jax.Array, weights: Rows | Packed, inputs: Any) -> jax.Array:
    del inputs
    return fused.multiply(x, weights)


# Native.


def _capability() -> float:
    """Compute capability of the first device; 0 if it is not NVIDIA's."""
    found = getattr(jax.devices()[0], "compute_capability", 0)
    try:
        return float(found)
    except (TypeError, ValueError):  # AMD's have a name.
        return 0.0


def _kind(found: Blocks) -> str | None:
    """Which blocks of matrix units a format is; None for neither."""
    if found.other is not None:
        return None
    if (found.scale, found.size) == ("e8m0", 32):
        format = found.format
        fits = format.exponent_bits <= 4 and format.mantissa_bits <= 3
        return "mx" if fits else None
    nvfp4 = (found.scale, found.size, found.format) == ("e4m3", 16, E2M1)
    return "nvfp4" if nvfp4 else None


def _native(
    x_MxI: jax.Array,  # noqa: N803 - the letters of its axes.
    weights: Packed,
    inputs: Blocks,
) -> jax.Array:
    coded = blocks.pack(x_MxI.astype(jnp.float32), inputs)
    (a, a_scales), (b, b_scales) = _operand(coded), _operand(weights)
    y = jax.nn.scaled_matmul(
        a[None], b[None], a_scales[None], b_scales[None], jnp.float32
    )[0]
    return y * (_whole(coded) * _whole(weights))


def _operand(packed: Packed) -> tuple[jax.Array, jax.Array]:
    """Numbers [N, B n] and scales [N, B] in the dtypes of matrix units."""
    found, codes = packed.blocks, packed.codes
    if found.format.bits <= 4:
        codes = minifloat.unpack(codes, packed.scales.shape[-1] * found.size)
    usual = minifloat.usual_scale(found.format)
    value = minifloat.decode(codes, found.format, usual)
    number, scale = jnp.float4_e2m1fn, jnp.float8_e4m3fn
    if _kind(found) == "mx":
        number, scale = jnp.float8_e4m3fn, jnp.float8_e8m0fnu
        value = jnp.clip(value, -_TOP_E4M3, _TOP_E4M3)
    scales = jax.lax.bitcast_convert_type(packed.scales, scale)
    return value.astype(number), scales


def _whole(packed: Packed) -> jax.Array:
    """The scale of the whole where numbers are those of the usual bias."""
    if packed.blocks.scale == "e8m0":
        return packed.whole
    usual = minifloat.usual_scale(packed.blocks.format)
    return minifloat.scale_of(packed.blocks.format, packed.whole) / usual


_RUNS = {
    "emulated": _emulated,
    "fused": _with_emulated_gradient(_fused),
    "native": _with_emulated_gradient(_native),
}
