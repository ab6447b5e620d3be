"""Which formats and which clipping ranges: LLM-FP4, arXiv:2310.16836.

Weights have a scale for each output, activations one for all, or, pre-shifted,
one power of two more for each input channel. Formats and scales are those whose
output is nearest to that of the layer itself.

The error of an output needs no pass over the calibration vectors: it is a
quadratic form of the weights' errors, by X^T X. Of a large layer most
candidates are judged by the largest part of that form and the diagonal of the
rest, and only the best few by all of it.

Letters: B calibration vectors, I inputs, O outputs, C candidates of a scale, K
rows of a form.
"""

from collections.abc import Callable
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.quantize import minifloat
from jaxedge.quantize.layer import Rows, fine_scale, quantised
from jaxedge.quantize.layer import rows as layer_rows
from jaxedge.quantize.minifloat import Format

SEARCHES = ("offset", "paper")
# Above so many bits activations stay as they are, as in W4A16.
EXACT_BITS = 16
ROUNDS = 3
# gamma = .01 + .0119 i; the paper's code leaves out its 101st (llm_fp4 4.2).
_GAMMAS = 0.01 + 0.0119 * np.arange(100)
# Octaves by which the largest code may lie below the largest number. Outliers
# may be 16 times what matters.
_OFFSETS = np.linspace(-0.25, 4.25, 46)
# Then between the best of these and its neighbours.
_FINE = np.linspace(-0.1, 0.1, 21)
# Formats that the paper starts from; of other bits two are of the exponent.
_START = {4: minifloat.E2M1, 8: Format(4, 3)}
# More make numbers beyond float16 and are left out, as in the paper's code.
_MOST_EXPONENT_BITS = 5
# Formats of the activations from which "offset" starts.
_STARTS = 3
# Calibration vectors that an activation's candidate is tried on.
_VECTORS = 4096
# A form of more than twice so many rows and entries is judged by a part of so
# many rows, and its best candidates by all.
_RANK = 64
_BEST = 4


def start_format(bits: int) -> Format:
    """The format that a search starts from, and that "minmax" takes."""
    return _START.get(bits, minifloat.formats(bits)[min(1, bits - 2)])


def formats(bits: int) -> tuple[Format, ...]:
    """The formats that a search tries."""
    return tuple(
        format
        for format in minifloat.formats(bits)
        if format.exponent_bits <= _MOST_EXPONENT_BITS
    )


class Side(NamedTuple):
    """One operand of a layer.

    Attributes:
        format: of the numbers, None for exact activations.
        scale: of the grid, [] or [O].
        shift: of the channels, int32 [I]; zeros for weights.
    """

    format: Format | None
    scale: jax.Array
    shift: jax.Array


def largest(
    x: jax.Array, w: jax.Array, bits: tuple[int, int]
) -> tuple[Side, Side]:
    """Weights and activations with the largest number on the largest code."""
    none = jnp.zeros(x.shape[1], jnp.int32)
    of_w, of_x = start_format(bits[0]), None
    act_scale = jnp.ones(())
    if bits[1] != EXACT_BITS:
        of_x = start_format(bits[1])
        act_scale = minifloat.scale_of(of_x, jnp.abs(x).max())
    weight_scale = minifloat.scale_of(of_w, jnp.abs(w).max(0))
    return Side(of_w, weight_scale, none), Side(of_x, act_scale, none)


def searched(
    x: jax.Array,
    w: jax.Array,
    bits: tuple[int, int],
    shifted: bool,
    search: str,
    sensitivity: jax.Array | None = None,
) -> tuple[Side, Side]:
    """Weights and activations in turn, each at the other's present state.

    Such a search ends where neither alone can do better. The paper starts with
    the largest activation on the largest code of one format; "offset" also with
    the formats that are best for exact weights.

    Args:
        x: calibration vectors, [B, I].
        w: weights, [I, O].
        bits: of both.
        shifted: whether channels of the activations have scales.
        search: of `SEARCHES`.
        sensitivity: by which squared errors of the outputs count, [B, O].
    """
    exact = Side(None, jnp.ones(()), jnp.zeros(x.shape[1], jnp.int32))
    if bits[1] == EXACT_BITS:
        of_w, _ = _best_weights(x, w, exact, bits[0], search, sensitivity)
        return of_w, exact
    tried = functools.partial(
        _best_activations,
        x,
        w,
        shifted=shifted,
        search=search,
        sensitivity=sensitivity,
    )
    starts = [_first(x, start_format(bits[1]), shifted)]
    if search == "offset":
        found = tried(w, formats(bits[1]))
        # With more bits all formats are nearly as good.
        starts += [side for side, _ in found[: _STARTS if bits[1] < 6 else 1]]
    ends = []
    for of_x in starts:
        of_w, error = _best_weights(x, w, of_x, bits[0], search, sensitivity)
        for _ in range(ROUNDS - 1):
            assert of_w.format is not None
            q = minifloat.to_values(w, of_w.format, of_w.scale)
            before, (of_x, _) = of_x, tried(q, formats(bits[1]))[0]
            if _same(before, of_x):
                break
            of_w, error = _best_weights(
                x, w, of_x, bits[0], search, sensitivity
            )
        ends.append((error, of_w, of_x))
    _, of_w, of_x = min(ends, key=lambda end: end[0])
    return of_w, of_x


