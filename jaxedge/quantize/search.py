"""A linear layer in small floating-point numbers, by one of many methods.

With grain "tensor" weights have a scale for each output and activations one for
all, or, pre-shifted, one power of two more for each input channel; with another
grain both have one for each block of inputs (`quantize.blocks`).

Letters: B calibration vectors, I inputs, O outputs.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks
from jaxedge.quantize import blocks, compensate, fpq, fronts, minifloat
from jaxedge.quantize import layer as layers
from jaxedge.quantize.blocks import Blocks
from jaxedge.quantize.layer import QuantizedLinear
from jaxedge.quantize.minifloat import Format


class Method(NamedTuple):
    """What a method does.

    Attributes:
        scales: "minmax" puts the largest number on the largest code, "search"
            finds formats and scales, "shift" also those of the channels of the
            activations.
        front: what is done to inputs first: "none", "smooth", "aware" or
            "rotate", see `quantize.fronts`.
        compensated: whether the rounding of a weight makes up for that of
            others (`quantize.compensate`).
    """

    scales: str
    front: str = "none"
    compensated: bool = False


METHODS = {
    "minmax": Method("minmax"),
    "smoothquant": Method("minmax", "smooth"),
    "awq": Method("minmax", "aware"),
    "gptq": Method("minmax", compensated=True),
    "hadamard": Method("minmax", "rotate"),
    "fpq_baseline": Method("search"),
    "fpq": Method("shift"),
    "fpq_gptq": Method("shift", compensated=True),
}
SEARCHES = fpq.SEARCHES
# Above so many bits activations stay as they are, as in W4A16.
EXACT_BITS = fpq.EXACT_BITS


def linear(
    x_BxI: jax.Array,  # noqa: N803
    w_IxO: jax.Array,  # noqa: N803
    *,
    bits: tuple[int, int] = (4, 4),
    method: str = "fpq",
    search: str = "offset",
    grain: str = "tensor",
    sensitivity_BxO: jax.Array | None = None,  # noqa: N803
    damp: float = compensate.DAMP,
) -> QuantizedLinear:
    """Quantises a linear layer after training.

    Args:
        x_BxI: calibration vectors, as they will come.
        w_IxO: weights.
        bits: of weights and activations, 2 to 8; 16 leaves activations as they
            are.
        method: "minmax" puts the largest number on the largest code, in E2M1
            or E4M3; "fpq_baseline" searches formats and scales of weights and
            activations in turn, 3 times; "fpq" has pre-shifted scales for the
            channels of the activations as well. On the grids of "minmax":
            "smoothquant" and "awq" move range from activations to weights,
            "hadamard" rotates, "gptq" rounds weights so that they make up for
            each other; "fpq_gptq" does so on the grids of "fpq".
        search: candidates of an exponent bias b: "paper" multiplies the first
            one, b (.01 + .0119 i), i < 100, so that what is tried depends on
            the unit of the data; "offset" adds -1/4 to 17/4 octaves to it, in
            steps of 1/10, then of 1/100 around the best, and starts from
            several formats of the activations.
        grain: "tensor", or the name of a block format of `blocks.NAMED`, whose
            blocks and scales both weights and activations then have, and whose
            numbers where these are of as many `bits`. Methods that search have
            its `searched` form, with the weights of an input as important as
            that is large.
        sensitivity_BxO: squares of the loss's slope at each output, by which
            its squared error counts (eq. 24); None counts all alike. For the
            searches of "fpq" alone: nothing else compares outputs.
        damp: share of the inputs' mean power that "gptq" adds to each, above 0;
            more is better with few vectors.

    Returns:
        The layer.

    Raises:
        UsageError: for shapes that do not fit, no vectors or none but zeros,
            NaN or infinite numbers, bits without a format, or an unknown
            method.
    """
    _check(x_BxI, w_IxO, bits, method, search, grain, sensitivity_BxO)
    checks.in_range("damp", damp, 0, open_low=True)
    x, w = (jnp.asarray(a, jnp.float32) for a in (x_BxI, w_IxO))
    how = METHODS[method]
    kind = None if grain == "tensor" else blocks.of(grain)
    # Products of half precision, the default of accelerators, leave a Gram
    # matrix that need not be positive.
    with jax.default_matmul_precision("highest"):
        factor, turn = _front(x, w, bits[0], how.front, kind)
        x = fronts.prepare(x, factor, turn)
        if factor is not None:
            w = w * factor[:, None]
        # The rotation is its own inverse.
        w = fronts.rotate(w.T, turn).T
        if kind is None:
            some = _floored(sensitivity_BxO)
            found = _by_tensor(x, w, bits, how, search, some, damp)
        else:
            found = _in_blocks(x, w, bits, how, kind, damp)
    return dataclasses.replace(found, factor_I=factor, turn=turn)


def _by_tensor(
    x: jax.Array,
    w: jax.Array,
    bits: tuple[int, int],
    how: Method,
    search: str,
    sensitivity: jax.Array | None,
    damp: float,
) -> QuantizedLinear:
    if how.scales == "minmax":
        of_w, of_x = fpq.largest(x, w, bits)
    else:
        shifted = how.scales == "shift"
        of_w, of_x = fpq.searched(x, w, bits, shifted, search, sensitivity)
    assert of_w.format is not None
    if how.compensated:
        grid = OfRows(of_w.format)
        # All inputs of an output share its scale: the group is for speed.
        w, _ = compensate.rounding(
            w, x.T @ x, grid, min(128, len(w)), of_w.scale, damp
        )
    coded = layers.rows(w, of_w.format, of_w.scale)
    shift = of_x.shift.astype(jnp.int8)
    return QuantizedLinear(coded, of_x.scale, shift, act_format=of_x.format)


def _in_blocks(
    x: jax.Array,
    w: jax.Array,
    bits: tuple[int, int],
    how: Method,
    kind: Blocks,
    damp: float,
) -> QuantizedLinear:
    exact = bits[1] == EXACT_BITS
    of_w = _with_bits(kind, bits[0])
    of_x = None if exact else _with_bits(kind, bits[1])
    searched = how.scales != "minmax"
    if searched:
        of_w, of_x = of_w.searched, of_x and of_x.searched
    if how.compensated:
        coded = compensated(w, x.T @ x, of_w, damp)
    else:
        power = jnp.mean(x**2, 0) if searched else None
        coded = blocks.pack(w.T, of_w, power)
    return QuantizedLinear(
        coded,
        jnp.ones(()),
        jnp.zeros(len(w), jnp.int8),
        act_blocks=of_x,
    )


def _with_bits(kind: Blocks, bits: int) -> Blocks:
    """The same blocks and scales, of numbers of other bits."""
    if bits == kind.format.bits:
        return kind
    plain = kind._replace(format=fpq.start_format(bits), other=None)
    return plain.searched if kind == kind.searched else plain


def compensated(
    w: jax.Array, gram: jax.Array, kind: Blocks, damp: float = compensate.DAMP
) -> blocks.Packed:
    """Weights [I, O] in blocks, rounded by `compensate.rounding`."""
    inputs = w.shape[0]
    parts = blocks.split(w.T, kind.size)
    whole = blocks.whole_of(parts, kind)
    values, stored = compensate.rounding(
        w, gram, OfBlocks(kind), kind.size, whole, damp
    )
    # [B, O] to the blocks of each output; the values are on their grids.
    parts = blocks.split(values.T, kind.size)
    return blocks.packed(parts, stored.T, whole, kind, inputs)


class OfRows(NamedTuple):
    """A `compensate.Grid` with a scale for each output, that is given."""

    format: Format

    def choose(
        self, given: jax.Array, parts: jax.Array, importance: jax.Array
    ) -> jax.Array:
        del parts, importance
        return given

    def round(
        self, given: jax.Array, w: jax.Array, scale: jax.Array
    ) -> jax.Array:
        del given
        return minifloat.to_values(w, self.format, scale)


class OfBlocks(NamedTuple):
    """A `compensate.Grid` of blocks, given the scale of the whole."""

    kind: Blocks

    def choose(
        self, given: jax.Array, parts: jax.Array, importance: jax.Array
    ) -> jax.Array:
        importance = jnp.broadcast_to(importance[None], parts.shape)
        return blocks.choose(parts, given, self.kind, importance)

    def round(
        self, given: jax.Array, w: jax.Array, scale: jax.Array
    ) -> jax.Array:
        value = blocks.to_values(w[:, None], scale, given, self.kind)
        return value[:, 0]


def _front(
    x: jax.Array, w: jax.Array, bits: int, front: str, kind: Blocks | None
) -> tuple[jax.Array | None, int]:
    """Factors of the inputs [I], or None, and the size of a rotation."""
    if front == "smooth":
        return fronts.smooth(x, w), 1
    if front == "aware":
        format = fpq.start_format(bits)

        def rounded(w: jax.Array) -> jax.Array:
            if kind is not None:
                return blocks.fake_quant(w.T, _with_bits(kind, bits)).T
            most = jnp.abs(w).max(0, keepdims=True)
            return minifloat.fake_quant(w, format, most)

        return fronts.aware(x, w, rounded), 1
    return None, fronts.rotation_size(len(w)) if front == "rotate" else 1


def _floored(sensitivity: jax.Array | None) -> jax.Array | None:
    """Parts of the mean, above 0: every output is to have a sound scale."""
    if sensitivity is None:
        return None
    share = jnp.asarray(sensitivity, jnp.float32)
    return jnp.maximum(share / share.mean(), 1e-6)


def _check(
    x: jax.Array,
    w: jax.Array,
    bits: tuple[int, int],
    method: str,
    search: str,
    grain: str,
    sensitivity: jax.Array | None,
) -> None:
    checks.choice("method", method, METHODS)
    checks.choice("search", search, SEARCHES)
    checks.choice("grain", grain, ("tensor", *blocks.NAMED))
    for name, n in zip(("weights", "activations"), bits, strict=True):
        checks.whole(f"bits of {name}", n, 2)
        if n > 8 and (name, n) != ("activations", EXACT_BITS):
            raise checks.UsageError(
                f"the bits of {name} are {n}, but formats have 2 to 8 bits;"
                f" {EXACT_BITS} leaves activations as they are."
            )
    if x.ndim != 2 or w.ndim != 2 or x.shape[1:] != w.shape[:1]:
        raise checks.UsageError(
            f"x {x.shape} and w {w.shape} must be [B, I] and [I, O]."
        )
    if not x.size or not w.size:
        raise checks.UsageError(
            f"x {x.shape} and w {w.shape} hold nothing to calibrate with."
        )
    checks.finite("the calibration vectors", x)
    checks.finite("the weights", w)
    if checks.concrete(x) and not np.any(np.asarray(x)):
        raise checks.UsageError(
            "all calibration vectors are zero, which tells no scale; give some"
            " inputs as they will come."
        )
    if sensitivity is None:
        return
    if sensitivity.shape != (len(x), w.shape[1]):
        raise checks.UsageError(
            f"sensitivity has shape {sensitivity.shape}, but must be [B, O],"
            f" {(len(x), w.shape[1])}."
        )
    checks.in_range("the sensitivity", sensitivity, 0)
    if checks.concrete(sensitivity) and not np.any(np.asarray(sensitivity)):
        raise checks.UsageError(
            "the sensitivity is zero everywhere, so that no error counts."
        )
    if grain != "tensor" or METHODS[method].scales == "minmax":
        raise checks.UsageError(
            f"method {method!r} with grain {grain!r} compares no outputs; a"
            " sensitivity is for the searches of fpq, with grain 'tensor'."
        )
