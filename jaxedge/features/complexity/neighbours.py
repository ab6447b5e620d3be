"""Complexity as the intrinsic dimension of a set, by nearest neighbours.

Images are points of F values with Euclidean distances T_1 <= T_2 <= ... to
their neighbours. An image that equals another is no neighbour of it: at a
distance of 0 there is no ratio. Two neighbours that are equal are at equal
distances, as in a space of many dimensions, so a bootstrap with repeats raises
the number: draw parts of a set without repeats instead. Both estimates depend
on N, and fall short of large dimensions when it is small; compare sets of one
N.

Letters: N images of F values, K neighbours, J = K - 1 nearer than the last.
"""

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.features.complexity import stacks

NEIGHBOURS = 10  # of Levina and Bickel's estimate, who take 10 to 20


def two_nn(images: ArrayLike) -> jax.Array:
    """The intrinsic dimension by two neighbours: N / sum ln(T_2 / T_1).

    Source: Facco et al. (Sci. Rep. 7, 12140, 2017), who fit a line to the
    distribution of the ratios without the largest ones; this is the estimate of
    largest likelihood for the same distribution, from all of them.

    Args:
        images: [N, H, W] or [N, H, W, C], real, finite; N at least 3.

    Returns:
        A scalar of at least float32 in [0, F]. F, the most that F values can
        have, if all distances are equal; 0 if no image has two others that
        differ from it.

    Raises:
        UsageError: for another rank, too few images, NaN or infinity.
    """
    return _dimension(stacks.checked("two_nn", images, least=3), 2)


def levina_bickel(images: ArrayLike) -> jax.Array:
    """The intrinsic dimension by K = min(10, N - 1) neighbours.

    The inverse of the mean over images and j < K of ln(T_K / T_j). Source:
    Levina and Bickel (NIPS 17, 2004), eq. 8, averaged over inverses, as MacKay
    and Ghahramani (2005) correct it; one K instead of their mean over 10 to 20.

    Args:
        images: [N, H, W] or [N, H, W, C], real, finite; N at least 3.

    Returns:
        A scalar of at least float32 in [0, F]. F, the most that F values can
        have, if all distances are equal; 0 if no image has K others that
        differ from it.

    Raises:
        UsageError: for another rank, too few images, NaN or infinity.
    """
    x = stacks.checked("levina_bickel", images, least=3)
    return _dimension(x, min(NEIGHBOURS, len(x) - 1))


@functools.partial(jax.jit, static_argnames="k")
def _dimension(x: jax.Array, k: int) -> jax.Array:
    x_NxF = stacks.unit(x).reshape(len(x), -1)
    squared_NxK = _nearest(x_NxF, k)
    known_N = jnp.isfinite(squared_NxK[:, -1])
    squared_NxK = jnp.where(known_N[:, None], squared_NxK, 1)
    # The difference of two logarithms would be less exact where both are near.
    last_Nx1, near_NxJ = squared_NxK[:, -1:], squared_NxK[:, :-1]
    total = jnp.sum(jnp.log1p((last_Nx1 - near_NxJ) / near_NxJ)) / 2
    count = (k - 1) * jnp.sum(known_N).astype(x.dtype)
    most = x_NxF.shape[1]
    found = count / jnp.where(total > 0, total, 1)
    found = jnp.where(total > 0, jnp.minimum(found, most), most)
    return jnp.where(count > 0, found, 0)


def _nearest(x_NxF: jax.Array, k: int) -> jax.Array:
    """Squared distances to the k nearest that differ, infinite if none."""

    # |a|^2 + |b|^2 - 2ab would not be 0 for equal images.
    def row(image_F):
        squared_N = jnp.sum((x_NxF - image_F[None]) ** 2, axis=1)
        apart_N = jnp.where(squared_N > 0, squared_N, jnp.inf)
        return -jax.lax.top_k(-apart_N, k)[0]

    return jax.lax.map(row, x_NxF)
