"""How good made pairs of images are, as sums over batches.

What one modality is made of the other for is compared pixel by pixel; what is
made of normal vectors has no counterpart, so that sets are compared: by the
Frechet distance of the pixels of both modalities, made coarse. Our measure,
without a network; see `learn.fidelity` for features of one.

Letters: B batch, H height, W width, Z latent, K classes, F features.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxedge.core.keys import stream
from jaxedge.features import likeness
from jaxedge.learn import fidelity
from jaxedge.models.gan import Pair
from jaxedge.recipes import adversarial
from jaxedge.recipes.recipe import Sums, ratios

SPAN = 2.0  # Of values in [-1, 1].
COARSE = 8  # Pixels a side of what sets are compared by, at most.
_MOMENTS = ("real", "made")


def translated(
    model: Pair,
    variables: Any,
    first: jax.Array,
    labels_BxK: jax.Array,
    key: jax.Array | None = None,
    **apply: Any,
) -> Any:
    """The second modality of images of the first, as it is learned.

    With an encoder of reconstructions of these, as images of their class, which
    the second generator has learned from; else of the images themselves.

    Args:
        model: the networks.
        variables: of them.
        first: [B, H, W, C].
        labels_BxK: K 0 where none are used.
        key: read key; None reads without noise.
        **apply: further arguments of flax's `apply`.
    """

    def translate(model: Pair, first: jax.Array) -> jax.Array:
        if model.encodes:
            first = _again(model, first, labels_BxK, key)
        return model.second(first, key=key)

    return model.apply(variables, first, method=translate, **apply)


def _again(
    model: Pair, first: jax.Array, labels_BxK: jax.Array, key: Any
) -> jax.Array:
    """Reconstructions, whose latent vectors end in labels; in an `apply`."""
    free = model.encode(first, key=key)
    free = free[:, : model.latent - labels_BxK.shape[-1]]
    return model.first(jnp.concatenate([free, labels_BxK], -1), key=key)


def made(
    model: Pair,
    variables: Any,
    rows_B: jax.Array,
    labels_BxK: jax.Array,
    key: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Pairs of normal vectors, the same for the same rows.

    Args:
        model: the networks.
        variables: of them.
        rows_B: int, each a vector.
        labels_BxK: K 0 where none are used.
        key: read key; None reads without noise.

    Returns:
        Both modalities, [B, H, W, C] each.
    """
    free = model.latent - labels_BxK.shape[-1]
    fixed = stream(jax.random.key(0), "made")

    def draw(name: str, count: int) -> jax.Array:
        own = stream(fixed, name)
        one = lambda row: jax.random.normal(  # noqa: E731
            jax.random.fold_in(own, row), (count,)
        )
        return jax.vmap(one)(rows_B)

    z = adversarial.latents(model, fixed, labels_BxK, draw("latent", free))
    noise = draw("noise", model.noise)
    found = model.apply(variables, z, noise, key=key, method="generate")
    return found  # type: ignore[return-value]


def coarse(images: jax.Array) -> jax.Array:
    """Pixels that are means over squares of pixels, [B, H, W, C] to [B, F]."""
    batch, height, width, channels = images.shape
    across, down = (_step(n) for n in (width, height))
    x = images.reshape(
        batch, height // down, down, width // across, across, channels
    )
    return x.mean((2, 4)).reshape(batch, -1)


def _step(side: int) -> int:
    """The least divisor of a side that leaves at most `COARSE` pixels."""
    return next(
        n for n in range(1, side + 1) if not side % n and side // n <= COARSE
    )


def judge(
    model: Pair,
    variables: Any,
    batch: Any,
    labels_BxK: jax.Array,
    key: jax.Array | None,
) -> Sums:
    """Sums of a batch of pairs, see `measure`.

    Args:
        model: the networks.
        variables: of them.
        batch: x [B, H, W, 2], weight [B], and `aux` with "row".
        labels_BxK: of the batch, K 0 where none are used.
        key: read key; None reads without noise.
    """
    x, weight = batch.x, batch.weight
    first, second = x[..., :1], x[..., 1:]
    found = translated(model, variables, first, labels_BxK, key)
    sums = {"count": weight.sum()} | _likeness("", found, second, weight)
    if model.encodes:
        again = model.apply(variables, first, labels_BxK, key, method=_again)
        sums |= _likeness("first_", again, first, weight)
    sums["loss"] = sums["mae"]
    rows = batch.aux["row"]
    pair = made(model, variables, rows, labels_BxK, key)
    sets = {"real": x, "made": jnp.concatenate(pair, -1)}
    for name, images in sets.items():
        features = coarse(images.astype(jnp.float32))
        weighed = features * weight[:, None]
        sums[f"{name}_sum"] = weighed.sum(0)
        sums[f"{name}_square"] = jnp.einsum(
            "bf,bg->fg", weighed, features, precision="highest"
        )
    return sums


def _likeness(
    name: str, made: Any, real: jax.Array, weight: jax.Array
) -> dict[str, jax.Array]:
    made = made.astype(jnp.float32)
    side = min(real.shape[1:3])
    window = min(likeness.WINDOW, side - (side + 1) % 2)
    found = {
        "mae": likeness.mae(made, real),
        "psnr": likeness.psnr(made, real, span=SPAN),
        "ssim": likeness.ssim(made, real, span=SPAN, window=window),
    }
    return {f"{name}{k}": (v * weight).sum() for k, v in found.items()}


def measure(sums: Sums) -> dict[str, jax.Array]:
    """Metrics of sums.

    Returns:
        "mae", "psnr" in decibels and "ssim" of the second modality as it is
        made of the first, and of reconstructions of the first with "first_" in
        front ("ssim", a score, is 0 where it would be below); "loss", which is
        "mae"; "frechet", the distance of the coarse
        pixels of made and real pairs, and "fidelity", 1 / (1 + it).
    """
    count = sums["count"]
    means, covs = {}, {}
    for name in _MOMENTS:
        mean = sums[f"{name}_sum"] / count
        cov = sums[f"{name}_square"] / count - jnp.outer(mean, mean)
        means[name], covs[name] = mean, (cov + cov.T) / 2
    apart = fidelity.frechet(
        means["real"], covs["real"], means["made"], covs["made"]
    )
    plain = {
        k: v for k, v in sums.items() if not k.endswith(("_sum", "_square"))
    }
    found = ratios(plain)
    # A score has no values below 0.
    found["ssim"] = jnp.maximum(found["ssim"], 0)
    return found | {"frechet": apart, "fidelity": 1 / (1 + apart)}


SCORES = ("fidelity", "ssim")

__all__ = ["SCORES", "coarse", "judge", "made", "measure", "translated"]
