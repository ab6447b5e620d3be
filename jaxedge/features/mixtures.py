"""Images mixed in pairs, or erased in part, at random, for training.

Letters: B images of H rows, W columns and C channels; K classes. Every image
has draws of its own, and a result has the shape and dtype of its image,
computed in at least float32. A box is (top, left, height, width) in shares of
the image's height and width.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.features import pixels
from jaxedge.features.images import fitting_boxes

_ERASED = ((0.02, 0.33), (1 / 3.3, 1 / 0.3))  # areas, width / height


def mixup(
    key: jax.Array, x: ArrayLike, target: ArrayLike, alpha: ArrayLike = 0.8
) -> tuple[jax.Array, jax.Array]:
    """Blends each image and its target with those of another (1710.09412).

    The share of the image is drawn from Beta(alpha, alpha). The others are a
    permutation of the batch, in which an image may meet itself.

    Args:
        key: consumed.
        x: [B, H, W, C].
        target: distributions over the classes, [B, K].
        alpha: positive, a scalar.

    Returns:
        x [B, H, W, C] and target [B, K].

    Raises:
        UsageError: for another shape or range.
    """
    x, target = pixels.labelled(key, x, target)
    checks.in_range("alpha", alpha, 0, open_low=True)
    return _mixup(key, x, target, alpha)


@jax.jit
def _mixup(key: jax.Array, x: Any, target: Any, alpha: Any) -> Any:
    of_share, of_other = jax.random.split(key)
    share_B = jax.random.beta(of_share, alpha, alpha, (len(x),))
    other_B = jax.random.permutation(of_other, len(x))
    mixed = pixels.blend(x, x[other_B], share_B)
    return mixed, pixels.blend(target, target[other_B], share_B)


def cutmix(
    key: jax.Array, x: ArrayLike, target: ArrayLike, alpha: ArrayLike = 1.0
) -> tuple[jax.Array, jax.Array]:
    """Pastes a box of another image at its place (arXiv:1905.04899).

    The box has the image's shape, its centre anywhere, and the share 1 - l of
    the area, l from Beta(alpha, alpha); what lies outside is cut off. Targets
    are mixed by the pixels that are really there.

    Args:
        key: consumed.
        x: [B, H, W, C].
        target: distributions over the classes, [B, K].
        alpha: positive, a scalar.

    Returns:
        x [B, H, W, C] and target [B, K].

    Raises:
        UsageError: for another shape or range.
    """
    x, target = pixels.labelled(key, x, target)
    checks.in_range("alpha", alpha, 0, open_low=True)
    return _cutmix(key, x, target, alpha)


@jax.jit
def _cutmix(key: jax.Array, x: Any, target: Any, alpha: Any) -> Any:
    of_share, of_centre, of_other = jax.random.split(key, 3)
    share_B = jax.random.beta(of_share, alpha, alpha, (len(x),))
    side_Bx2 = jnp.stack([jnp.sqrt(1 - share_B)] * 2, axis=1)
    centre_Bx2 = jax.random.uniform(of_centre, (len(x), 2))
    box_Bx4 = jnp.concatenate([centre_Bx2 - side_Bx2 / 2, side_Bx2], axis=1)
    pasted = pixels.inside(box_Bx4, x.shape)
    other_B = jax.random.permutation(of_other, len(x))
    kept_B = 1 - jnp.mean(pasted.astype(jnp.float32), axis=(1, 2, 3))
    mixed = jnp.where(pasted, x[other_B], x)
    return mixed, pixels.blend(target, target[other_B], kept_B)


def mixup_or_cutmix(
    key: jax.Array,
    x: ArrayLike,
    target: ArrayLike,
    *,
    mixup_alpha: ArrayLike = 0.8,
    cutmix_alpha: ArrayLike = 1.0,
    cutmix_chance: ArrayLike = 0.5,
) -> tuple[jax.Array, jax.Array]:
    """`cutmix` of each image with a chance, else `mixup`.

    The alphas are those of vvtq 4.5; how it chooses is unknown. Both are
    computed.

    Args:
        key: consumed.
        x: [B, H, W, C].
        target: distributions over the classes, [B, K].
        mixup_alpha: positive, a scalar.
        cutmix_alpha: positive, a scalar.
        cutmix_chance: in [0, 1].

    Returns:
        x [B, H, W, C] and target [B, K].

    Raises:
        UsageError: for another shape or range.
    """
    checks.in_range("cutmix_chance", cutmix_chance, 0, 1)
    x, target = pixels.labelled(key, x, target)
    of_choice, of_mixup, of_cutmix = jax.random.split(key, 3)
    cut_B = jax.random.bernoulli(of_choice, cutmix_chance, (len(x),))
    blended = mixup(of_mixup, x, target, mixup_alpha)
    pasted = cutmix(of_cutmix, x, target, cutmix_alpha)
    x = jnp.where(pixels.per_image(cut_B), pasted[0], blended[0])
    return x, jnp.where(cut_B[:, None], pasted[1], blended[1])


def random_erasing(
    key: jax.Array,
    x: ArrayLike,
    probability: ArrayLike = 0.25,
    mode: str = "zero",
) -> jax.Array:
    """Overwrites a box of each image with a chance (arXiv:1708.04896).

    The share of the area is uniform in [.02, .33), the height by the width
    uniform in its logarithm in [.3, 3.3); an image in which none of 10 boxes
    fits stays whole.

    Args:
        key: consumed.
        x: [B, H, W, C].
        probability: in [0, 1]; vvtq 4.5 has .25, its mode is unknown.
        mode: "zero", or "noise": a standard normal number a value, for images
            that were normalised.

    Returns:
        [B, H, W, C].

    Raises:
        UsageError: for another shape, range or mode.
    """
    x = pixels.drawn_for(key, x)
    checks.in_range("probability", probability, 0, 1)
    checks.choice("mode", mode, ("zero", "noise"))
    return _random_erasing(key, x, probability, mode)


@functools.partial(jax.jit, static_argnames="mode")
def _random_erasing(key: jax.Array, x: Any, probability: Any, mode: str) -> Any:
    of_chance, of_box, of_fill = jax.random.split(key, 3)
    erased_B = jax.random.bernoulli(of_chance, probability, (len(x),))
    box_Bx4, fits_B = fitting_boxes(
        of_box, len(x), *_ERASED, aspect=x.shape[2] / x.shape[1]
    )
    fill = jnp.zeros_like(x)
    if mode == "noise":
        fill = jax.random.normal(of_fill, x.shape, x.dtype)
    erased = pixels.per_image(erased_B & fits_B) & pixels.inside(
        box_Bx4, x.shape
    )
    return jnp.where(erased, fill, x)
