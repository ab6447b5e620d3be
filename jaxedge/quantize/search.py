"""Which format and which clipping range: LLM-FP4, arXiv:2310.16836.

A linear layer's weights have a scale for each output, its activations one for
all, or, pre-shifted, one power of two more for each input channel. Formats and
scales are those whose output is nearest to that of the layer itself.

The error of an output needs no pass over the calibration vectors: it is a
quadratic form of the weights, by the products X^T X and X^T X W.

Letters: B calibration vectors, I inputs, O outputs, C candidates of a scale.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks
from jaxedge.core.trees import pytree, static
from jaxedge.quantize import minifloat
from jaxedge.quantize.minifloat import Format

METHODS = ("minmax", "fpq_baseline", "fpq")
SEARCHES = ("offset", "paper")
# Above so many bits activations stay as they are, as in W4A16.
EXACT_BITS = 16
ROUNDS = 3
# gamma = .01 + .0119 i; the paper's code leaves out its 101st (llm_fp4 4.2).
_GAMMAS = 0.01 + 0.0119 * np.arange(100)
# Octaves by which the largest code may lie below the largest number.
_OFFSETS = np.linspace(-0.25, 1.75, 41)
# Then between the best of these and its neighbours.
_FINE = np.linspace(-0.05, 0.05, 21)
# Formats that the paper starts from; of other bits those of the most mantissa.
_START = {4: minifloat.E2M1, 8: Format(4, 3)}
# Calibration vectors that an activation's candidate is tried on.
_VECTORS = 4096


@pytree
class QuantizedLinear:
    """A layer of small floating-point numbers.

    Attributes:
        codes: of the weights, two of up to four bits a byte along the inputs
            (`minifloat.pack`), uint8 [O, ceil(I / 2)] or [O, I].
        weight_scale: of the weights' grid, [O].
        act_scale: of the activations' grid before the shift, [].
        shift_I: octaves by which the grid of a channel is finer, whole numbers
            from 0 to 2^j - 1, int8 [I].
        weight_format: of the weights.
        act_format: of the activations; None leaves them as they are.
        inputs: I.
    """

    codes: jax.Array
    weight_scale: jax.Array
    act_scale: jax.Array
    shift_I: jax.Array  # noqa: N815 - the letter of its axis.
    weight_format: Format = static()
    act_format: Format | None = static()
    inputs: int = static()

    @property
    def weights(self) -> jax.Array:
        """Values of the weights, float32 [I, O]."""
        codes = self.codes
        if self.weight_format.bits <= 4:
            codes = minifloat.unpack(codes, self.inputs)
        scale = self.weight_scale[:, None]
        return minifloat.decode(codes, self.weight_format, scale).T

    def activations(self, x: jax.Array) -> jax.Array:
        """Inputs [..., I] as the layer takes them."""
        return _activations(x, self.act_format, self.act_scale, self.shift_I)

    def apply(self, x: jax.Array) -> jax.Array:
        """The layer's product, [..., I] to [..., O], dtype of `x`.

        The shift is folded into neither operand: codes of weights times a power
        of two would leave their grid (llm_fp4 7).
        """
        if x.ndim < 1 or x.shape[-1] != self.inputs:
            raise checks.UsageError(
                f"x has shape {x.shape}, but the layer has {self.inputs}"
                " inputs."
            )
        y = self.activations(x).astype(jnp.float32) @ self.weights
        return y.astype(x.dtype)


def linear(
    x_BxI: jax.Array,  # noqa: N803
    w_IxO: jax.Array,  # noqa: N803
    *,
    bits: tuple[int, int] = (4, 4),
    method: str = "fpq",
    search: str = "offset",
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
            channels of the activations as well.
        search: candidates of an exponent bias b: "paper" multiplies the first
            one, b (.01 + .0119 i), i < 100, so that what is tried depends on
            the unit of the data; "offset" adds -1/4 to 7/4 octaves to it, in
            steps of 1/20, then of 1/200 around the best, and starts from every
            format of the activations.

    Returns:
        The layer.

    Raises:
        UsageError: for shapes that do not fit, no vectors or none but zeros,
            NaN or infinite numbers, bits without a format, or an unknown
            method.
    """
    _check(x_BxI, w_IxO, bits, method, search)
    x, w = (jnp.asarray(a, jnp.float32) for a in (x_BxI, w_IxO))
    if method == "minmax":
        return _minmax(x, w, bits)
    return _searched(x, w, bits, method == "fpq", search)


def _check(
    x: jax.Array,
    w: jax.Array,
    bits: tuple[int, int],
    method: str,
    search: str,
) -> None:
    checks.choice("method", method, METHODS)
    checks.choice("search", search, SEARCHES)
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


