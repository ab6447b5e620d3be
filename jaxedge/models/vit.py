"""Vision transformers, whose matrices are whatever leaf they find.

Dosovitskiy et al., arXiv:2010.11929, in the sizes of DeiT (Touvron et al.,
arXiv:2012.12877): patches as tokens, learned positions, and a layer
normalisation before each part. Queries, keys and values are matrices of their
own, so that each may have its own hardware (VVTQ, arXiv:2307.00331).

Letters: B batch, H height, W width, C channels, T tokens, N heads, D size of a
head.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks
from jaxedge.models import torch_arrays
from jaxedge.models.layers import Conv, Dense, site
from jaxedge.models.resnet import normalised
from jaxedge.models.resnet_large import MEAN, STD
from jaxedge.models.torch_arrays import Naming

POOLS = ("token", "mean")
INIT = nn.initializers.truncated_normal(0.02)


class Attention(nn.Module):
    """Attention of every token to all tokens of its sequence.

    What it multiplies are places where a leaf may quantise: "query_site",
    "key_site" and "value_site" [..., N, T, D], "prob_site" [..., N, T, T].

    Attributes:
        heads: N, a divisor of the width.
    """

    heads: int

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        key: jax.Array | None,
        bias: jax.Array | None = None,
    ) -> jax.Array:
        """Mixes tokens.

        Args:
            x: sequences, [..., T, width].
            key: read key, consumed.
            bias: of the scores, of their rank [..., N, T, T]; None is 0.

        Returns:
            As `x`.
        """
        width = x.shape[-1]

        def project(name: str) -> jax.Array:
            y = Dense(width, INIT, bias=True, name=name)(x, key)
            y = y.reshape(*x.shape[:-1], self.heads, -1).swapaxes(-2, -3)
            return site(self, f"{name}_site", y)

        q, k, v = (project(name) for name in ("query", "key", "value"))
        scores = jnp.einsum("...td,...sd->...ts", q, k) * q.shape[-1] ** -0.5
        scores = scores.astype(jnp.promote_types(x.dtype, jnp.float32))
        if bias is not None:
            scores = scores + bias.astype(scores.dtype)
        share = jax.nn.softmax(scores, -1).astype(x.dtype)
        share = site(self, "prob_site", share)
        y = jnp.einsum("...ts,...sd->...td", share, v)
        y = y.swapaxes(-2, -3).reshape(x.shape)
        return Dense(width, INIT, bias=True, name="out")(y, key)


class FeedForward(nn.Module):
    """Two matrices with an exact GELU between them.

    Attributes:
        hidden: outputs of the first.
    """

    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        y = Dense(self.hidden, INIT, bias=True, name="up")(x, key)
        y = jax.nn.gelu(y, approximate=False)
        return Dense(x.shape[-1], INIT, bias=True, name="down")(y, key)


class Block(nn.Module):
    """Attention and a feed-forward part, each added to its input.

    Attributes:
        heads: of the attention.
        hidden: width of the feed-forward part.
        eps: of the normalisations.
        drop: rate at which a part of an example is left out in training.
    """

    heads: int
    hidden: int
    eps: float
    drop: float = 0.0

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, key: jax.Array | None
    ) -> jax.Array:
        y = layer_norm(x, self.eps, "attention_norm")
        y = Attention(self.heads, name="attention")(y, key)
        x = x + drop_path(y, self.drop, train)
        y = layer_norm(x, self.eps, "mlp_norm")
        y = FeedForward(self.hidden, name="mlp")(y, key)
        return x + drop_path(y, self.drop, train)


class Vit(nn.Module):
    """Vision transformer: images [B, H, W, C] in [0, 1] to [B, classes].

    It normalises the images itself. `deit_tiny` and `deit_small` are the
    published sizes.

    Attributes:
        classes: number of outputs.
        image: height and width of the images, one number if they are equal.
        patch: height and width of a patch, which divides both.
        width: entries of a token, a multiple of `heads`.
        depth: number of blocks.
        heads: N.
        mlp: hidden entries of the feed-forward parts, in widths (rounded
            down).
        pool: what the classifier sees: "token", a token of the class that is
            put before the patches, or "mean", of the tokens of the patches.
        eps: of the normalisations.
        drop_path: rate at which the parts of the last block are left out in
            training, for each example by itself; it rises from 0 in the first
            block linearly. Above 0 training needs an rng "dropout".
        mean: what is subtracted from each channel of the image.
        std: what the channels are divided by after that.
    """

    classes: int = 1000
    image: int | tuple[int, int] = 224
    patch: int = 16
    width: int = 192
    depth: int = 12
    heads: int = 3
    mlp: float = 4.0
    pool: str = "token"
    eps: float = 1e-6
    drop_path: float = 0.0
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool = False,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Scores of the classes.

        Args:
            x: [B, H, W, C] in [0, 1].
            train: whether parts are left out.
            key: read key, consumed.

        Raises:
            UsageError: for sizes that do not fit.
        """
        self._check(x)
        x = normalised(x, self.mean, self.std)
        x = embed_patches(x, self.width, self.patch, key)
        x = x.reshape(x.shape[0], -1, self.width)
        if self.pool == "token":
            token = self.param("token", INIT, (1, 1, self.width))
            token = jnp.asarray(token, x.dtype)
            token = jnp.broadcast_to(token, (x.shape[0], 1, self.width))
            x = jnp.concatenate([token, x], 1)
        position = self.param("position_embedding", INIT, x.shape[1:])
        x = x + jnp.asarray(position, x.dtype)[None]
        for i, drop in enumerate(rising(self.drop_path, self.depth)):
            hidden = int(self.mlp * self.width)
            block = Block(self.heads, hidden, self.eps, drop, name=f"block_{i}")
            x = block(x, train, key)
        x = layer_norm(x, self.eps, "norm")
        x = x[:, 0] if self.pool == "token" else x.mean(1)
        return Dense(self.classes, INIT, bias=True, name="head")(x, key)

    def _check(self, x: jax.Array) -> None:
        checks.choice("pool", self.pool, POOLS)
        for name in ("classes", "patch", "width", "depth", "heads"):
            checks.whole(name, getattr(self, name), 1)
        checks.in_range("drop_path", self.drop_path, 0, 0.999)
        checks.in_range("mlp", self.mlp, 1 / self.width)
        check_heads(self.width, self.heads)
        check_image(x, self.image, self.patch)


