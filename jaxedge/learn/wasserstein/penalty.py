"""Slopes of a critic, and a penalty for slopes that are not 1.

A critic sees one sample at a time here, as a batch of one, so that the slope of
a sample is by its own pixels alone. What a critic does to a whole batch it then
does to single samples: batch normalisation has the statistics of one sample
(Gulrajani, arXiv:1704.00028, section 4, advises layer normalisation instead),
and noise that a critic draws of a key of its own is the same for each.

Letters: B samples of any shape; H, W, C height, width and channels of images.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.learn.wasserstein import inputs
from jaxedge.learn.wasserstein.losses import Critic

# How other code departs from the papers, kept to repeat its results.
COMPAT = ("released",)


def slopes(critic: Critic, x: ArrayLike) -> jax.Array:
    """The slope at each sample, |df / dx|: L2 over all axes but the first.

    Args:
        critic: f, [B, ...] -> [B] or [B, 1]; called with B = 1 under
            `jax.vmap`.
        x: [B, ...], floating point, two axes or more.

    Returns:
        [B], at least 0 and at least float32, in scores per unit of x. Where a
        slope is 0, its own gradient is taken as 0.

    Raises:
        UsageError: for samples that are not finite, or other than one score a
            sample.
    """
    x = inputs.samples("x", x)
    return _norms(_gradients(critic, x), tuple(range(1, x.ndim)))


def gradient_penalty(
    critic: Critic,
    real: ArrayLike,
    fake: ArrayLike,
    key: jax.Array,
    *,
    target: ArrayLike = 1.0,
    one_sided: bool = False,
    compat: str | None = None,
) -> jax.Array:
    """The mean of (|df / dx| - target)^2 between real and fake samples.

    Each sample has a point x = real + a (fake - real) of its own a, uniform in
    [0, 1), and a slope of its own (Gulrajani, arXiv:1704.00028). The released
    code of arXiv:2308.14066 sums the squared gradient [B, H, W, C] over axis 1
    alone, which makes B W C slopes, one an image column and channel, and means
    over all of them. That asks each column for a slope of 1, the image for one
    of sqrt(W C), and is no gradient penalty: compat="released" is there to
    repeat those results, and for nothing else. Of samples with one axis, it is
    the same.

    Args:
        critic: f, [B, ...] -> [B] or [B, 1]; called with B = 1 under
            `jax.vmap`, see the module.
        real: [B, ...], floating point, two axes or more.
        fake: same shape.
        key: a typed key, shape []; consumed.
        target: the slope that is free, at least 0, a scalar.
        one_sided: whether slopes below the target are free too, as max(0,
            |df / dx| - target)^2 (Petzka, ICLR 2018).
        compat: None, or "released" for the slip of the axis.

    Returns:
        [], at least 0 and at least float32; not yet times its weight, 10 there
        and in the released code.

    Raises:
        UsageError: for shapes that differ, samples that are not finite, other
            than one score a sample, a negative target or an unknown compat.
    """
    real, fake = inputs.pair(real, fake)
    inputs.one_key(key)
    inputs.scalar("target", target)
    if compat is not None:
        checks.choice("compat", compat, COMPAT)
    gradient = _gradients(critic, _between(key, real, fake))
    axes = (1,) if compat else tuple(range(1, real.ndim))
    excess = _norms(gradient, axes) - target
    return jnp.mean(jnp.square(jax.nn.relu(excess) if one_sided else excess))


def _between(key: jax.Array, real: jax.Array, fake: jax.Array) -> jax.Array:
    """A random point of the line from each real sample to its fake one."""
    dtype = jnp.promote_types(real.dtype, fake.dtype)
    wide = inputs.at_least_float32(dtype)
    real, fake = real.astype(wide), fake.astype(wide)
    share_B = jax.random.uniform(key, real.shape[:1], wide)
    share = share_B.reshape((-1,) + (1,) * (real.ndim - 1))
    return (real + share * (fake - real)).astype(dtype)


def _gradients(critic: Critic, x: jax.Array) -> jax.Array:
    """df / dx of each sample by itself, at least float32 [B, ...]."""

    def score(one):
        return inputs.scores(critic(one[None]), 1)[0]

    gradient = jax.vmap(jax.grad(score))(x)
    return gradient.astype(inputs.at_least_float32(x.dtype))


def _norms(gradient: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """L2 over some axes, with a gradient of 0 at 0."""
    square = jnp.sum(jnp.square(gradient), axis=axes)
    some = square > 0
    # The root of 0 has no gradient, and even unused it would make NaN.
    return jnp.where(some, jnp.sqrt(jnp.where(some, square, 1)), 0)
