"""Swin transformers, whose matrices are whatever leaf they find.

Liu et al., arXiv:2103.14030: attention within windows, which every second block
shifts by half, with a learned bias for every distance; between stages four
neighbours become one token of twice the width.

Letters: B batch, H height, W width, C channels, K windows, T tokens of one, N
heads, S side of an image in tokens.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks
from jaxedge.models import torch_arrays
from jaxedge.models.layers import Dense
from jaxedge.models.resnet import normalised
from jaxedge.models.resnet_large import MEAN, STD
from jaxedge.models.torch_arrays import Naming
from jaxedge.models.vit import (
    INIT,
    Attention,
    FeedForward,
    check_heads,
    check_image,
    drop_path,
    embed_patches,
    layer_norm,
    rising,
)

# Added to the score of tokens that are neighbours in a shifted window alone.
_APART = -100.0


class Block(nn.Module):
    """Attention within windows and a feed-forward part, each added.

    Attributes:
        heads: of the attention.
        window: height and width of the windows.
        shift: rows and columns that they are shifted by.
        hidden: width of the feed-forward part.
        eps: of the normalisations.
        drop: rate at which a part of an example is left out in training.
    """

    heads: int
    window: tuple[int, int]
    shift: tuple[int, int]
    hidden: int
    eps: float
    drop: float = 0.0

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, key: jax.Array | None
    ) -> jax.Array:
        size = x.shape[1:3]
        y = layer_norm(x, self.eps, "attention_norm")
        y = _roll(y, self.shift, -1)
        y = _windows(y, self.window)
        y = Attention(self.heads, name="attention")(y, key, self._bias(size))
        y = _roll(_whole(y, self.window, size), self.shift, 1)
        x = x + drop_path(y, self.drop, train)
        y = layer_norm(x, self.eps, "mlp_norm")
        y = FeedForward(self.hidden, name="mlp")(y, key)
        return x + drop_path(y, self.drop, train)

    def _bias(self, size: tuple[int, ...]) -> jax.Array:
        """What is added to the scores, [1, 1 or K, N, T, T]."""
        high, broad = self.window
        distances = (2 * high - 1) * (2 * broad - 1)
        table = self.param("position_embedding", INIT, (distances, self.heads))
        bias = jnp.asarray(table)[_distances(self.window)]
        bias = jnp.moveaxis(bias, -1, 0)[None, None]
        if not any(self.shift):
            return bias
        apart = _apart(size, self.window, self.shift)
        return bias + jnp.asarray(apart, bias.dtype)[None, :, None]


class Swin(nn.Module):
    """Swin transformer: images [B, H, W, C] in [0, 1] to [B, classes].

    It normalises the images itself. `swin_tiny` is a published size.

    Attributes:
        classes: number of outputs.
        image: height and width of the images, one number if they are equal.
        patch: height and width of a patch.
        width: entries of a token in the first stage; they double in each.
        depths: blocks of each stage.
        heads: N of each stage.
        window: side of a window in tokens; where the image is smaller, it is
            one window. It divides the image of every stage.
        mlp: hidden entries of the feed-forward parts, in widths (rounded
            down).
        eps: of the normalisations.
        drop_path: rate at which the parts of the last block are left out in
            training, for each example by itself; it rises from 0 in the first
            block linearly. Above 0 training needs an rng "dropout".
        mean: what is subtracted from each channel of the image.
        std: what the channels are divided by after that.
    """

    classes: int = 1000
    image: int | tuple[int, int] = 224
    patch: int = 4
    width: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: int = 7
    mlp: float = 4.0
    eps: float = 1e-5
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
        x = layer_norm(x, self.eps, "patch_norm")
        drops = iter(rising(self.drop_path, sum(self.depths)))
        for i, (depth, heads) in enumerate(
            zip(self.depths, self.heads, strict=True)
        ):
            if i:
                x = _neighbours(x)
                x = layer_norm(x, self.eps, f"merge_norm_{i}")
                merge = Dense(x.shape[-1] // 2, INIT, name=f"merge_{i}")
                x = merge(x, key)
            high, broad = (min(self.window, side) for side in x.shape[1:3])
            # One window has nowhere to be shifted to.
            half = tuple(
                n // 2 if n < side else 0
                for n, side in zip((high, broad), x.shape[1:3], strict=True)
            )
            for j in range(depth):
                block = Block(
                    heads,
                    (high, broad),
                    (half[0], half[1]) if j % 2 else (0, 0),
                    int(self.mlp * x.shape[-1]),
                    self.eps,
                    next(drops),
                    name=f"block_{i}_{j}",
                )
                x = block(x, train, key)
        x = layer_norm(x, self.eps, "norm").mean((1, 2))
        return Dense(self.classes, INIT, bias=True, name="head")(x, key)

    def _check(self, x: jax.Array) -> None:
        for name in ("classes", "patch", "width", "window"):
            checks.whole(name, getattr(self, name), 1)
        checks.in_range("drop_path", self.drop_path, 0, 0.999)
        checks.in_range("mlp", self.mlp, 1 / self.width)
        check_image(x, self.image, self.patch)
        if not 0 < len(self.depths) == len(self.heads):
            raise checks.UsageError(
                f"depths are {self.depths} and heads {self.heads}, but every"
                " stage has one of each."
            )
        sides = [side // self.patch for side in x.shape[1:3]]
        for i, (depth, heads) in enumerate(
            zip(self.depths, self.heads, strict=True)
        ):
            checks.whole("depths", depth, 1)
            checks.whole("heads", heads, 1)
            check_heads(self.width * 2**i, heads)
            if i and any(side % 2 for side in sides):
                raise checks.UsageError(
                    f"stage {i} has {sides[0]} x {sides[1]} tokens, of which no"
                    " two by two can be merged; change `image` or `depths`."
                )
            sides = [side // 2 for side in sides] if i else sides
            if any(side % min(side, self.window) for side in sides):
                raise checks.UsageError(
                    f"window is {self.window}, but must divide the {sides[0]} x"
                    f" {sides[1]} tokens of stage {i + 1}."
                )


def swin_tiny(**changes: Any) -> Swin:
    """Swin-T: 28,288,354 parameters for 1,000 classes.

    Args:
        changes: attributes of `Swin` that differ from it.
    """
    return Swin(**changes)


def _roll(x: jax.Array, shift: tuple[int, int], sign: int) -> jax.Array:
    """Rows and columns moved on, those at the end to the front."""
    if not any(shift):
        return x
    return jnp.roll(x, (sign * shift[0], sign * shift[1]), (1, 2))


def _windows(x: Any, window: tuple[int, int]) -> Any:
    """[B, S, S, C] to [B, K, T, C]."""
    b, high, broad, c = x.shape
    h, w = window
    x = x.reshape(b, high // h, h, broad // w, w, c).swapaxes(2, 3)
    return x.reshape(b, -1, h * w, c)


def _whole(
    x: jax.Array, window: tuple[int, int], size: tuple[int, ...]
) -> jax.Array:
    """[B, K, T, C] to [B, S, S, C]."""
    (high, broad), (h, w) = size, window
    x = x.reshape(x.shape[0], high // h, broad // w, h, w, -1).swapaxes(2, 3)
    return x.reshape(x.shape[0], high, broad, -1)


def _neighbours(x: jax.Array) -> jax.Array:
    """[B, S, S, C] to [B, S / 2, S / 2, 4 C], column by column."""
    parts = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
    return jnp.concatenate(parts, -1)


def _distances(window: tuple[int, int]) -> np.ndarray:
    """Row of the table for each two tokens of a window, [T, T]."""
    row, column = (a.reshape(-1) for a in np.indices(window))  # Of every token.
    down = row[:, None] - row[None] + window[0] - 1
    along = column[:, None] - column[None] + window[1] - 1
    return down * (2 * window[1] - 1) + along


def _apart(
    size: tuple[int, ...], window: tuple[int, int], shift: tuple[int, int]
) -> np.ndarray:
    """`_APART` where two tokens of a shifted window are no neighbours.

    Returns:
        [K, T, T], 0 elsewhere.
    """
    # What came round from the other end, along each axis.
    round_, across = (
        (np.arange(n) >= n - by).astype(int)
        for n, by in zip(size, shift, strict=True)
    )
    region = 2 * round_[:, None] + across[None]
    regions = np.asarray(_windows(region[None, :, :, None], window))[0, :, :, 0]
    return np.where(regions[:, :, None] == regions[:, None], 0.0, _APART)


_JOINT = {
    "attention_norm": "norm1",
    "position_embedding": "attn.relative_position_bias_table",
    "attention/query": "attn.qkv:0",
    "attention/key": "attn.qkv:1",
    "attention/value": "attn.qkv:2",
    "attention/out": "attn.proj",
    "mlp_norm": "norm2",
    "mlp/up": "mlp.fc1",
    "mlp/down": "mlp.fc2",
}
_SPLIT = {
    "attention_norm": "layernorm_before",
    "position_embedding": "attention.self.relative_position_bias_table",
    "attention/query": "attention.self.query",
    "attention/key": "attention.self.key",
    "attention/value": "attention.self.value",
    "attention/out": "attention.output.dense",
    "mlp_norm": "layernorm_after",
    "mlp/up": "intermediate.dense",
    "mlp/down": "output.dense",
}
# The feed-forward part of torchvision is a sequence.
_SEQUENCE = {**_JOINT, "mlp/up": "mlp.0", "mlp/down": "mlp.3"}


def _naming(
    model: Swin,
    library: str,
    around: Mapping[str, str],
    parts: Mapping[str, str],
    block: Callable[[int, int], str],
    merge: Callable[[int], str],
) -> Naming:
    """How a library names the tensors of a network.

    Args:
        model: the network.
        library: its name.
        around: the parts before and behind the blocks.
        parts: those of a block, within it.
        block: (stage, place in it) -> a block.
        merge: stage -> what merges tokens before it.
    """
    places = dict(around)
    for i, depth in enumerate(model.depths):
        if i:
            places[f"merge_norm_{i}"] = f"{merge(i)}.norm"
            places[f"merge_{i}"] = f"{merge(i)}.reduction"
        for j in range(depth):
            for part, tensor in parts.items():
                places[f"block_{i}_{j}/{part}"] = f"{block(i, j)}.{tensor}"
    # No other library has both of these.
    marks = f"{places['head']}.weight", f"{places['block_0_0/mlp_norm']}.weight"
    return Naming(library, marks, places)


def _namings(model: Swin) -> list[Naming]:
    timm = {
        "patch": "patch_embed.proj",
        "patch_norm": "patch_embed.norm",
        "norm": "norm",
        "head": "head.fc",
    }
    torchvision = {
        "patch": "features.0.0",
        "patch_norm": "features.0.2",
        "norm": "norm",
        "head": "head",
    }
    transformers = {
        "patch": "embeddings.patch_embeddings.projection",
        "patch_norm": "embeddings.norm",
        "norm": "layernorm",
        "head": "classifier",
    }
    return [
        _naming(
            model, "timm", timm, _JOINT,
            lambda i, j: f"layers.{i}.blocks.{j}",
            lambda i: f"layers.{i}.downsample",
        ),
        _naming(
            model, "microsoft", {**timm, "head": "head"}, _JOINT,
            lambda i, j: f"layers.{i}.blocks.{j}",
            lambda i: f"layers.{i - 1}.downsample",
        ),
        _naming(
            model, "torchvision", torchvision, _SEQUENCE,
            lambda i, j: f"features.{2 * i + 1}.{j}",
            lambda i: f"features.{2 * i}",
        ),
        _naming(
            model, "transformers", transformers, _SPLIT,
            lambda i, j: f"encoder.layers.{i}.blocks.{j}",
            lambda i: f"encoder.layers.{i - 1}.downsample",
        ),
    ]  # fmt: skip


def from_torch(model: Swin, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Variables of a network from the tensors of a PyTorch network.

    Args:
        model: the network that the tensors are of; beside its sizes, check
            `eps`, `mean` and `std`, which no tensor tells.
        arrays: by their names in timm, torchvision, files of transformers
            (`SwinForImageClassification`) or microsoft/Swin-Transformer, such
            as `safetensors.numpy.load_file` gives them.

    Returns:
        "params" in numpy, float32.

    Raises:
        UsageError: for names of no such network, and tensors that are missing,
            that have no place, are of another shape or type or not finite.
    """
    size = model.image
    height, width = (size, size) if isinstance(size, int) else size
    image = (height, width, len(model.mean))
    return torch_arrays.variables(model, image, arrays, _namings(model))