def deit_tiny(**changes: Any) -> Vit:
    """DeiT-T: 5,717,416 parameters for 1,000 classes.

    Args:
        changes: attributes of `Vit` that differ from it.
    """
    return Vit(**{"width": 192, "heads": 3, **changes})


def deit_small(**changes: Any) -> Vit:
    """DeiT-S: 22,050,664 parameters for 1,000 classes.

    Args:
        changes: attributes of `Vit` that differ from it.
    """
    return Vit(**{"width": 384, "heads": 6, **changes})


def layer_norm(x: jax.Array, eps: float, name: str) -> jax.Array:
    """Layer normalisation, computed in float32 at least."""
    # The fast variance, E x^2 - (E x)^2, loses digits where the mean is large.
    norm = nn.LayerNorm(
        epsilon=eps, dtype=x.dtype, use_fast_variance=False, name=name
    )
    return norm(x)


def drop_path(y: jax.Array, rate: float, train: bool) -> jax.Array:
    """In training 0 for some examples, and y / (1 - rate) for the others.

    Stochastic depth (Huang et al., arXiv:1603.09382); its keys are of the rng
    "dropout". To be called in a module.
    """
    axes = tuple(range(1, y.ndim))
    return nn.Dropout(rate, broadcast_dims=axes)(y, deterministic=not train)


def rising(rate: float, depth: int) -> list[float]:
    """Rates of `depth` blocks, from 0 to `rate`; of a lone block 0."""
    return np.linspace(0, rate, depth).tolist()


def embed_patches(
    x: jax.Array, width: int, patch: int, key: jax.Array | None
) -> jax.Array:
    """Patches as tokens: [B, H / patch, W / patch, width]."""
    conv = Conv(width, (patch, patch), patch, "VALID", bias=True, name="patch")
    return conv(x, key)


def check_heads(width: int, heads: int) -> None:
    """Raises UsageError unless a width falls into equal heads."""
    if width % heads:
        raise checks.UsageError(
            f"a width of {width} is no multiple of {heads} heads; change one of"
            " them."
        )


