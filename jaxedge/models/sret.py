"""Sliced recursive transformers, whose matrices are whatever leaf they find.

Shen et al., arXiv:2111.05297: each block is used several times in a row, with a
small part of its own behind each use, and attends within groups of tokens. The
layout is that of szq0214/SReT, from which VVTQ (arXiv:2307.00331) takes SReT-T.

Letters: B batch, H height, W width, C channels, G groups, T tokens of one, N
heads.
"""

from collections.abc import Mapping
import math
import re
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks
from jaxedge.models import torch_arrays
from jaxedge.models.layers import Dense
from jaxedge.models.mobilenet import DepthwiseConv
from jaxedge.models.resnet import Unit, normalised
from jaxedge.models.resnet_large import MEAN, STD
from jaxedge.models.torch_arrays import Naming
from jaxedge.models.vit import (
    INIT,
    Attention,
    FeedForward,
    check_image,
    drop_path,
    layer_norm,
)

# Pixels between the tokens of the first stage: three convolutions halve.
_STRIDE = 8


class Groups(NamedTuple):
    """Which tokens attend to one another.

    Attributes:
        count: G, a divisor of the number of tokens.
        spread: whether token t is in group t mod G, rather than in that of its
            neighbours.
        order: of the tokens before they are grouped; None leaves them.
    """

    count: int
    spread: bool = False
    order: jax.Array | None = None

    def split(self, x: jax.Array) -> jax.Array:
        """[B, tokens, width] to [B, G, T, width]."""
        if self.order is not None:
            x = x[:, self.order]
        b, _, width = x.shape
        if self.spread:
            return x.reshape(b, -1, self.count, width).swapaxes(1, 2)
        return x.reshape(b, self.count, -1, width)

    def join(self, x: jax.Array) -> jax.Array:
        """[B, G, T, width] to [B, tokens, width]."""
        x = x.swapaxes(1, 2) if self.spread else x
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        return x if self.order is None else x[:, jnp.argsort(self.order)]


class Block(nn.Module):
    """Attention within groups and a feed-forward part; sums are weighted.

    Attributes:
        heads: of the attention.
        hidden: width of the feed-forward part.
        eps: of the normalisations.
        drop: rate at which a part of an example is left out in training.
    """

    heads: int
    hidden: int
    eps: float
    drop: float

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        groups: Groups,
        train: bool,
        key: jax.Array | None,
    ) -> jax.Array:
        """Mixes the tokens of each group.

        Args:
            x: [B, tokens, width].
            groups: of the tokens.
            train: whether parts are left out.
            key: read key, consumed.

        Returns:
            As `x`.
        """
        y = layer_norm(x, self.eps, "attention_norm")
        y = Attention(self.heads, name="attention")(groups.split(y), key)
        y = drop_path(groups.join(y), self.drop, train)
        x = _weighted(self, "attention", x, y)
        y = layer_norm(x, self.eps, "mlp_norm")
        y = FeedForward(self.hidden, name="mlp")(y, key)
        return _weighted(self, "mlp", x, drop_path(y, self.drop, train))


class Projection(nn.Module):
    """The part behind a use of a block: a feed-forward part alone.

    Attributes:
        hidden: its width.
        eps: of the normalisation.
    """

    hidden: int
    eps: float

    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        y = layer_norm(x, self.eps, "mlp_norm")
        y = FeedForward(self.hidden, name="mlp")(y, key)
        return _weighted(self, "mlp", x, y)