def _same(a: Side, b: Side) -> bool:
    """Whether two sides are the same numbers."""
    return a.format == b.format and all(
        np.array_equal(u, v) for u, v in zip(a[1:], b[1:], strict=True)
    )


def table(rows: jax.Array, bits: int, search: str = "offset") -> Rows:
    """A table whose rows are looked up, by the error of its numbers.

    Args:
        rows: [V, W], each with a scale of its own.
        bits: 2 to 8.
        search: of `SEARCHES`.
    """
    w = jnp.asarray(rows, jnp.float32).T
    none = jnp.zeros((1, len(w)))
    of = Form(
        none, jnp.ones(len(w)), jnp.zeros((1, 1)), jnp.zeros(()), None, None
    )
    found = {f: _weight_scales(w, of, f, search) for f in formats(bits)}
    best = min(found, key=lambda f: float(found[f][1].sum()))
    return layer_rows(w, best, found[best][0])


class Form(NamedTuple):
    """The squared error of a product as a function of errors e [I, N].

    e^T (F^T F + diag d) e + 2 e^T l + const, for each of N columns.

    Attributes:
        rows: F, [K, I].
        diagonal: d, [I].
        linear: l, [I, N].
        const: summed over columns, less what is the same for all forms of one
            layer, [].
        weights: of the squares of F e, [K, N]; None for one.
        gram: what F^T F + diag d stands for, [I, I]; None if it is exact.
    """

    rows: jax.Array | None
    diagonal: jax.Array | None
    linear: jax.Array
    const: jax.Array
    weights: jax.Array | None
    gram: jax.Array | None

    def error(self, e: jax.Array, full: bool) -> jax.Array:
        """Error of each column, [N], by all of the form or by F and d."""
        flat = 2 * jnp.sum(e * self.linear, 0)
        if self.gram is not None and (full or self.rows is None):
            return flat + jnp.sum(e * (self.gram @ e), 0)
        assert self.rows is not None
        square = (self.rows @ e) ** 2
        if self.weights is not None:
            square = square * self.weights
        bowed = square.sum(0)
        if self.diagonal is not None:
            # As a product: XLA makes a slow loop of the sum.
            bowed += self.diagonal @ e**2
        return flat + bowed

    @property
    def exact(self) -> bool:
        """Whether F and d are all of it."""
        return self.rows is None or self.gram is None


@jax.jit
def form(
    f: jax.Array, g: jax.Array, v: jax.Array, weights: jax.Array | None
) -> Form:
    """The form of |f (v + e) - g v|^2.

    Args:
        f: one operand as it is quantised, [K, I].
        g: as it was, [K, I].
        v: the other operand, [I, N].
        weights: of the squares, [K, N]; None for one.
    """
    k, i = f.shape
    if weights is not None or k <= 2 * _RANK:
        rest = (f - g) @ v
        each = rest if weights is None else weights * rest
        const = jnp.sum(each * rest)
        return Form(f, None, f.T @ each, const, weights, None)
    gram, cross = f.T @ f, f.T @ (f - g)
    const = jnp.sum(v * ((2 * cross - gram) @ v))
    linear = cross @ v
    if i <= 2 * _RANK:
        return Form(None, None, linear, const, None, gram)
    rows, diagonal = _main_part(gram)
    return Form(rows, diagonal, linear, const, None, gram)


def _main_part(gram: jax.Array) -> tuple[jax.Array, jax.Array]:
    """F [_RANK, I] and d [I] by which F^T F + diag d is nearly a Gram matrix.

    A Nystrom approximation (Halko et al., arXiv:0909.4061, 5.5) with the
    diagonal of what it leaves.
    """
    draw = jax.random.normal(jax.random.key(0), (len(gram), _RANK))
    basis, _ = jnp.linalg.qr(gram @ draw)
    y = gram @ basis
    inner = basis.T @ y
    power, axes = jnp.linalg.eigh(inner)
    # Below that is rounding, which may be negative: left to the diagonal.
    sound = (power > 1e-6 * power[-1])[:, None]
    root = jnp.sqrt(jnp.where(sound, power[:, None], 1))
    rows = jnp.where(sound, (axes.T @ y.T) / root, 0)
    return rows, jnp.maximum(jnp.diagonal(gram) - jnp.sum(rows**2, 0), 0)