def check_image(x: jax.Array, image: int | tuple[int, int], patch: int) -> None:
    """Raises UsageError unless images have their size, in whole patches."""
    size = (image, image) if isinstance(image, int) else tuple(image)
    for side in size:
        checks.whole("image", side, 1)
        if side % patch:
            raise checks.UsageError(
                f"image is {image}, but must be a multiple of the patch,"
                f" {patch}."
            )
    if x.ndim != 4 or x.shape[1:3] != size:
        raise checks.UsageError(
            f"images have shape {tuple(x.shape)}, but must be"
            f" [B, {size[0]}, {size[1]}, C]; resize them, or set `image` of the"
            " network."
        )


_TIMM = {
    "token": "cls_token",
    "position_embedding": "pos_embed",
    "patch": "patch_embed.proj",
    "block_{}/attention_norm": "blocks.{}.norm1",
    "block_{}/attention/query": "blocks.{}.attn.qkv:0",
    "block_{}/attention/key": "blocks.{}.attn.qkv:1",
    "block_{}/attention/value": "blocks.{}.attn.qkv:2",
    "block_{}/attention/out": "blocks.{}.attn.proj",
    "block_{}/mlp_norm": "blocks.{}.norm2",
    "block_{}/mlp/up": "blocks.{}.mlp.fc1",
    "block_{}/mlp/down": "blocks.{}.mlp.fc2",
    "norm": "norm",
    "head": "head",
}
_TORCHVISION = {
    "token": "class_token",
    "position_embedding": "encoder.pos_embedding",
    "patch": "conv_proj",
    "block_{}/attention_norm": "encoder.layers.encoder_layer_{}.ln_1",
    "block_{}/attention/query": (
        "encoder.layers.encoder_layer_{}.self_attention.in_proj_:0"
    ),
    "block_{}/attention/key": (
        "encoder.layers.encoder_layer_{}.self_attention.in_proj_:1"
    ),
    "block_{}/attention/value": (
        "encoder.layers.encoder_layer_{}.self_attention.in_proj_:2"
    ),
    "block_{}/attention/out": (
        "encoder.layers.encoder_layer_{}.self_attention.out_proj"
    ),
    "block_{}/mlp_norm": "encoder.layers.encoder_layer_{}.ln_2",
    "block_{}/mlp/up": "encoder.layers.encoder_layer_{}.mlp.0",
    "block_{}/mlp/down": "encoder.layers.encoder_layer_{}.mlp.3",
    "norm": "encoder.ln",
    "head": "heads.head",
}
# As in files; the networks of transformers 5 have other names for them.
_TRANSFORMERS = {
    "token": "embeddings.cls_token",
    "position_embedding": "embeddings.position_embeddings",
    "patch": "embeddings.patch_embeddings.projection",
    "block_{}/attention_norm": "encoder.layer.{}.layernorm_before",
    "block_{}/attention/query": "encoder.layer.{}.attention.attention.query",
    "block_{}/attention/key": "encoder.layer.{}.attention.attention.key",
    "block_{}/attention/value": "encoder.layer.{}.attention.attention.value",
    "block_{}/attention/out": "encoder.layer.{}.attention.output.dense",
    "block_{}/mlp_norm": "encoder.layer.{}.layernorm_after",
    "block_{}/mlp/up": "encoder.layer.{}.intermediate.dense",
    "block_{}/mlp/down": "encoder.layer.{}.output.dense",
    "norm": "layernorm",
    "head": "classifier",
}
_NAMINGS = (
    Naming("timm", ("blocks.0.norm1.weight",), _TIMM),
    Naming(
        "torchvision",
        ("encoder.layers.encoder_layer_0.ln_1.weight",),
        _TORCHVISION,
    ),
    Naming(
        "transformers",
        ("encoder.layer.0.layernorm_before.weight",),
        _TRANSFORMERS,
    ),
)


def from_torch(model: Vit, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Variables of a network from the tensors of a PyTorch network.

    Args:
        model: the network that the tensors are of; beside its sizes, check
            `eps`, `mean` and `std`, which no tensor tells.
        arrays: by their names in timm, torchvision or files of transformers
            (`ViTForImageClassification`), such as
            `safetensors.numpy.load_file` gives them.

    Returns:
        "params" in numpy, float32.

    Raises:
        UsageError: for names of no such network, and tensors that are missing,
            that have no place, are of another shape or type or not finite.
    """
    size = model.image
    height, width = (size, size) if isinstance(size, int) else size
    image = (height, width, len(model.mean))
    return torch_arrays.variables(model, image, arrays, _NAMINGS)
