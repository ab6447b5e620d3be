"""MobileNetV2, whose kernels are whatever leaf they find.

Sandler et al., CVPR 2018: inverted residual blocks, which widen their input,
convolve every channel by itself, and narrow the result without a nonlinearity.

Letters: B batch, H height, W width, C channels, I inputs, O outputs.
"""

from collections.abc import Mapping
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import hardware
from jaxedge.core import checks
from jaxedge.hardware.weights import multiply
from jaxedge.models import layers, torch_arrays
from jaxedge.models.layers import COUNTS, DEFAULT_INIT, Dense, Init, Norm
from jaxedge.models.resnet import Unit, normalised
from jaxedge.models.resnet_large import MEAN, STD
from jaxedge.models.torch_arrays import Naming

# Pixels that the stem and the stages step over: those of ImageNet, and those
# for images of 32 x 32, of which the stem and the second stage keep all.
STRIDES = {
    "imagenet": (2, 1, 2, 2, 2, 1, 2, 1),
    "cifar": (1, 1, 1, 2, 2, 1, 2, 1),
}
# Of each stage: how much it widens, outputs at width 1, blocks (table 2).
STAGES = (
    (1, 16, 1),
    (6, 24, 2),
    (6, 32, 3),
    (6, 64, 4),
    (6, 96, 3),
    (6, 160, 3),
    (6, 320, 1),
)
STEM, LAST = 32, 1280
_AROUND = ((1, 1), (1, 1))


class DepthwiseConv(nn.Module):
    """A convolution of each channel by itself: [B, H, W, I] to [B, H', W', O].

    Output o sees input o // (O / I) alone. An array or a leaf that is linear
    multiplies shifted images, which trains a network on a CPU three times as
    fast as XLA's convolution in groups; other hardware has an array for each
    channel.

    Attributes:
        features: O, a multiple of I.
        window: kernel height and width.
        stride: of height and width.
        padding: rows and columns of zeros before and behind.
        kernel_init: initialiser of the kernel [h, w, 1, O].
        bias: whether a bias is added, outside of the array.
    """

    features: int
    window: tuple[int, int] = (3, 3)
    stride: int = 1
    padding: tuple[tuple[int, int], tuple[int, int]] = _AROUND
    kernel_init: Init = DEFAULT_INIT
    bias: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        inputs = x.shape[-1]
        if self.features % inputs:
            raise checks.UsageError(
                f"features is {self.features}, but must be a multiple of the"
                f" {inputs} channels of the input."
            )
        shape = (*self.window, 1, self.features)
        kernel = layers.weight(self, shape, self.kernel_init)
        key = layers.read_key(self, key)
        if getattr(kernel, "by_vector", False):
            y = hardware.conv(
                x,
                kernel,
                strides=self.stride,
                padding=self.padding,
                groups=inputs,
                key=key,
            )
        else:
            y = multiply(x, kernel, self._product, key)
        self.sow(COUNTS, "vectors", jnp.int32(math.prod(y.shape[1:-1])))
        return layers.with_bias(self, y) if self.bias else y

    def _product(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """A sum of shifted images, each times one entry of the kernels."""
        x = jnp.repeat(x, self.features // x.shape[-1], -1)
        x = jnp.pad(x, ((0, 0), *self.padding, (0, 0)))
        # Summed in float32 at least.
        wide = jnp.promote_types(x.dtype, jnp.float32)
        taps = kernel.reshape(-1, 1, 1, 1, self.features).astype(wide)
        shifts = _shifts(x.astype(wide), self.window, self.stride)
        terms = [shift * tap for shift, tap in zip(shifts, taps, strict=True)]
        return functools.reduce(jnp.add, terms).astype(x.dtype)


class InvertedResidual(nn.Module):
    """Three units: wider, in every channel, narrower; around them the input.

    Attributes:
        features: number of outputs.
        stride: of the unit in every channel.
        widening: channels of this unit, in those of the input; 1 has no unit
            before it.
        eps: of the normalisations.
        folded: whether these are folded, see `resnet.fold`.
    """

    features: int
    stride: int
    widening: int
    eps: float
    folded: bool

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, key: jax.Array | None
    ) -> jax.Array:
        def pointwise(features: int, name: str) -> Unit:
            return Unit(
                features, (1, 1), 1, "VALID", self.eps, self.folded, name=name
            )

        y, wide = x, self.widening * x.shape[-1]
        if self.widening > 1:
            y = relu6(pointwise(wide, "widen")(y, train, key))
        each = DepthwiseUnit(
            wide, self.stride, self.eps, self.folded, name="each"
        )
        y = relu6(each(y, train, key))
        y = pointwise(self.features, "narrow")(y, train, key)
        return x + y if x.shape == y.shape else y


class DepthwiseUnit(nn.Module):
    """A `DepthwiseConv` of 3 x 3 and its normalisation, or the two in one.

    Attributes:
        features: number of outputs.
        stride: of height and width.
        eps: of the normalisation.
        folded: whether it is folded, see `resnet.fold`.
    """

    features: int
    stride: int
    eps: float
    folded: bool

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, key: jax.Array | None
    ) -> jax.Array:
        # The name by which `fold` knows the convolution of a unit.
        conv = DepthwiseConv(
            self.features, stride=self.stride, bias=self.folded, name="Conv_0"
        )
        x = conv(x, key)
        if self.folded:
            return x
        return Norm(True, self.eps, name="Norm_0")(x, train)


