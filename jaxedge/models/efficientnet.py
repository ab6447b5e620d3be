"""EfficientNet, whose kernels are whatever leaf they find.

Tan and Le, ICML 2019 (arXiv:1905.11946): inverted residual blocks with squeeze
and excitation (Hu et al., CVPR 2018), whose depth and width grow together. In
the layout of timm's `efficientnet_b0`, the classifier of FEAL
(arXiv:2312.02567).

Letters: B batch, H height, W width, C channels, I inputs, O outputs.
"""

from collections.abc import Mapping
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from jaxedge.core import checks
from jaxedge.models import pooling, torch_arrays
from jaxedge.models.layers import Conv, Dense, Norm
from jaxedge.models.mobilenet import DepthwiseConv, channels
from jaxedge.models.resnet import normalised
from jaxedge.models.resnet_large import MEAN, STD
from jaxedge.models.torch_arrays import Naming
from jaxedge.models.vit import drop_path

STEM, LAST = 32, 1280
# Squeezed channels, in those of the block's input.
SQUEEZE = 0.25
# Of arrays that see all channels, N(0, 2 / (h w O)).
INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# Of the classifier, U(-1/sqrt(O), 1/sqrt(O)).
HEAD_INIT = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")


class Stage(NamedTuple):
    """Blocks in a row (table 1 of the paper).

    Attributes:
        widening: channels within a block, in those of its input.
        window: height and width of the kernels that see one channel.
        features: outputs at width 1.
        blocks: their number at depth 1.
        stride: of the first block.
    """

    widening: int
    window: int
    features: int
    blocks: int
    stride: int


STAGES = (
    Stage(1, 3, 16, 1, 1),
    Stage(6, 3, 24, 2, 2),
    Stage(6, 5, 40, 2, 2),
    Stage(6, 3, 80, 3, 2),
    Stage(6, 5, 112, 3, 1),
    Stage(6, 5, 192, 4, 2),
    Stage(6, 3, 320, 1, 1),
)


class Unit(nn.Module):
    """A convolution and its batch normalisation, or the two in one.

    Attributes:
        features: number of outputs.
        window: kernel height and width, odd.
        stride: of height and width.
        each: whether every channel is convolved by itself.
        eps: of the normalisation.
        folded: whether it is folded, see `resnet.fold`.
    """

    features: int
    window: int = 1
    stride: int = 1
    each: bool = False
    eps: float = 1e-5
    folded: bool = False

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, key: jax.Array | None
    ) -> jax.Array:
        window, edge = (self.window, self.window), self.window // 2
        around = ((edge, edge), (edge, edge))
        # The name by which `fold` knows the convolution of a unit.
        same: dict[str, Any] = {
            "padding": around, "bias": self.folded, "name": "Conv_0",
        }  # fmt: skip
        if self.each:
            # An output has h w weights, whatever their number.
            init = nn.initializers.normal(math.sqrt(2) / self.window)
            conv = DepthwiseConv(
                self.features, window, self.stride, kernel_init=init, **same
            )
        else:
            conv = Conv(
                self.features, window, self.stride, kernel_init=INIT, **same
            )
        x = conv(x, key)
        if self.folded:
            return x
        return Norm(True, self.eps, name="Norm_0")(x, train)


