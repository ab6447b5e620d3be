"""What functions of images share: checks, types, boxes.

Letters: B images of H rows, W columns and C channels; K classes.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks, keys


def checked(x: ArrayLike) -> jax.Array:
    """Images, once they are known to be such."""
    x = jnp.asarray(x)
    if x.ndim != 4 or not x.size or not jnp.issubdtype(x.dtype, jnp.floating):
        raise checks.UsageError(
            f"x is {x.dtype} of shape {x.shape}, but must be floating point"
            " images [B, H, W, C]; levels become such by x / 255."
        )
    return x


def drawn_for(key: jax.Array, x: ArrayLike) -> jax.Array:
    """Images, once they and the key are known to be such."""
    keys.check_key(key)
    return checked(x)


def labelled(
    key: jax.Array, x: ArrayLike, target: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Images and the distributions of their targets [B, K], both checked."""
    x, target = drawn_for(key, x), jnp.asarray(target)
    real = jnp.issubdtype(target.dtype, jnp.floating)
    if target.ndim != 2 or len(target) != len(x) or not real:
        raise checks.UsageError(
            f"target is {target.dtype} of shape {target.shape}, but {len(x)}"
            " images need floating point [B, K]: a distribution each, as"
            " jax.nn.one_hot makes them of labels."
        )
    return x, target


def wide(x: jax.Array) -> jax.Array:
    """In float32 at least."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def per_image(a_B: jax.Array) -> jax.Array:
    """A number of each image, against its pixels."""
    return a_B[:, None, None, None]


def blend(a: jax.Array, b: jax.Array, share_B: jax.Array) -> jax.Array:
    """`share` of a and the rest of b, in the dtype of a."""
    share = share_B.reshape(-1, *[1] * (a.ndim - 1))
    return (wide(a) * share + wide(b) * (1 - share)).astype(a.dtype)


def inside(box_Bx4: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Marks the pixels with their middle in a box, [B, H, W, 1]."""
    marks = []
    for axis in (0, 1):
        middle = (jnp.arange(shape[1 + axis]) + 0.5) / shape[1 + axis]
        start = box_Bx4[:, axis, None]
        end = start + box_Bx4[:, axis + 2, None]
        marks.append((middle[None] >= start) & (middle[None] < end))
    return (marks[0][:, :, None] & marks[1][:, None, :])[..., None]
