"""Residual networks for large images (He et al., CVPR 2016, table 1).

Letters: B batch, H height, W width.
"""

from collections.abc import Callable, Mapping
import functools
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from jaxedge.core import checks
from jaxedge.core.trees import map_named, path_name
from jaxedge.models import torch_arrays
from jaxedge.models.layers import Dense
from jaxedge.models.resnet import (
    Block,
    Rprelu,
    Unit,
    lead,
    normalised,
    rectifier,
)
from jaxedge.models.torch_arrays import Naming

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
        rprelu: as in `LargeResNet`.
    """

    features: int
    stride: int
    unit: Callable[..., Unit]
    rprelu: bool = False

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, key: jax.Array | None
    ) -> jax.Array:
        unit = functools.partial(self.unit, bias=self.rprelu)
        narrow = functools.partial(unit, window=(1, 1), padding="VALID")
        out = EXPANSION * self.features
        y = Rprelu(name="rprelu_0")(x) if self.rprelu else x
        y = narrow(self.features)(y, train, key)
        y = rectifier("rprelu_1", self.rprelu)(y)
        y = unit(self.features, stride=self.stride)(y, train, key)
        y = rectifier("rprelu_2", self.rprelu)(y)
        y = narrow(out)(y, train, key)
        around = lead(self.unit, x, out, self.stride, "conv", train, key)
        return rectifier("rprelu_3", self.rprelu)(y + around)


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
        rprelu: whether blocks have an `Rprelu` before each convolution and
            behind their sum, and convolutions with a bias, as the quantised
            ResNet of QAT-ACS (arXiv:2306.07215); stem and shortcuts have none.
    """

    classes: int = 1000
    depth: int = 18
    width: int = 64
    affine: bool = True
    bias: bool = True
    eps: float = 1e-5
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    rprelu: bool = False

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
                return Block(features, stride, "conv", unit, self.rprelu)
            return Bottleneck(features, stride, unit, self.rprelu)

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


def _torchvision(model: LargeResNet) -> dict[str, str]:
    """Where torchvision has the parts."""
    places = {"Dense_0": "fc"}

    def unit(path: str, conv: str, norm: str) -> None:
        places[f"{path}/Conv_0"] = conv
        places[f"{path}/Norm_0/BatchNorm_0"] = norm

    unit("Unit_0", "conv1", "bn1")
    kind, inner = ("Block", 2) if model.depth < 50 else ("Bottleneck", 3)
    number = 0
    for stage, count in enumerate(BLOCKS[model.depth]):
        for place in range(count):
            at, block = f"layer{stage + 1}.{place}", f"{kind}_{number}"
            for i in range(inner):
                unit(
                    f"{block}/Unit_{i}", f"{at}.conv{i + 1}", f"{at}.bn{i + 1}"
                )
            unit(f"{block}/Unit_{inner}", f"{at}.downsample.0",
                 f"{at}.downsample.1")  # fmt: skip
            number += 1
    return places


def from_torch(model: LargeResNet, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Variables of a network from the tensors of torchvision's.

    What a network with `rprelu` learns beside them is as at its start: biases
    of 0 and slopes of 0.25, as QAT-ACS begins.

    Args:
        model: the network that the tensors are of; beside its sizes, check
            `eps`, `mean` and `std`, which no tensor tells.
        arrays: by their names in torchvision.

    Returns:
        "params" and "batch_stats" in numpy, float32.

    Raises:
        UsageError: for names of no such network, and tensors that are missing,
            that have no place, are of another shape or type or not finite.
    """
    plain = model.clone(rprelu=False)
    naming = Naming(
        "torchvision", ("conv1.weight", "layer1.0.conv1.weight"),
        _torchvision(plain),
    )  # fmt: skip
    image = (32, 32, len(model.mean))
    given = torch_arrays.variables(plain, image, arrays, (naming,))
    if not model.rprelu:
        return given
    leaves, _ = jax.tree_util.tree_flatten_with_path(given)
    known = {path_name(path): leaf for path, leaf in leaves}
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), np.zeros((1, *image), np.float32)
    )

    def variable(path: str, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        start = 0.25 if path.endswith("/slope") else 0.0
        return known.get(path, np.full(leaf.shape, start, np.float32))

    return map_named(variable, {name: shapes[name] for name in given})
