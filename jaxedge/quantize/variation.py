"""Weights that wander between codes: a regulariser, a tracker, statistics.

A weight near the middle between two levels of its grid changes its code at
every step of training, back and forth. The regulariser draws weights to their
levels, the tracker counts the oscillations and can hold the worst, and
`fluctuation` tells how much the parts of a module differ (vvtq 4.3 and 4.4).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.quantize import integer

_MOST_BINS = 256


def bin_regulariser(
    w: jax.Array,
    step: ArrayLike,
    *,
    bits: ArrayLike,
    grad_scale: ArrayLike = 1.0,
) -> jax.Array:
    """How far weights are from their levels, and how they spread within bins.

    mean((sg(w_hat) - w_clip)^2) + sum_k Var(w_clip | code k), with w_hat the
    rounded and w_clip the clipped weights, sg a stopped gradient, and the
    unbiased variance over the members of a bin, where there are two or more
    (vvtq 4.3). Members are found by their codes; the released code compares
    rounded floats and misses some (vvtq 7.3). Gradients reach the weights
    inside the range, and the step through those outside.

    The paper has one step a module. Of several steps each bin holds what has
    one code, whichever its step, and the variance is that of w_clip - w_hat:
    with one step the same number, as w_hat is constant in a bin, and with
    several neither their differences nor their count enter. For bins of each
    channel apart, sum a `vmap` over the channels.

    Args:
        w: any shape, floating point; computed in float32, in memory of a few
            times its size.
        step: as for `integer.lsq`.
        bits: [], as for `integer.limits`; signed.
        grad_scale: of the step's gradient, as for `integer.lsq`.

    Returns:
        float32 [], at least 0; the sum over modules and the factor, from
        `schedule`, are the caller's.
    """
    low, high = integer.limits(bits)
    if jnp.ndim(high):
        raise checks.UsageError(
            f"bits has shape {jnp.shape(high)}, but must be one number; vmap"
            " over parts of other bits."
        )
    known = isinstance(bits, (int, np.integer))
    bins = 2 ** int(bits) if known else _MOST_BINS
    w = w.astype(jnp.float32)
    clip = integer.clipped(w, step, low=low, high=high, grad_scale=grad_scale)
    level = integer.lsq(w, step, low=low, high=high)
    off = (clip - jax.lax.stop_gradient(level)).ravel()
    code = integer.code(w, step, low=low, high=high).ravel()
    code = code - jnp.asarray(low, jnp.int32)
    # The slope of the mean is that of sum(off - mean), which is 0.
    still = jax.lax.stop_gradient(off)
    count = jax.ops.segment_sum(jnp.ones_like(code), code, bins)
    mean = jax.ops.segment_sum(still, code, bins) / jnp.maximum(count, 1)
    squares = jax.ops.segment_sum((off - mean[code]) ** 2, code, bins)
    spread = jnp.where(count > 1, squares / jnp.maximum(count - 1, 1), 0)
    return jnp.mean(off**2) + jnp.sum(spread)


def schedule(
    share: ArrayLike, *, start: ArrayLike = 0.25, top: ArrayLike = 0.01
) -> jax.Array:
    """The regulariser's factor: 0, then half a cosine up to `top`.

    top (1 - cos(pi (share - start) / (1 - start))) / 2 from `start` on (vvtq
    4.3; the pre-training variant starts at .05 and rises to .001).

    Args:
        share: of training that is done, in [0, 1], any shape.
        start: share at which it begins to rise, in [0, 1).
        top: factor at the end, at least 0.

    Returns:
        float32, shape of `share`.
    """
    checks.in_range("share", share, 0, 1)
    checks.in_range("start", start, 0)
    checks.ordered("start", start, "the end of training", 1)
    checks.in_range("top", top, 0)
    share, start, top = (
        jnp.asarray(a, jnp.float32) for a in (share, start, top)
    )
    risen = jnp.maximum((share - start) / (1 - start), 0)
    return 0.5 * top * (1 - jnp.cos(jnp.pi * risen))


class Tracker(NamedTuple):
    """The recent history of codes, all of one shape; ten bytes a weight.

    Attributes:
        codes: at the last step, int8.
        direction: -1, 0 or 1, sign of the last change of each; 0 before, int8.
        rate: of oscillations a step, exponential moving average, float32.
        mean: of the codes, exponential moving average, float32.
    """

    codes: jax.Array
    direction: jax.Array
    rate: jax.Array
    mean: jax.Array


def start(codes: jax.Array) -> Tracker:
    """The tracker of codes that never changed.

    Args:
        codes: from `integer.code`, of signed integers of at most 8 bits.

    Raises:
        UsageError: for another dtype, or codes beyond int8.
    """
    _check_codes("codes", codes)
    return Tracker(
        codes.astype(jnp.int8),
        jnp.zeros(codes.shape, jnp.int8),
        jnp.zeros(codes.shape, jnp.float32),
        codes.astype(jnp.float32),
    )


def track(
    tracker: Tracker, codes: jax.Array, momentum: ArrayLike = 0.001
) -> Tracker:
    """The tracker after one more step.

    A code oscillates when it changes against the direction of its last change,
    however long ago that was (vvtq 4.4).

    Args:
        tracker: of the step before.
        codes: of this step, shape of the tracker's.
        momentum: weight of this step in the averages, in [0, 1].
    """
    _check_codes("codes", codes)
    _check_shapes(tracker=tracker.codes, codes=codes)
    checks.in_range("momentum", momentum, 0, 1)
    # In int32, as a change may be of 255 codes.
    now, then = codes.astype(jnp.int32), tracker.codes.astype(jnp.int32)
    change = jnp.sign(now - then).astype(jnp.int8)
    turned = (change * tracker.direction == -1).astype(jnp.float32)
    return Tracker(
        codes.astype(jnp.int8),
        jnp.where(change == 0, tracker.direction, change),
        tracker.rate + momentum * (turned - tracker.rate),
        tracker.mean + momentum * (codes.astype(jnp.float32) - tracker.mean),
    )


def oscillating(tracker: Tracker, threshold: ArrayLike = 0.005) -> jax.Array:
    """The share of weights whose rate exceeds a threshold, float32 []."""
    checks.in_range("threshold", threshold, 0, 1)
    return jnp.mean((tracker.rate > threshold).astype(jnp.float32))


class Held(NamedTuple):
    """Weights that are held at a code, both of the weights' shape.

    Attributes:
        mask: true where held, bool.
        codes: to hold them at, int8; of the others, those they have now.
    """

    mask: jax.Array
    codes: jax.Array


def freeze(
    tracker: Tracker, held: Held | None = None, *, threshold: ArrayLike = 0.1
) -> Held:
    """Which weights to hold from now on, at their mean code, half to even.

    Use the weight step * codes where the mask is true, and give `track` the
    codes in use. A weight stays held, at the code it was first held at; in the
    released code, where freezing is optional, that code follows the mean until
    the rate has fallen again (vvtq 4.4).

    Args:
        tracker: after this step.
        held: what was held before.
        threshold: rate beyond which a weight is held, in [0, 1]; a few times
            the momentum or more, else a single oscillation is enough.
    """
    checks.in_range("threshold", threshold, 0, 1)
    settled = jnp.round(tracker.mean).astype(jnp.int8)
    mask = tracker.rate > threshold
    if held is None:
        return Held(mask, jnp.where(mask, settled, tracker.codes))
    _check_shapes(tracker=tracker.codes, held=held.mask)
    codes = jnp.where(mask, settled, tracker.codes)
    return Held(mask | held.mask, jnp.where(held.mask, held.codes, codes))


def flips(before: jax.Array, after: jax.Array) -> jax.Array:
    """The share of codes that changed, float32 [].

    Args:
        before: codes of the same weights, any shape.
        after: codes later, same shape.
    """
    _check_shapes(before=before, after=after)
    return jnp.mean((before != after).astype(jnp.float32))


class Fluctuation(NamedTuple):
    """How much the weights of a module vary, float32 [] each.

    Attributes:
        mean: of |w|, over all weights.
        spread: standard deviation over the parts of their mean |w|.
        relative: spread / mean, 0 where all weights are 0.
        kurtosis: fourth central moment over the variance squared, less the 3
            of a normal distribution; 0 where all weights are equal.
        outliers: share of weights over 3 standard deviations from the mean
            weight; .0027 of a normal distribution.
    """

    mean: jax.Array
    spread: jax.Array
    relative: jax.Array
    kurtosis: jax.Array
    outliers: jax.Array


def fluctuation(
    w: jax.Array,
    step: ArrayLike | None = None,
    *,
    axis: int | Sequence[int] = -1,
) -> Fluctuation:
    """Statistics of how uneven a module is, to compare modules with.

    The paper compares the spread of absolute means between modules; its exact
    statistics are unknown (vvtq 8), and these are ours. No gradient flows.

    Args:
        w: weights of a module, floating point.
        step: None, or as for `integer.lsq`: then weights count in steps, which
            is how a quantiser sees them.
        axis: that or those of the parts: -1 for the channels of [I, O], 0 for
            the heads of [heads, I, O].
    """
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    bad = [a for a in axes if not -w.ndim <= a < w.ndim]
    if bad:
        raise checks.UsageError(
            f"axis holds {bad[0]}, but w has shape {w.shape}; give axes in"
            f" [{-w.ndim}, {w.ndim})."
        )
    w = jax.lax.stop_gradient(w.astype(jnp.float32))
    if step is not None:
        w = w / integer.fitted_step(step, w.shape)
    parts = {a % w.ndim for a in axes}
    others = tuple(a for a in range(w.ndim) if a not in parts)
    size = jnp.mean(jnp.abs(w), others)
    mean, spread = jnp.mean(size), jnp.std(size)
    off = w - jnp.mean(w)
    # Of equal weights the mean is not exact, and `off` is rounding alone.
    varied = jnp.max(w) > jnp.min(w)
    z = jnp.where(varied, off / jnp.where(varied, jnp.std(w), 1), 0)
    return Fluctuation(
        mean,
        spread,
        spread / jnp.where(mean > 0, mean, 1),
        jnp.where(varied, jnp.mean(z**4) - 3, 0),
        jnp.mean((jnp.abs(z) > 3).astype(jnp.float32)),
    )


def _check_codes(name: str, codes: jax.Array) -> None:
    if not jnp.issubdtype(codes.dtype, jnp.integer):
        raise checks.UsageError(
            f"{name} is {codes.dtype}, but must be whole numbers; take them"
            " from integer.code."
        )
    checks.in_range(name, codes, -128, 127)


def _check_shapes(**arrays: jax.Array) -> None:
    """Raises unless all arrays, given by name, have one shape."""
    shapes = {name: jnp.shape(array) for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        found = " and ".join(f"{n} {shape}" for n, shape in shapes.items())
        raise checks.UsageError(f"{found} must have one shape.")