def _candidates(bias: jax.Array, search: str) -> jax.Array:
    """Biases that are tried beside a first one of any shape, [C, ...]."""
    if search == "paper":
        ratios = jnp.asarray(_GAMMAS, jnp.float32)
        return ratios.reshape(-1, *(1,) * bias.ndim) * bias[None]
    fine = search == "fine"
    offsets = jnp.asarray(_FINE if fine else _OFFSETS, jnp.float32)
    return offsets.reshape(-1, *(1,) * bias.ndim) + bias[None]


def _chosen(
    error: Callable[[jax.Array, bool], jax.Array],
    first: jax.Array,
    search: str,
    exact: bool,
) -> tuple[jax.Array, jax.Array]:
    """The best bias and its error, of the shape of `first`.

    Args:
        error: of biases, by all of a form or by its main part.
        first: biases, [] or [O], each with candidates of its own.
        search: of the candidates.
        exact: whether the main part is all.
    """

    def errors(biases: jax.Array, full: bool) -> jax.Array:
        return jax.lax.map(lambda bias: error(bias, full), biases)

    def pick(table: jax.Array, at: jax.Array) -> jax.Array:
        return jnp.take_along_axis(table, at, 0)

    biases = _candidates(first, search)
    found = errors(biases, False)
    if search == "offset":
        near = pick(biases, jnp.argmin(found, 0, keepdims=True))[0]
        biases = jnp.concatenate([biases, _candidates(near, "fine")])
        fine = errors(biases[len(found) :], False)
        found = jnp.concatenate([found, fine])
    if not exact:
        best = jnp.argsort(found, 0)[:_BEST]
        biases = pick(biases, best)
        found = errors(biases, True)
    at = jnp.argmin(found, 0, keepdims=True)
    return pick(biases, at)[0], pick(found, at)[0]


def _first(x: jax.Array, format: Format, shifted: bool) -> Side:
    """Activations before a search: the largest number on the largest code."""
    bias, channels = _biases(x, format, shifted)
    scale, shift = _at(bias, channels, format)
    return Side(format, scale, jnp.broadcast_to(shift, x.shape[1:]))


@functools.partial(jax.jit, static_argnames=("format", "shifted"))
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
def _weight_scales(
    w: jax.Array, of: Form, format: Format, search: str
) -> tuple[jax.Array, jax.Array]:
    """Scales [O] of weights [I, O] with the least errors, and these, [O]."""

    def error(bias: jax.Array, full: bool) -> jax.Array:
        q = minifloat.to_values(w, format, _scale(bias, format))
        return of.error(q - w, full)

    most = jnp.abs(w).max(0)
    # An output without weights may have any scale.
    first = minifloat.bias_for(format, jnp.where(most > 0, most, 1))
    bias, errors = _chosen(error, first, search, of.exact)
    return _scale(bias, format), errors


_quantised = jax.jit(quantised, static_argnames="format")


def _best_weights(
    x: jax.Array,
    w: jax.Array,
    of_x: Side,
    bits: int,
    search: str,
    sensitivity: jax.Array | None,
) -> tuple[Side, float]:
    """Weights for activations, and their error less a constant."""
    q = _quantised(x, of_x.format, of_x.scale, of_x.shift)
    of = form(q, x, w, sensitivity)
    found = {
        format: _weight_scales(w, of, format, search)
        for format in formats(bits)
    }
    errors = {format: float(row[1].sum()) for format, row in found.items()}
    best = min(errors, key=errors.__getitem__)
    none = jnp.zeros(w.shape[0], jnp.int32)
    return Side(best, found[best][0], none), errors[best] + float(of.const)


@functools.partial(jax.jit, static_argnames=("format", "search"))
def _activation_scales(
    x: jax.Array,
    of: Form,
    bias: jax.Array,
    channels: jax.Array | None,
    format: Format,
    search: str,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Scale [] and shift [I] of vectors x [B, I], and their error, []."""
    turned = x.T

    def error(bias: jax.Array, full: bool) -> jax.Array:
        scale, shift = _at(bias, channels, format)
        fine = fine_scale(scale, shift).reshape(-1, 1)
        q = minifloat.to_values(turned, format, fine)
        return of.error(q - turned, full).sum()

    best, least = _chosen(error, bias, search, of.exact)
    scale, shift = _at(best, channels, format)
    return scale, jnp.broadcast_to(shift, x.shape[1:]), least


def _best_activations(
    x: jax.Array,
    w: jax.Array,
    q: jax.Array,
    tried: tuple[Format, ...],
    *,
    shifted: bool,
    search: str,
    sensitivity: jax.Array | None,
) -> list[tuple[Side, float]]:
    """Activations for weights q [I, O] in place of w, best format first."""
    stride = -(-len(x) // _VECTORS)
    some = x[::stride]
    weights = None if sensitivity is None else sensitivity[::stride].T
    of = form(q.T, w.T, some.T, weights)
    found = []
    for format in tried:
        scale, shift, error = _activation_scales(
            some, of, *_biases(x, format, shifted), format=format, search=search
        )
        found.append((Side(format, scale, shift), float(error)))
    return sorted(found, key=lambda pair: pair[1])