class MobileNetV2(nn.Module):
    """MobileNetV2: images [B, H, W, C] in [0, 1] to [B, classes].

    A convolution, 17 inverted residual blocks, a 1 x 1 convolution, the mean
    over the image, a dense layer: 3,504,872 parameters for 1,000 classes and
    815,780 at width 0.5 for 100, as torchvision counts. It normalises the
    images itself.

    Attributes:
        classes: number of outputs.
        width: of all convolutions, in those of the paper; numbers of channels
            are rounded to multiples of 8, but down by 10 % at most. The last
            convolution has never less than 1,280.
        strides: where the image is halved: "imagenet", for 224 x 224, in the
            stem and four stages; "cifar", for 32 x 32, in three stages alone
            (as kuangliu/pytorch-cifar and QAT-ACS, arXiv:2306.07215, have it).
        stages: widening, outputs at width 1 and blocks of each stage.
        dropout: rate before the dense layer; above 0 training needs an rng
            "dropout". The published networks have 0.2.
        eps: of the normalisations.
        folded: whether these are folded into the convolutions, see
            `resnet.fold`.
        mean: what is subtracted from each channel of the image.
        std: what the channels are divided by after that.
    """

    classes: int = 1000
    width: float = 1.0
    strides: str = "imagenet"
    stages: tuple[tuple[int, int, int], ...] = STAGES
    dropout: float = 0.0
    eps: float = 1e-5
    folded: bool = False
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
            train: whether the batch normalises, and entries are dropped.
            key: read key, consumed.

        Raises:
            UsageError: for attributes out of range.
        """
        self._check()
        stem, *strides = STRIDES[self.strides]
        x = normalised(x, self.mean, self.std)
        features = channels(STEM * self.width)
        unit = Unit(
            features, stride=stem, eps=self.eps, folded=self.folded, name="stem"
        )
        x = relu6(unit(x, train, key))
        place = 0
        for (widening, wide, count), stride in zip(
            self.stages, strides, strict=False
        ):
            for i in range(count):
                block = InvertedResidual(
                    channels(wide * self.width),
                    1 if i else stride,
                    widening,
                    self.eps,
                    self.folded,
                    name=f"block_{place}",
                )
                x = block(x, train, key)
                place += 1
        last = channels(LAST * max(1.0, self.width))
        unit = Unit(
            last, (1, 1), 1, "VALID", self.eps, self.folded, name="last"
        )
        x = relu6(unit(x, train, key)).mean((1, 2))
        x = nn.Dropout(self.dropout)(x, deterministic=not train)
        return Dense(self.classes, bias=True, name="head")(x, key)

    def _check(self) -> None:
        checks.choice("strides", self.strides, STRIDES)
        checks.whole("classes", self.classes, 1)
        checks.in_range("width", self.width, 0, open_low=True)
        checks.in_range("dropout", self.dropout, 0, 0.999)
        if not 0 < len(self.stages) <= len(STAGES):
            raise checks.UsageError(
                f"there are {len(self.stages)} stages, but must be 1 to"
                f" {len(STAGES)}."
            )


def channels(number: float) -> int:
    """The nearest multiple of 8; the next one if that is less than 90 %."""
    near = max(8, int(number + 4) // 8 * 8)
    return near + 8 if near < 0.9 * number else near


def relu6(x: jax.Array) -> jax.Array:
    """x in [0, 6], of gradient 0 elsewhere."""
    return jnp.minimum(nn.relu(x), 6)


def _shifts(
    x: jax.Array, window: tuple[int, int], stride: int
) -> list[jax.Array]:
    """What each entry of a kernel meets, [B, H', W', O] each."""
    stops = [
        (n - k) // stride * stride + 1
        for n, k in zip(x.shape[1:3], window, strict=True)
    ]
    return [
        x[:, i : i + stops[0] : stride, j : j + stops[1] : stride]
        for i, j in np.ndindex(*window)
    ]


def _torchvision(model: MobileNetV2) -> dict[str, str]:
    """Where torchvision has the parts: all in one row."""
    places = {"head": "classifier.1"}

    def unit(path: str, conv: str, norm: str) -> None:
        places[f"{path}/Conv_0"] = conv
        places[f"{path}/Norm_0/BatchNorm_0"] = norm

    unit("stem", "features.0.0", "features.0.1")
    wide = [widening for widening, _, count in model.stages
            for _ in range(count)]  # fmt: skip
    for i, widening in enumerate(wide):
        at, block = f"features.{i + 1}.conv", f"block_{i}"
        first = int(widening > 1)
        if first:
            unit(f"{block}/widen", f"{at}.0.0", f"{at}.0.1")
        unit(f"{block}/each", f"{at}.{first}.0", f"{at}.{first}.1")
        unit(f"{block}/narrow", f"{at}.{first + 1}", f"{at}.{first + 2}")
    last = f"features.{len(wide) + 1}"
    unit("last", f"{last}.0", f"{last}.1")
    return places


def from_torch(model: MobileNetV2, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Variables of a network from the tensors of torchvision's.

    Args:
        model: the network that the tensors are of, not folded; beside its
            sizes, check `strides`, `eps`, `mean` and `std`, which no tensor
            tells.
        arrays: by their names in torchvision.

    Returns:
        "params" and "batch_stats" in numpy, float32.

    Raises:
        UsageError: for names of no such network, and tensors that are missing,
            that have no place, are of another shape or type or not finite.
    """
    marks = "features.0.0.weight", "classifier.1.weight"
    naming = Naming("torchvision", marks, _torchvision(model))
    image = (32, 32, len(model.mean))
    return torch_arrays.variables(model, image, arrays, (naming,))
