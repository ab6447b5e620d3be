"""Residual networks for large images (He et al., CVPR 2016, table 1).

Letters: B batch, H height, W width.
"""

from collections.abc import Callable
import functools
from typing import Any

import flax.linen as nn
import jax

from jaxedge.core import checks
from jaxedge.models.layers import Dense
from jaxedge.models.resnet import Block, Unit, lead, normalised

# Blocks of each stage, by depth; networks of 50 layers have bottlenecks.
BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
# Outputs of a bottleneck, in those of its 3 x 3 convolution.
EXPANSION = 4
# Of the channels of ImageNet in [0, 1], as torchvision has them.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Bottleneck(nn.Module):
    """Three units, the outer ones 1 x 1, around which the input is led.

    Attributes:
        features: outputs of the inner unit, a fourth of the block's.
        stride: of the inner unit, where torchvision has it (the paper has it
            in the first).
        unit: makes a unit, given features and what differs from its defaults.
    """

    features: int
    stride: int
    unit: Callable[..., Unit]

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, key: jax.Array | None
    ) -> jax.Array:
        narrow = functools.partial(self.unit, window=(1, 1), padding="VALID")
        out = EXPANSION * self.features
        y = nn.relu(narrow(self.features)(x, train, key))
        y = self.unit(self.features, stride=self.stride)(y, train, key)
        y = narrow(out)(nn.relu(y), train, key)
        around = lead(self.unit, x, out, self.stride, "conv", train, key)
        return nn.relu(y + around)


class LargeResNet(nn.Module):
    """Residual network for images of 224 x 224, as torchvision lays it out.

    A 7 x 7 convolution at stride 2, a maximum over 3 x 3 at stride 2, four
    stages of blocks of which the last three halve the image, the mean over it,
    a dense layer: 11,689,512 parameters at depth 18 and 25,557,032 at depth 50
    for 1,000 classes. It takes images as a `Source` has them and normalises
    them itself.

    Attributes:
        classes: number of outputs.
        depth: 18 or 50.
        width: outputs of the first convolution; stages have 1, 2, 4 and 8
            times as many (and bottlenecks four times that).
        affine: whether normalisations learn a scale and a bias.
        bias: whether the dense layer learns one.
        eps: of the normalisations.
        mean: what is subtracted from each channel of the image.
        std: what the channels are divided by after that.
    """

    classes: int = 1000
    depth: int = 18
    width: int = 64
    affine: bool = True
    bias: bool = True
    eps: float = 1e-5
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
        if self.depth not in BLOCKS:
            raise checks.UsageError(
                f"depth is {self.depth}, but must be 18 or 50; other depths are"
                " not laid out here."
            )

        def unit(features: int, **changes: Any) -> Unit:
            return Unit(features, eps=self.eps, affine=self.affine, **changes)

        def block(features: int, stride: int) -> nn.Module:
            if self.depth < 50:
                return Block(features, stride, "conv", unit)
            return Bottleneck(features, stride, unit)

        x = normalised(x, self.mean, self.std)
        stem = unit(
            self.width, window=(7, 7), stride=2, padding=((3, 3), (3, 3))
        )
        x = nn.relu(stem(x, train, key))
        around: Any = ((1, 1), (1, 1))  # Flax's annotation knows names alone.
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=around)
        for stage, count in enumerate(BLOCKS[self.depth]):
            for place in range(count):
                stride = 2 if stage and not place else 1
                x = block(self.width * 2**stage, stride)(x, train, key)
        return Dense(self.classes, bias=self.bias)(x.mean((1, 2)), key)