class Sret(nn.Module):
    """Recursive transformer: images [B, H, W, C] in [0, 1] to [B, classes].

    Three convolutions, three stages between which a convolution of each channel
    halves the image and doubles the width, the mean, a dense layer. It
    normalises the images itself. `sret_tiny` is a published size.

    At its first use a block attends within runs of neighbours, at later ones
    within groups that reach over the whole image. The published code draws
    these anew at every call, in evaluation too, so that its scores vary; here
    token t is in group t mod G unless `shuffle`.

    Attributes:
        classes: number of outputs.
        image: height and width of the images, one number if they are equal,
            multiples of 8.
        head_size: entries of a head; a stage has as many heads times that.
        heads: N of each stage.
        depths: uses of blocks in each stage.
        blocks: different ones of each stage, each used as often as the others.
        groups: of tokens at the first use of a block, of each stage.
        regroups: of tokens at later uses, of each stage.
        mlp: hidden entries of the feed-forward parts, in widths (rounded
            down).
        between: hidden entries of the parts behind each use, likewise.
        eps: of the layer normalisations; those of the convolutions have 1e-5.
        folded: whether the latter are folded, see `resnet.fold`.
        drop_path: rate at which parts are left out in training, for each
            example by itself; it rises over the blocks as published. Above 0
            training needs an rng "dropout".
        shuffle: whether training draws the groups of later uses anew at each
            call, from an rng "dropout".
        mean: what is subtracted from each channel of the image.
        std: what the channels are divided by after that.
    """

    classes: int = 1000
    image: int | tuple[int, int] = 224
    head_size: int = 32
    heads: tuple[int, ...] = (2, 4, 8)
    depths: tuple[int, ...] = (4, 10, 6)
    blocks: tuple[int, ...] = (2, 5, 3)
    groups: tuple[int, ...] = (8, 4, 1)
    regroups: tuple[int, ...] = (2, 1, 1)
    mlp: float = 3.6
    between: float = 1.0
    eps: float = 1e-6
    folded: bool = False
    drop_path: float = 0.0
    shuffle: bool = False
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
            train: whether parts are left out, tokens are shuffled and the
                batch normalises.
            key: read key, consumed.

        Raises:
            UsageError: for sizes that do not fit.
        """
        self._check(x)
        x = normalised(x, self.mean, self.std)
        width = self.head_size * self.heads[0]
        for i, features in enumerate((width // 2, width, width)):
            unit = Unit(
                features, stride=2, folded=self.folded, bias=True,
                name=f"stem_{i}",
            )  # fmt: skip
            x = nn.relu(unit(x, train, key))
        position = self.param(
            "position_embedding", INIT, (math.prod(x.shape[1:3]), width)
        )
        x = x + jnp.asarray(position, x.dtype).reshape(1, *x.shape[1:])
        for stage, heads in enumerate(self.heads):
            if stage:
                pool = DepthwiseConv(
                    self.head_size * heads, stride=2, bias=True,
                    name=f"pool_{stage}",
                )  # fmt: skip
                x = pool(x, key)
            tokens = x.reshape(x.shape[0], -1, x.shape[-1])
            x = self._stage(tokens, stage, train, key).reshape(x.shape)
        x = layer_norm(x.mean((1, 2)), self.eps, "norm")
        return Dense(self.classes, INIT, bias=True, name="head")(x, key)

    def _stage(
        self, x: jax.Array, stage: int, train: bool, key: jax.Array | None
    ) -> jax.Array:
        """All uses of the blocks of a stage, on tokens [B, tokens, width]."""
        count, width = self.blocks[stage], x.shape[-1]
        uses = self.depths[stage] // count
        before = sum(self.depths[:stage])
        for i in range(count):
            block = Block(
                self.heads[stage],
                int(self.mlp * width),
                self.eps,
                self.drop_path * (before + i) / sum(self.depths),
                name=f"block_{stage}_{i}",
            )
            for use in range(uses):
                groups = self._groups(x.shape[1], stage, use, train)
                # Each use reads the arrays of the block anew.
                own = None if key is None else jax.random.fold_in(key, use)
                x = block(x, groups, train, own)
                behind = Projection(
                    int(self.between * width),
                    self.eps,
                    name=f"projection_{stage}_{i * uses + use}",
                )
                x = behind(x, key)
        return x

    def _groups(self, tokens: int, stage: int, use: int, train: bool) -> Groups:
        """Those of a use of a block."""
        if not use:
            return Groups(self.groups[stage])
        count, order = self.regroups[stage], None
        if self.shuffle and train and count > 1:
            order = jax.random.permutation(self.make_rng("dropout"), tokens)
        return Groups(count, True, order)

    def _check(self, x: jax.Array) -> None:
        checks.whole("classes", self.classes, 1)
        checks.whole("head_size", self.head_size, 1)
        checks.in_range("drop_path", self.drop_path, 0, 0.999)
        for name in ("mlp", "between"):
            checks.in_range(name, getattr(self, name), 1 / self.head_size)
        check_image(x, self.image, _STRIDE)
        for name in ("depths", "blocks", "groups", "regroups"):
            value = getattr(self, name)
            if len(value) != len(self.heads) or not value:
                raise checks.UsageError(
                    f"{name} is {value}, but must have a number for each of the"
                    f" {len(self.heads)} stages of heads."
                )
        sides = [side // _STRIDE for side in x.shape[1:3]]
        width = self.head_size * self.heads[0]
        if width % 2:
            raise checks.UsageError(
                f"head_size is {self.head_size} and the first stage has"
                f" {self.heads[0]} heads, but their product must be even."
            )
        for stage, heads in enumerate(self.heads):
            for name in ("heads", "depths", "blocks", "groups", "regroups"):
                checks.whole(name, getattr(self, name)[stage], 1)
            if stage:
                sides = [(side + 1) // 2 for side in sides]
                if heads % self.heads[stage - 1]:
                    raise checks.UsageError(
                        f"heads are {self.heads}, but each must be a multiple"
                        " of the one before."
                    )
            if self.depths[stage] % self.blocks[stage]:
                raise checks.UsageError(
                    f"depths are {self.depths}, but must be multiples of"
                    f" blocks, {self.blocks}."
                )
            tokens = math.prod(sides)
            for name in ("groups", "regroups"):
                if tokens % getattr(self, name)[stage]:
                    raise checks.UsageError(
                        f"{name} are {getattr(self, name)}, but must divide the"
                        f" {tokens} tokens of stage {stage + 1}."
                    )


def sret_tiny(**changes: Any) -> Sret:
    """SReT-T: 4,755,979 parameters for 1,000 classes (published: 4.8 million).

    Args:
        changes: attributes of `Sret` that differ from it.
    """
    return Sret(**changes)


def _weighted(
    module: nn.Module, part: str, x: jax.Array, y: jax.Array
) -> jax.Array:
    """`a x + b y` with learned numbers, 1 at first."""

    def learned(name: str) -> jax.Array:
        number = module.param(name, nn.initializers.ones, (1,))
        return jnp.asarray(number, x.dtype).reshape([1] * x.ndim)

    return learned(f"{part}_kept") * x + learned(f"{part}_added") * y


def _naming(model: Sret, library: str, qkv: tuple[str, str, str]) -> Naming:
    """Where the published code has the parts.

    Args:
        model: the network.
        library: whose names these are.
        qkv: tensors of queries, keys and values, within an attention.
    """
    block = {
        "attention_norm": "norm1",
        "attention/query": f"attn.{qkv[0]}",
        "attention/key": f"attn.{qkv[1]}",
        "attention/value": f"attn.{qkv[2]}",
        "attention/out": "attn.proj",
        "attention_kept": "coefficient1.bias",
        "attention_added": "coefficient2.bias",
        "mlp_norm": "norm2",
        "mlp/up": "mlp.fc1",
        "mlp/down": "mlp.fc2",
        "mlp_kept": "coefficient3.bias",
        "mlp_added": "coefficient4.bias",
    }
    projection = {
        "mlp_norm": "norm1",
        "mlp/up": "mlp.fc1",
        "mlp/down": "mlp.fc2",
        "mlp_kept": "coefficient1.bias",
        "mlp_added": "coefficient2.bias",
    }
    places = {"position_embedding": "pos_embed", "norm": "norm", "head": "head"}
    for i in range(3):
        places[f"stem_{i}/Conv_0"] = f"patch_embed.conv{i + 1}"
        places[f"stem_{i}/Norm_0/BatchNorm_0"] = f"patch_embed.bn{i + 1}"
    for stage, (depth, count) in enumerate(
        zip(model.depths, model.blocks, strict=True)
    ):
        if stage:
            places[f"pool_{stage}"] = f"pools.{stage - 1}.conv"
        at = f"transformers.{stage}.blocks"
        for i in range(count):
            first = 2 * i * depth // count
            for part, tensor in block.items():
                place = f"{at}.{first}.{tensor}"
                places[f"block_{stage}_{i}/{part}"] = place
        for i in range(depth):
            for part, tensor in projection.items():
                place = f"{at}.{2 * i + 1}.{tensor}"
                places[f"projection_{stage}_{i}/{part}"] = place
    name = f"transformers.0.blocks.0.attn.{qkv[0].partition(':')[0]}.weight"
    return Naming(library, (name,), places)


def from_torch(model: Sret, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Variables of a network from the tensors of the published code.

    Args:
        model: the network that the tensors are of, not folded; beside its
            sizes, check `eps`, `mean` and `std`, which no tensor tells.
        arrays: by their names in szq0214/SReT or in HuangOwen/VVTQ, which has
            a block under one name for each of its uses.

    Returns:
        "params" and "batch_stats" in numpy, float32.

    Raises:
        UsageError: for names of no such network, and tensors that are missing,
            that have no place, are of another shape or type or not finite.
    """
    given = {name: np.asarray(array) for name, array in arrays.items()}
    position = given.get("pos_embed")
    if position is not None and position.ndim == 4:  # [1, width, H, W]
        given["pos_embed"] = position.reshape(*position.shape[1:2], -1).T
    for name in [*given]:
        first = _first_use(model, name)
        if first == name or first not in given:
            continue
        if np.array_equal(given[first], given[name]):
            del given[name]
    size = model.image
    height, width = (size, size) if isinstance(size, int) else size
    namings = (
        _naming(model, "SReT", ("qkv:0", "qkv:1", "qkv:2")),
        _naming(model, "VVTQ", ("proj_q", "proj_k", "proj_v")),
    )
    image = (height, width, len(model.mean))
    return torch_arrays.variables(model, image, given, namings)


def _first_use(model: Sret, name: str) -> str:
    """The name that a tensor of a block has at its first use."""
    found = re.match(r"transformers\.(\d+)\.blocks\.(\d+)\.", name)
    if found is None:
        return name
    stage, place = (int(number) for number in found.groups())
    if place % 2 or stage >= len(model.depths):  # A projection.
        return name
    # Blocks and projections take turns.
    step = 2 * model.depths[stage] // model.blocks[stage]
    rest = name[found.end() :]
    return f"transformers.{stage}.blocks.{place // step * step}.{rest}"