def start_format(bits: int) -> Format:
    """The format that a search starts from, and that "minmax" takes."""
    return _START.get(bits, minifloat.formats(bits)[min(1, bits - 2)])


class _Side(NamedTuple):
    """One operand on its way.

    Attributes:
        format: of the numbers, None for exact activations.
        scale: of the grid, [] or [O].
        shift: of the channels, int32 [I]; zeros for weights.
    """

    format: Format | None
    scale: jax.Array
    shift: jax.Array


def _activations(
    x: jax.Array,
    format: Format | None,
    scale: jax.Array,
    shift: jax.Array,
) -> jax.Array:
    if format is None:
        return x
    fine = scale * jnp.exp2(-shift.astype(jnp.float32))
    return minifloat.to_values(x, format, fine)


def _minmax(
    x: jax.Array, w: jax.Array, bits: tuple[int, int]
) -> QuantizedLinear:
    of_w, of_x = start_format(bits[0]), None
    shift = jnp.zeros(x.shape[1], jnp.int32)
    act_scale = jnp.ones(())
    if bits[1] != EXACT_BITS:
        of_x = start_format(bits[1])
        act_scale = minifloat.scale_of(of_x, jnp.abs(x).max())
    weight_scale = minifloat.scale_of(of_w, jnp.abs(w).max(0))
    return _made(
        w, _Side(of_w, weight_scale, shift), _Side(of_x, act_scale, shift)
    )


def _made(w: jax.Array, of_w: _Side, of_x: _Side) -> QuantizedLinear:
    assert of_w.format is not None
    codes = minifloat.encode(w.T, of_w.format, of_w.scale[:, None])
    if of_w.format.bits <= 4:
        codes = minifloat.pack(codes)
    return QuantizedLinear(
        codes,
        of_w.scale,
        of_x.scale,
        of_x.shift.astype(jnp.int8),
        of_w.format,
        of_x.format,
        w.shape[0],
    )


def _candidates(bias: jax.Array, search: str) -> jax.Array:
    """Biases that are tried beside a first one of any shape, [C, ...]."""
    if search == "paper":
        ratios = jnp.asarray(_GAMMAS, jnp.float32)
        return ratios.reshape(-1, *(1,) * bias.ndim) * bias[None]
    fine = search == "fine"
    offsets = jnp.asarray(_FINE if fine else _OFFSETS, jnp.float32)
    return offsets.reshape(-1, *(1,) * bias.ndim) + bias[None]


def _searched(
    x: jax.Array,
    w: jax.Array,
    bits: tuple[int, int],
    shifted: bool,
    search: str,
) -> QuantizedLinear:
    """Weights and activations in turn, each at the other's present state.

    Such a search ends where neither alone can do better. The paper starts with
    the largest activation on the largest code of one format; "offset" also with
    each format as it is best for exact weights.
    """
    exact = _Side(None, jnp.ones(()), jnp.zeros(x.shape[1], jnp.int32))
    if bits[1] == EXACT_BITS:
        return _made(w, _best_weights(x, w, exact, bits[0], search)[0], exact)
    formats = minifloat.formats(bits[1])
    tried = functools.partial(
        _best_activations, x, w, shifted=shifted, search=search
    )
    starts = [_first(x, start_format(bits[1]), shifted)]
    if search == "offset":
        starts += [tried(w, (format,)) for format in formats]
    ends = []
    for of_x in starts:
        of_w, error = _best_weights(x, w, of_x, bits[0], search)
        for _ in range(ROUNDS - 1):
            assert of_w.format is not None
            q = minifloat.to_values(w, of_w.format, of_w.scale)
            of_x = tried(q, formats)
            of_w, error = _best_weights(x, w, of_x, bits[0], search)
        ends.append((error, of_w, of_x))
    _, of_w, of_x = min(ends, key=lambda end: end[0])
    return _made(w, of_w, of_x)


def _first(x: jax.Array, format: Format, shifted: bool) -> _Side:
    """Activations before a search: the largest number on the largest code."""
    bias, channels = _biases(x, format, shifted)
    scale, shift = _at(bias, channels, format)
    return _Side(format, scale, jnp.broadcast_to(shift, x.shape[1:]))


def _biases(
    x: jax.Array, format: Format, shifted: bool
) -> tuple[jax.Array, jax.Array | None]:
    """The first bias of a tensor, [], and those of its channels, [I]."""
    if not shifted:
        return minifloat.bias_for(format, jnp.abs(x).max()), None
    most = jnp.abs(x).max(0)
    # A channel that is always zero may have any scale: the largest's.
    most = jnp.where(most > 0, most, jnp.abs(x).max())
    channels = minifloat.bias_for(format, most)
    return channels.min(), channels


