"""Residual networks for small images (He et al., CVPR 2016, section 4.2).

Letters: B batch, H height, W width, C channels, I inputs, O outputs.
"""

from collections.abc import Callable, Mapping
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks
from jaxedge.models.layers import Conv, Dense, Norm

SHORTCUTS = ("pad", "conv")
Padding = str | tuple[tuple[int, int], ...]


class Unit(nn.Module):
    """A convolution and its batch normalisation, or the two in one.

    Attributes:
        features: number of outputs.
        window: kernel height and width.
        stride: of height and width.
        padding: as in `Conv`.
        eps: of the normalisation.
        folded: whether the normalisation is folded, see `fold`.
        affine: whether the normalisation learns a scale and a bias.
        bias: whether the convolution learns one too.
    """

    features: int
    window: tuple[int, int] = (3, 3)
    stride: int = 1
    padding: Padding = ((1, 1), (1, 1))
    eps: float = 1e-5
    folded: bool = False
    affine: bool = True
    bias: bool = False

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, key: jax.Array | None
    ) -> jax.Array:
        conv = Conv(
            self.features,
            self.window,
            self.stride,
            self.padding,
            bias=self.folded or self.bias,
        )
        x = conv(x, key)
        return x if self.folded else Norm(self.affine, self.eps)(x, train)