class Excitation(nn.Module):
    """Every channel times a factor in (0, 1), which the means make.

    Attributes:
        features: outputs of the first of two arrays, each with a digital bias,
            SiLU between them, a sigmoid behind.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        def array(features: int, name: str) -> Conv:
            return Conv(
                features, (1, 1), kernel_init=INIT, bias=True, name=name
            )

        y = array(self.features, "reduce")(x.mean((1, 2), keepdims=True), key)
        y = array(x.shape[-1], "expand")(nn.silu(y), key)
        return x * nn.sigmoid(y)


class Block(nn.Module):
    """Wider, every channel by itself, excited, narrower; around it the input.

    Attributes:
        features: number of outputs.
        stage: its widening and window; 1 has no unit that widens.
        stride: of the unit in every channel.
        eps: of the normalisations.
        folded: whether these are folded, see `resnet.fold`.
        drop: rate at which the block is left out in training, for each example
            by itself, where its input is led around it.
    """

    features: int
    stage: Stage
    stride: int
    eps: float
    folded: bool
    drop: float = 0.0

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, key: jax.Array | None
    ) -> jax.Array:
        def unit(features: int, name: str, **changes: Any) -> Unit:
            same = {"eps": self.eps, "folded": self.folded, "name": name}
            return Unit(features, **changes, **same)

        y, wide = x, self.stage.widening * x.shape[-1]
        if self.stage.widening > 1:
            y = nn.silu(unit(wide, "widen")(y, train, key))
        each = unit(
            wide,
            "each",
            window=self.stage.window,
            stride=self.stride,
            each=True,
        )
        y = nn.silu(each(y, train, key))
        squeezed = round(SQUEEZE * x.shape[-1])
        y = Excitation(squeezed, name="excite")(y, key)
        y = unit(self.features, "narrow")(y, train, key)
        if self.stride > 1 or x.shape != y.shape:
            return y
        return x + drop_path(y, self.drop, train)


class EfficientNet(nn.Module):
    """EfficientNet: images [B, H, W, C] in [0, 1] to [B, classes].

    By default B0: a convolution, 16 blocks in seven stages, a 1 x 1
    convolution, the mean over the image, a dense layer, with SiLU behind every
    normalisation but that of a block's last convolution; 5,288,548 parameters
    for 1,000 classes and 4,017,796 for 8, as timm counts. It normalises the
    images itself. Training moves the running variances towards those of the
    batch, where PyTorch has n / (n - 1) of them for n pixels.

    Attributes:
        classes: number of outputs.
        width: of all convolutions, in those of B0; numbers of channels are
            rounded as in `mobilenet.channels`.
        depth: blocks of each stage, in those of B0, rounded up.
        stem_stride: of the first convolution: 2 for 224 x 224; 1 for images of
            64 x 64 or 32 x 32, of which 4 x 4 or 2 x 2 pixels are then left.
        stages: of blocks.
        tap: index of the stage whose outputs are the features (`__call__`).
        drop_path: rate at which blocks are left out in training, where their
            input is led around them, for each example by itself: that of block
            i of n is i / n of it. Above 0 training needs an rng "dropout".
            timm advises 0.2; FEAL has 0.
        dropout: rate before the dense layer, as `drop_path`; timm advises 0.2,
            FEAL has 0.
        eps: of the normalisations: 1e-5 in timm's network, 1e-3 in TensorFlow's
            (timm's `tf_efficientnet_b0`, which pads otherwise as well).
        folded: whether these are folded into the convolutions, see
            `resnet.fold`.
        mean: what is subtracted from each channel of the image.
        std: what the channels are divided by after that.
    """

    classes: int = 1000
    width: float = 1.0
    depth: float = 1.0
    stem_stride: int = 2
    stages: tuple[Stage, ...] = STAGES
    tap: int = 4
    drop_path: float = 0.0
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
        features: bool = False,
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """Scores of the classes, and what the network sees if asked for.

        Args:
            x: [B, H, W, C] in [0, 1].
            train: whether the batch normalises, and parts are left out.
            key: read key, consumed.
            features: whether the outputs of stage `tap` are returned too, in
                means over 3 x 3 parts (`pooling.flat_means`): what FEAL
                compares images by (feal 4.4).

        Returns:
            Scores [B, classes], and features [B, 9 * C], C the channels of
            the stage: 1,008 of B0.

        Raises:
            UsageError: for attributes out of range.
        """
        self._check(features)
        same: dict[str, Any] = {"eps": self.eps, "folded": self.folded}
        x = normalised(x, self.mean, self.std)
        wide, stride = channels(STEM * self.width), self.stem_stride
        stem = Unit(wide, 3, stride, **same, name="stem")
        x = nn.silu(stem(x, train, key))
        seen = x
        counts = repeats(self)
        for s, stage in enumerate(self.stages):
            wide = channels(stage.features * self.width)
            for i in range(counts[s]):
                stride = 1 if i else stage.stride
                drop = self.drop_path * (sum(counts[:s]) + i) / sum(counts)
                name = f"block_{s}_{i}"
                block = Block(wide, stage, stride, **same, drop=drop, name=name)
                x = block(x, train, key)
            seen = x if s == self.tap else seen
        last = Unit(channels(LAST * self.width), **same, name="last")
        x = nn.silu(last(x, train, key)).mean((1, 2))
        x = nn.Dropout(self.dropout)(x, deterministic=not train)
        head = Dense(self.classes, HEAD_INIT, bias=True, name="head")
        scores = head(x, key)
        return (scores, pooling.flat_means(seen)) if features else scores

    def _check(self, features: bool) -> None:
        checks.whole("classes", self.classes, 1)
        checks.in_range("width", self.width, 0, open_low=True)
        checks.in_range("depth", self.depth, 0, open_low=True)
        checks.whole("stem_stride", self.stem_stride, 1)
        checks.in_range("drop_path", self.drop_path, 0, 0.999)
        checks.in_range("dropout", self.dropout, 0, 0.999)
        if not self.stages:
            raise checks.UsageError("there are no stages; give it one.")
        if features:
            checks.whole("tap", self.tap)
            checks.in_range("tap", self.tap, 0, len(self.stages) - 1)


def repeats(model: EfficientNet) -> list[int]:
    """Blocks of each stage."""
    return [math.ceil(stage.blocks * model.depth) for stage in model.stages]


def _timm(model: EfficientNet) -> dict[str, str]:
    """Where timm has the parts; a block that does not widen counts from 1."""
    places = {"head": "classifier"}

    def unit(path: str, conv: str, norm: str) -> None:
        places[f"{path}/Conv_0"] = conv
        places[f"{path}/Norm_0/BatchNorm_0"] = norm

    unit("stem", "conv_stem", "bn1")
    unit("last", "conv_head", "bn2")
    for s, count in enumerate(repeats(model)):
        units = [("each", "conv_dw"), ("narrow", "conv_pw")]
        if model.stages[s].widening > 1:
            units = [("widen", "conv_pw"), units[0], ("narrow", "conv_pwl")]
        for i in range(count):
            block, at = f"block_{s}_{i}", f"blocks.{s}.{i}"
            for place, (part, conv) in enumerate(units, 1):
                unit(f"{block}/{part}", f"{at}.{conv}", f"{at}.bn{place}")
            for part in ("reduce", "expand"):
                places[f"{block}/excite/{part}"] = f"{at}.se.conv_{part}"
    return places


def from_torch(
    model: EfficientNet, arrays: Mapping[str, Any]
) -> dict[str, Any]:
    """Variables of a network from the tensors of timm's.

    Args:
        model: the network that the tensors are of, not folded; beside its
            sizes, check `stem_stride`, `eps`, `mean` and `std`, which no
            tensor tells.
        arrays: by their names in timm.

    Returns:
        "params" and "batch_stats" in numpy, float32.

    Raises:
        UsageError: for names of no such network, and tensors that are missing,
            that have no place, are of another shape or type or not finite.
    """
    naming = Naming(
        "timm", ("conv_stem.weight", "classifier.weight"), _timm(model)
    )
    image = (32, 32, len(model.mean))
    return torch_arrays.variables(model, image, arrays, (naming,))
