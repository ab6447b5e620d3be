"""The closed-form readout: ridge regression over a stream of rows.

    min over (M, b) of  sum_i w_i |y_i - M^T x_i - b|^2 + sum_d p_d |M_d|^2

`init`, `update` with chunks of rows, `solve` (device_physics D.9). Sums are
taken over blocks of a fixed number of rows, so that they, and with them the
solution, do not depend on how the rows were cut into chunks. A streaming QR
would be ten times more accurate still on a nearly singular problem, at several
times the work; centred, compensated sums are thousands of times more accurate
than raw ones of conductances and, needing half of a symmetric matrix, faster.

Other forms of the same solution are in `readout_forms`, the choice of the
ridge in `readout_scores`.

Letters: N rows, D features, K targets.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.learn import row_blocks
from jaxedge.learn.row_blocks import Rows, State

BIASES = ("none", "penalised", "free")


class Weights(NamedTuple):
    """A linear readout.

    Attributes:
        matrix: [D, K].
        bias: [K]; zero for `bias="none"`.
    """

    matrix: jax.Array
    bias: jax.Array


def init(
    d: int,
    k: int,
    *,
    block: int = 1024,
    dtype: jax.typing.DTypeLike | None = None,
) -> State:
    """The state before any row.

    Args:
        d: number of features, at least 1.
        k: number of targets, at least 1.
        block: rows that are summed at a time, at least 1, and as many are
            kept; 1024 is the fastest on CPU.
        dtype: of the sums, float32 or float64; None takes JAX's default
            float. Rows of any dtype are converted to it before they are used.

    Raises:
        UsageError: for another dtype, or sizes that are no whole numbers.
    """
    for name, value in (("d", d), ("k", k), ("block", block)):
        checks.whole(name, value, 1)
    kind = jnp.zeros((), dtype or float).dtype
    if kind not in (jnp.float32, jnp.float64):
        raise checks.UsageError(
            f"dtype is {kind}, but sums need float32 or float64."
        )
    return row_blocks.empty(d, k, block, kind)


def update(
    state: State,
    features: ArrayLike,
    targets: ArrayLike,
    weights: ArrayLike | None = None,
) -> State:
    """Adds rows.

    Any cut of the same rows, in the same order, into chunks gives the same
    sums. Inside jit a bad entry shows as NaN in what `solve` returns.

    Args:
        state: from `init` or `update`.
        features: [N, D], real; N may be 0.
        targets: [N, K], real.
        weights: of the rows, [N], at least 0; None takes 1.

    Raises:
        UsageError: for wrong shapes, NaN or infinite entries, weights below 0,
            or sums that overflow.
    """
    d, k = sizes(state)
    rows = as_rows(features, targets, weights, d, k)
    new, good = row_blocks.push(state, rows)
    if checks.concrete(good) and not good:
        check_finite(rows)
        raise checks.UsageError(
            f"the sums overflow {new.waiting.x.dtype}; scale the features, the"
            " targets or the weights down."
        )
    return new


def merge(a: State, b: State) -> State:
    """The state of the rows of both, such as of two shards of the data.

    Associative up to rounding, which a nearly singular problem magnifies, and
    the same for the same tree of merges. Sizes of blocks may differ; that of
    `a` stays.

    Raises:
        UsageError: for other numbers of features or targets, or other dtypes.
    """
    dtypes = [state.waiting.x.dtype for state in (a, b)]
    if sizes(a) != sizes(b) or dtypes[0] != dtypes[1]:
        raise checks.UsageError(
            f"states of (D, K) {sizes(a)} in {dtypes[0]} and {sizes(b)} in"
            f" {dtypes[1]} cannot be merged; start both alike."
        )
    return row_blocks.merge(a, b)


def solve(
    state: State,
    ridge: ArrayLike,
    *,
    bias: str = "none",
    noise: ArrayLike | None = None,
) -> Weights:
    """The weights that minimise the weighted squared error plus the penalty.

    M = (A + diag(p))^-1 B with A, B the second moments: raw for bias "none";
    centred for "free", which is not penalised; and of the features with a
    constant 1 among them for "penalised", as in the ESG readout (deplm 4).

    Args:
        state: with at least one row.
        ridge: the penalty p, at least 0, [] or one a feature, [D]; beside
            sums, not means, over the rows.
        bias: one of `BIASES`; "penalised" needs one ridge for all.
        noise: variance that each feature will have at use and has not in the
            sums, such as by read noise, at least 0, [] or [D], unit of a
            feature squared. It adds noise * (sum of weights) to the penalty,
            which is the expected error over such noise (Bishop, Neural
            Comput. 7:108 (1995)).

    Returns:
        Weights, in the dtype of the state. A positive ridge so small that, by
        the rounding of A, the sum has no Cholesky factor is raised by D * eps
        times each feature's own moment. Inside jit, where nothing can be
        raised, the weights are NaN in place of an error.

    Raises:
        UsageError: for no rows, a negative or NaN ridge or noise, wrong
            shapes, an unknown bias, or a ridge of 0 where A has no full rank
            in its precision.
    """
    checks.choice("bias", bias, BIASES)
    noise = 0.0 if noise is None else noise
    for name, value in (("ridge", ridge), ("noise", noise)):
        _check_penalty(name, value, sizes(state)[0])
    if bias == "penalised" and jnp.ndim(ridge):
        raise checks.UsageError(
            f"ridge has shape {jnp.shape(ridge)}, but a penalised bias needs"
            " one number for all; use bias='free' or 'none'."
        )
    dtype = state.waiting.x.dtype
    found, weight = _solve(
        state, jnp.asarray(ridge, dtype), jnp.asarray(noise, dtype), bias
    )
    check_seen(weight)
    good = jnp.isfinite(found.matrix).all() & jnp.isfinite(found.bias).all()
    if checks.concrete(good) and not good:
        raise checks.UsageError(
            f"the second moments of the features have no full rank in {dtype},"
            f" or overflow, and ridge {ridge} is too small; take a larger one,"
            " drop duplicate features, or add rows."
        )
    return found


def predict(solution: Weights, features: ArrayLike) -> jax.Array:
    """The readout of features [..., D], as [..., K].

    Raises:
        UsageError: for another number of features.
    """
    x = jnp.asarray(features)
    d = solution.matrix.shape[0]
    if not x.ndim or x.shape[-1] != d:
        raise checks.UsageError(
            f"features have shape {x.shape}, but the readout needs [..., {d}]."
        )
    y = matmul(x.astype(solution.matrix.dtype), solution.matrix)
    return y + jnp.broadcast_to(solution.bias, y.shape)


def class_targets(labels: ArrayLike, classes: int) -> jax.Array:
    """Targets of a classifier: 1 for the class, 0 for the others.

    Args:
        labels: whole numbers in [0, classes), [N].
        classes: how many there are, K.

    Returns:
        [N, K], JAX's default float.

    Raises:
        UsageError: for labels of another kind or out of range.
    """
    checks.whole("classes", classes, 1)
    labels = jnp.asarray(labels)
    if labels.ndim != 1 or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise checks.UsageError(
            f"labels are {labels.dtype}{list(labels.shape)}, but must be whole"
            " numbers [N]."
        )
    checks.in_range("labels", labels, 0, classes - 1)
    return jax.nn.one_hot(labels, classes, dtype=float)


# Shared with the other forms and the scores.


matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def sizes(state: State) -> tuple[int, int]:
    """D and K."""
    return state.waiting.x.shape[1], state.waiting.y.shape[1]


def as_rows(
    features: ArrayLike,
    targets: ArrayLike,
    weights: ArrayLike | None,
    d: int | None = None,
    k: int | None = None,
) -> Rows:
    """Arrays of matching shapes; raises for others and for bad weights."""
    x, y = jnp.asarray(features), jnp.asarray(targets)
    matrices = x.ndim == y.ndim == 2 and x.shape[0] == y.shape[0]
    if not matrices or (d or x.shape[1], k or y.shape[1]) != (
        x.shape[1],
        y.shape[1],
    ):
        raise checks.UsageError(
            f"features {x.shape} and targets {y.shape} must be [N, {d or 'D'}]"
            f" and [N, {k or 'K'}]."
        )
    for name, a in (("features", x), ("targets", y)):
        if jnp.issubdtype(a.dtype, jnp.complexfloating):
            raise checks.UsageError(f"{name} are {a.dtype}, but must be real.")
    if weights is None:
        return Rows(x, y, jnp.ones(len(x)))
    w = jnp.asarray(weights)
    if w.shape != (len(x),):
        raise checks.UsageError(
            f"weights have shape {w.shape}, but there are {len(x)} rows."
        )
    checks.in_range("weights", w, 0)
    return Rows(x, y, w)


def check_finite(rows: Rows) -> None:
    """Raises if a row holds NaN or infinity."""
    names = ("features", "targets", "weights")
    for name, array in zip(names, rows, strict=True):
        # First where the array is: it may be large, and far from the host.
        if checks.concrete(array) and not jnp.isfinite(array).all():
            checks.finite(name, array)


def check_seen(weight: jax.Array) -> None:
    """Raises if the sum of the weights is zero."""
    if checks.concrete(weight) and weight == 0:
        raise checks.UsageError(
            "there is no row of positive weight; update the state with some"
            " before it is solved."
        )


def unexplained(ridge: jax.Array, weight: jax.Array, bias: str) -> jax.Array:
    """Share r of the means that the matrix must explain, in [0, 1].

    The bias is b = (1 - r)(mean y - M^T mean x). Without it, the problem is
    that of centred moments plus r * weight * (mean x)(mean x, mean y)^T.
    """
    if bias == "penalised":
        return ridge / (ridge + weight)
    return jnp.full_like(weight, bias == "none")


def factored_solve(
    a: jax.Array, ridges: jax.Array, rhs: jax.Array
) -> jax.Array:
    """(A + diag(ridges))^-1 rhs by Cholesky, with A scaled to diagonal 1."""
    d = len(a)
    eps = jnp.finfo(a.dtype).eps
    diagonal = a.diagonal() + ridges
    scale = jax.lax.rsqrt(jnp.where(diagonal > 0, diagonal, 1))
    scale = jax.lax.stop_gradient(scale)
    scaled = (a + jnp.diag(ridges)) * jnp.outer(scale, scale)

    def factor(m):
        return jnp.linalg.cholesky(m, symmetrize_input=False)

    lower = factor(scaled)
    positive = (ridges > 0).all()
    lower = jax.lax.cond(
        positive & ~jnp.isfinite(lower).all(),
        lambda: factor(scaled + d * eps * jnp.eye(d, dtype=a.dtype)),
        lambda: lower,
    )
    # Without a ridge, a pivot of a few rounding errors is one of zero.
    singular = ~positive & (jnp.min(lower.diagonal() ** 2) < 16 * eps)
    found = jax.scipy.linalg.cho_solve((lower, True), scale[:, None] * rhs)
    return jnp.where(singular, jnp.nan, scale[:, None] * found)


def _check_penalty(name: str, value: ArrayLike, d: int) -> None:
    """Raises unless a penalty is [] or [D] and not negative."""
    checks.in_range(name, value, 0)
    if jnp.shape(value) not in ((), (d,)):
        raise checks.UsageError(
            f"{name} has shape {jnp.shape(value)}, but must be one number or"
            f" one a feature, [{d}]."
        )


@functools.partial(jax.jit, static_argnames="bias")
def _solve(
    state: State, ridge: jax.Array, noise: jax.Array, bias: str
) -> tuple[Weights, jax.Array]:
    """The weights and the sum of the rows' weights."""
    t = row_blocks.totals(state)
    d = len(t.mean_x)
    ridges = jnp.broadcast_to(ridge, d) + t.weight * jnp.broadcast_to(noise, d)
    share = unexplained(ridge, t.weight, bias)
    pull = share * t.weight
    # A mean far above the spread would drown the rest of A: no more of it goes
    # into A than is there already, the rest comes by Sherman-Morrison.
    norm = t.mean_x @ t.mean_x
    inside = jnp.where(norm > 0, jnp.trace(t.xx) / norm, 0)
    inside = jax.lax.stop_gradient(jnp.minimum(pull, inside))
    outside = pull - inside
    a = t.xx + inside * jnp.outer(t.mean_x, t.mean_x)
    rhs = t.xy + inside * jnp.outer(t.mean_x, t.mean_y)
    rhs = jnp.concatenate([rhs, t.mean_x[:, None]], 1)
    solved = factored_solve(a, ridges, rhs)
    matrix, v = solved[:, :-1], solved[:, -1]
    left = t.mean_y - matmul(t.mean_x, matrix)
    left = left / (1 + outside * matmul(t.mean_x, v))
    matrix = matrix + outside * jnp.outer(v, left)
    matrix = jnp.where(t.weight > 0, matrix, jnp.nan)
    bias_k = (1 - share) * (t.mean_y - matmul(t.mean_x, matrix))
    return Weights(matrix, bias_k), t.weight
