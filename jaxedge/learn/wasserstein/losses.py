"""The two sides of a Wasserstein game (Arjovsky, arXiv:1701.07875).

A critic f scores samples. Over all f with slopes of at most 1, the greatest
mean f(real) - mean f(fake) is the first Wasserstein distance of the two; what
bounds the slopes is in `penalty` and `constraints`.

Letters: B samples of any shape.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.learn.wasserstein import inputs

Critic = Callable[[jax.Array], jax.Array]


def critic_loss(critic: Critic, real: ArrayLike, fake: ArrayLike) -> jax.Array:
    """mean f(fake) - mean f(real), without a penalty (sequential GAN 4).

    Its negative estimates the distance, if the critic's slopes are bounded.

    Args:
        critic: f, [B, ...] -> [B] or [B, 1]; called for each side, since a
            critic that sees a whole batch would else see both.
        real: [B, ...], floating point.
        fake: same shape. Its gradient is that of the critic: where a generator
            must not learn from this loss, stop it.

    Returns:
        [], at least float32.

    Raises:
        UsageError: for shapes that differ, samples that are not finite, or
            other than one score a sample.
    """
    real, fake = inputs.pair(real, fake)
    return _mean(critic, fake) - _mean(critic, real)


def generator_loss(critic: Critic, fake: ArrayLike) -> jax.Array:
    """-mean f(fake) (sequential GAN 4).

    Args:
        critic: f, [B, ...] -> [B] or [B, 1].
        fake: [B, ...], floating point.

    Returns:
        [], at least float32.

    Raises:
        UsageError: as `critic_loss`.
    """
    return -_mean(critic, inputs.samples("fake", fake))


def _mean(critic: Critic, x: jax.Array) -> jax.Array:
    return jnp.mean(inputs.scores(critic(x), x.shape[0]))
