"""How unlike each other the samples of a generator are.

Letters: N images of H rows, W columns and C channels, B of them at a time.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks, keys
from jaxedge.learn.fidelity import samples
from jaxedge.learn.fidelity.samples import Spread

_BLOCK = 32  # pairs at a time


def diversity(
    key: jax.Array,
    images_NxHxWxC: ArrayLike,
    likeness: Callable[[jax.Array, jax.Array], jax.Array],
    *,
    pairs: int = 100,
) -> Spread:
    """The likeness of random pairs of samples: the lower, the more diverse.

    With multi-scale structural similarity (arXiv:1610.09585, section 4.2). A
    generator that makes one image only has a likeness of 1 in the mean; what a
    good one has, the same number of real images tells.

    Args:
        key: consumed.
        images_NxHxWxC: N >= 2 samples.
        likeness: from x and y, [B, H, W, C] each, to [B], such as
            `jaxedge.features.likeness.ms_ssim` with its span.
        pairs: of unequal rows, drawn with replacement, at least 2; the default
            is ours.

    Returns:
        Mean and deviation over pairs.

    Raises:
        UsageError: for fewer than 2 samples, NaN, a number out of range, or a
            likeness that does not give one number a pair.
    """
    keys.check_key(key)
    images = samples.rows("images_NxHxWxC", images_NxHxWxC, ndim=4)
    checks.whole("pairs", pairs, 2)
    of_first, of_step = jax.random.split(key)
    first_P = jax.random.randint(of_first, (pairs,), 0, len(images))
    step_P = jax.random.randint(of_step, (pairs,), 1, len(images))
    second_P = (first_P + step_P) % len(images)
    size, found = min(_BLOCK, pairs), []
    for start in range(0, pairs, size):
        # Of one size, so that one program serves all: the last block goes back
        # for pairs that it has already.
        at = slice(min(start, pairs - size), min(start, pairs - size) + size)
        value = likeness(images[first_P[at]], images[second_P[at]])
        if jnp.shape(value) != (size,):
            raise checks.UsageError(
                f"likeness gives shape {jnp.shape(value)} for {size} pairs, but"
                f" must give {(size,)}: one number each."
            )
        found.append(value[start - at.start :])
    return samples.spread(jnp.concatenate(found))
