"""Complexity as the number of directions that images vary in (PCA).

Letters: N images of F values, their channels included; variances l_1 >= l_2 >=
... along the principal components, of the images less their mean. There are at
most N - 1 of them, so numbers of sets of another N are not comparable. A
principal component knows nothing of neighbouring pixels: a fixed permutation of
them changes nothing.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.features.complexity import stacks

SHARE = 0.95  # of the variance
RANK = 16  # components of the reconstruction
_ROUNDING = 1e-6  # of a share in float32


def k95(images: ArrayLike) -> jax.Array:
    """How many principal components hold 95 % of the variance.

    The least k with (l_1 + ... + l_k) / sum l >= 0.95, to 1e-6 for rounding.

    Args:
        images: [N, H, W] or [N, H, W, C], real, finite; N at least 2.

    Returns:
        A whole number as a scalar of at least float32, from 1 to N - 1; 0 if
        all images are equal.

    Raises:
        UsageError: for another rank, too few images, NaN or infinity.
    """
    return _k95(stacks.checked("pca_k95", images, least=2))


@jax.jit
def _k95(x: jax.Array) -> jax.Array:
    l_K = _variances(x)
    held_K, total = jnp.cumsum(l_K), jnp.sum(l_K)
    below = jnp.sum(held_K < (SHARE - _ROUNDING) * total)
    return jnp.where(total > 0, below + 1, 0).astype(x.dtype)


def participation(images: ArrayLike) -> jax.Array:
    """The participation ratio (sum l)^2 / sum l^2 of the variances.

    k equal variances, and no others, give k; no number of components is cut
    off. Source: the inverse participation ratio of the PCA spectrum, as Gao et
    al. (2017) use it for the dimension of neural activity.

    Args:
        images: [N, H, W] or [N, H, W, C], real, finite; N at least 2.

    Returns:
        A scalar of at least float32, from 1 to N - 1; 0 if all images are
        equal.

    Raises:
        UsageError: for another rank, too few images, NaN or infinity.
    """
    return _participation(stacks.checked("pca_participation", images, least=2))


@jax.jit
def _participation(x: jax.Array) -> jax.Array:
    gram = _products(x)  # Its trace is sum l, its squared norm sum l^2.
    total, squared = jnp.trace(gram), jnp.sum(gram**2)
    return total**2 / jnp.where(squared > 0, squared, 1)


def residual(images: ArrayLike) -> jax.Array:
    """The share of the variance that 16 principal components do not hold.

    What a linear code of 16 numbers an image loses: the sum of l_17, l_18, ...
    over that of all. The rank is our choice.

    Args:
        images: [N, H, W] or [N, H, W, C], real, finite; N at least 2.

    Returns:
        A scalar of at least float32 in [0, 1]; 0 for up to 17 images, or if all
        images are equal.

    Raises:
        UsageError: for another rank, too few images, NaN or infinity.
    """
    return _residual(stacks.checked("pca_residual", images, least=2))


@jax.jit
def _residual(x: jax.Array) -> jax.Array:
    # The mean took one dimension; what is left of it is rounding.
    l_K = _variances(x)[: len(x) - 1]
    total = jnp.sum(l_K)
    return jnp.sum(l_K[RANK:]) / jnp.where(total > 0, total, 1)


def _variances(x: jax.Array) -> jax.Array:
    """Variances along the components, to a factor, the largest first."""
    return jnp.maximum(jnp.linalg.eigvalsh(_products(x))[::-1], 0)


def _products(x: jax.Array) -> jax.Array:
    """Products of images or of pixels, whichever are fewer."""
    # Less one of them, images that are equal are exactly 0.
    x = stacks.unit(x).reshape(len(x), -1)
    x_NxF = x - x[:1]
    x_NxF = x_NxF - jnp.mean(x_NxF, axis=0, keepdims=True)
    # Of mean square 1: the square of their sum would overflow float32 else.
    power = jnp.mean(x_NxF**2)
    x_NxF = x_NxF / jnp.sqrt(jnp.where(power > 0, power * x.size, 1))
    wide = x_NxF.shape[0] <= x_NxF.shape[1]
    one = x_NxF if wide else x_NxF.T
    return jnp.matmul(one, one.T, precision="highest")