class Rprelu(nn.Module):
    """A bias, a slope below 0 and another bias, of each channel.

    Of ReActNet (Liu et al., arXiv:2003.03488): quantised activations may be
    moved to where their grid has its levels.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        zeros, slope = nn.initializers.zeros, nn.initializers.constant(0.25)

        def learned(name: str, init: nn.initializers.Initializer) -> jax.Array:
            a = jnp.asarray(self.param(name, init, (x.shape[-1],)), x.dtype)
            return a.reshape([1] * (x.ndim - 1) + [-1])

        x = x + learned("before", zeros)
        x = jnp.where(x > 0, x, x * learned("slope", slope))
        return x + learned("after", zeros)


def rectifier(name: str, learned: bool) -> Callable[[jax.Array], jax.Array]:
    """An `Rprelu` of that name, or the usual one, which learns nothing."""
    return Rprelu(name=name) if learned else nn.relu


class Block(nn.Module):
    """Two units around which the input is led.

    Attributes:
        features: number of outputs.
        stride: of the first unit.
        shortcut: as in `ResNet`.
        unit: makes a unit, given features and what differs from its defaults.
        rprelu: as in `ResNet`.
    """

    features: int
    stride: int
    shortcut: str
    unit: Callable[..., Unit]
    rprelu: bool = False

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, key: jax.Array | None
    ) -> jax.Array:
        unit = functools.partial(self.unit, self.features, bias=self.rprelu)
        y = Rprelu(name="rprelu_0")(x) if self.rprelu else x
        y = unit(stride=self.stride)(y, train, key)
        y = unit()(rectifier("rprelu_1", self.rprelu)(y), train, key)
        around = lead(
            self.unit, x, self.features, self.stride, self.shortcut, train, key
        )
        return rectifier("rprelu_2", self.rprelu)(y + around)


def lead(
    unit: Callable[..., Unit],
    x: jax.Array,
    features: int,
    stride: int,
    shortcut: str,
    train: bool,
    key: jax.Array | None,
) -> jax.Array:
    """A block's input, led around it, in the shape of the block's output."""
    if x.shape[-1] == features and stride == 1:
        return x
    if shortcut == "pad":
        return _padded(x, features, stride)
    fit = unit(features, window=(1, 1), stride=stride, padding="VALID")
    return fit(x, train, key)


class ResNet(nn.Module):
    """Residual network of 6 n + 2 layers: 269,722 weights at depth 20.

    A first convolution, three stages of n blocks with 16, 32 and 64 channels,
    of which the last two halve the image, the mean over it, a dense layer. It
    takes images as a `Source` has them and normalises them itself.

    Attributes:
        classes: number of outputs.
        depth: number of layers, 6 n + 2.
        shortcut: where a stage changes the shape: "pad" takes every second
            pixel and adds channels of zeros, half of them before and half
            behind (option A); "conv" is a 1 x 1 convolution with
            normalisation (option B).
        channels: outputs of each stage.
        padding: of the 3 x 3 convolutions; at stride 2 "SAME" is not
            ((1, 1), (1, 1)), the default of PyTorch's networks.
        eps: of the normalisations.
        folded: whether these are folded into the convolutions, see `fold`.
        mean: what is subtracted from each channel of the image.
        std: what the channels are divided by after that.
        rprelu: whether blocks have an `Rprelu` before each convolution and
            behind their sum, and convolutions with a bias, as the quantised
            ResNet of QAT-ACS (arXiv:2306.07215).
    """

    classes: int = 10
    depth: int = 20
    shortcut: str = "pad"
    channels: tuple[int, ...] = (16, 32, 64)
    padding: Padding = ((1, 1), (1, 1))
    eps: float = 1e-5
    folded: bool = False
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    rprelu: bool = False

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool = False,
        key: jax.Array | None = None,
    ) -> jax.Array:
        self._check()

        def unit(features: int, **changes: Any) -> Unit:
            same = {"padding": self.padding, "eps": self.eps}
            return Unit(features, folded=self.folded, **{**same, **changes})

        x = normalised(x, self.mean, self.std)
        x = nn.relu(unit(self.channels[0])(x, train, key))
        for stage, features in enumerate(self.channels):
            for place in range((self.depth - 2) // 6):
                stride = 2 if stage and not place else 1
                block = Block(
                    features, stride, self.shortcut, unit, self.rprelu
                )
                x = block(x, train, key)
        return Dense(self.classes, bias=True)(x.mean((1, 2)), key)

    def _check(self) -> None:
        checks.choice("shortcut", self.shortcut, SHORTCUTS)
        if self.depth < 8 or (self.depth - 2) % 6:
            raise checks.UsageError(
                f"depth is {self.depth}, but must be 6 n + 2 with n >= 1, such"
                " as 8, 20, 32 or 56."
            )


def normalised(
    x: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]
) -> jax.Array:
    """Images [B, H, W, C] less the mean of each channel, over its deviation."""
    if not x.shape[-1] == len(mean) == len(std):
        raise checks.UsageError(
            f"images of shape {x.shape[1:]} have {x.shape[-1]} channels, but"
            f" the network has {len(mean)} means and {len(std)} deviations."
        )
    shape = (1, 1, 1, len(mean))
    centre, width = (np.reshape(a, shape).astype(x.dtype) for a in (mean, std))
    return (x - centre) / width


def _padded(x: jax.Array, features: int, stride: int) -> jax.Array:
    """Every `stride`-th pixel, with zeros up to `features` channels."""
    extra = features - x.shape[-1]
    pad = (extra // 2, extra - extra // 2)
    x = x[:, ::stride, ::stride]
    return jnp.pad(x, [(0, 0), (0, 0), (0, 0), pad])


def fold(variables: Mapping[str, Any], eps: float) -> dict[str, Any]:
    """Folds every batch normalisation into the convolution before it.

    Of s (W x - mean) / sqrt(var + eps) + b the factor s / sqrt(var + eps)
    multiplies the columns of W, and what is left is a bias: an array then
    holds all that varies with the input, and one digital addition an output
    remains. Exact but for rounding, for the statistics at hand; the network
    has to be `folded` from then on.

    Args:
        variables: "params" and "batch_stats" of a network of `Unit`s.
        eps: of its normalisations.

    Returns:
        Variables of the folded network; "batch_stats" is empty.

    Raises:
        UsageError: if there is no unit with a normalisation.
    """
    folded = 0

    def unit(params: Mapping[str, Any], stats: Mapping[str, Any]) -> Any:
        nonlocal folded
        folded += 1
        norm = params["Norm_0"]["BatchNorm_0"]
        stats = stats["Norm_0"]["BatchNorm_0"]
        factor = norm["scale"] / jnp.sqrt(stats["var"] + eps)
        kernel = params["Conv_0"]["kernel"]
        scaled = kernel * factor.reshape(1, 1, 1, -1)
        mean = stats["mean"] - params["Conv_0"].get("bias", 0.0)
        bias = norm["bias"] - mean * factor
        return {"Conv_0": {"kernel": scaled, "bias": bias}}

    def walk(params: Any, stats: Mapping[str, Any]) -> Any:
        if not isinstance(params, Mapping):
            return params
        if "Norm_0" in params:
            return unit(params, stats)
        return {k: walk(v, stats.get(k, {})) for k, v in params.items()}

    params = walk(variables["params"], variables.get("batch_stats", {}))
    if not folded:
        raise checks.UsageError(
            "no normalisation is left to fold; the network is folded already."
        )
    return {**variables, "params": params, "batch_stats": {}}