def _at(
    bias: jax.Array, channels: jax.Array | None, format: Format
) -> tuple[jax.Array, jax.Array]:
    """Scale [] and shift of the channels (eq. 15) at a bias of the tensor."""
    scale = _scale(bias, format)
    if channels is None:
        return scale, jnp.zeros((), jnp.int32)
    shift = jnp.round(channels - bias)
    most = 2**format.exponent_bits - 1
    return scale, jnp.clip(shift, 0, most).astype(jnp.int32)


def _scale(bias: jax.Array, format: Format) -> jax.Array:
    """The scale of a bias, 2^-bias, of the grid as `minifloat` has it."""
    return minifloat.scale_of(format, format.top * jnp.exp2(-bias))


@functools.partial(jax.jit, static_argnames=("format", "search"))
def _weight_errors(
    w: jax.Array,
    gram: jax.Array,
    cross: jax.Array,
    format: Format,
    search: str,
) -> tuple[jax.Array, jax.Array]:
    """Least error of every output over candidates, [O], and its scale [O].

    Args:
        w: [I, O].
        gram: X^T X of the activations as they are quantised, [I, I].
        cross: X^T Y, Y the outputs of the layer itself, [I, O].
        format: of the weights.
        search: of the candidates.
    """

    def one(best: tuple, bias: jax.Array) -> tuple[tuple, None]:
        least, chosen = best
        q = minifloat.to_values(w, format, _scale(bias, format))
        # |Y - X q|^2 less |Y|^2, column by column.
        error = jnp.sum(q * (gram @ q - 2 * cross), 0)
        better = error < least
        least = jnp.where(better, error, least)
        return (least, jnp.where(better, bias, chosen)), None

    bias = minifloat.bias_for(format, _positive(jnp.abs(w).max(0)))
    best = jnp.full(w.shape[1], jnp.inf), bias
    best, _ = jax.lax.scan(one, best, _candidates(bias, search))
    if search == "offset":
        best, _ = jax.lax.scan(one, best, _candidates(best[1], "fine"))
    return best[0], _scale(best[1], format)


def _positive(most: jax.Array) -> jax.Array:
    """Maxima; that of an output without weights is of no matter."""
    return jnp.where(most > 0, most, 1)


def _best_weights(
    x: jax.Array, w: jax.Array, of_x: _Side, bits: int, search: str
) -> tuple[_Side, float]:
    """Weights for activations, and their error less that of all zeros."""
    quantised = _activations(x, of_x.format, of_x.scale, of_x.shift)
    gram = quantised.T @ quantised
    cross = (quantised.T @ x) @ w
    found = {
        format: _weight_errors(w, gram, cross, format, search)
        for format in minifloat.formats(bits)
    }
    errors = {format: float(row[0].sum()) for format, row in found.items()}
    best = min(errors, key=errors.__getitem__)
    zero = jnp.zeros(w.shape[0], jnp.int32)
    return _Side(best, found[best][1], zero), errors[best]


@functools.partial(jax.jit, static_argnames=("format", "search"))
def _activation_errors(
    x: jax.Array,
    quadratic: jax.Array,
    target: jax.Array,
    bias: jax.Array,
    channels: jax.Array | None,
    format: Format,
    search: str,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Least error over candidates, [], with its scale [] and shift [I].

    Args:
        x: [B, I].
        quadratic: W W^T of the weights as they are quantised, [I, I].
        target: Y W^T, Y the outputs of the layer itself, [B, I].
        bias: first one of the tensor, [].
        channels: those of the channels, [I]; None has no shift.
        format: of the activations.
        search: of the candidates.
    """

    def error(bias: jax.Array) -> jax.Array:
        q = _activations(x, format, *_at(bias, channels, format))
        return jnp.sum(q * (q @ quadratic - 2 * target))

    biases = _candidates(bias, search)
    errors = jax.lax.map(error, biases)
    if search == "offset":
        fine = _candidates(biases[jnp.argmin(errors)], "fine")
        biases = jnp.concatenate([biases, fine])
        errors = jnp.concatenate([errors, jax.lax.map(error, fine)])
    at = jnp.argmin(errors)
    scale, shift = _at(biases[at], channels, format)
    return errors[at], scale, jnp.broadcast_to(shift, x.shape[1:])


def _best_activations(
    x: jax.Array,
    w: jax.Array,
    q: jax.Array,
    formats: tuple[Format, ...],
    *,
    shifted: bool,
    search: str,
) -> _Side:
    """Activations for weights q [I, O] in place of w."""
    some = x[:: -(-len(x) // _VECTORS)]
    quadratic, target = q @ q.T, (some @ w) @ q.T
    found = {
        format: _activation_errors(
            some,
            quadratic,
            target,
            *_biases(x, format, shifted),
            format=format,
            search=search,
        )
        for format in formats
    }
    best = min(found, key=lambda format: float(found[format][0]))
    return _Side(best, *found[best][1:])
