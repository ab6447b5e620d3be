"""Encoder, generators and critics of the GANs of two modalities (`models.gan`).

Convolutions and transposed ones halve and double sides: windows of 4 x 4,
strides of 2, padded as TensorFlow's "SAME"; biases everywhere, no
normalisation, Xavier's uniform initialisation, rectifiers in between, tanh
behind generators, nothing behind encoder and critics. Images are flattened row
by row with their channels last, as TensorFlow does.

Letters: B batch, H height, W width, C channels, Z latent.
"""

from collections.abc import Mapping, Sequence
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.models.layers import Conv, Dense
from jaxedge.models.transposed import ConvTranspose

# Uniform in +-sqrt(6 / (fan_in + fan_out)), by Glorot and Bengio (2010).
XAVIER = nn.initializers.glorot_uniform()

_Dense = functools.partial(Dense, kernel_init=XAVIER, bias=True)
_Halve = functools.partial(
    Conv, window=(4, 4), strides=2, kernel_init=XAVIER, bias=True
)
_Double = functools.partial(ConvTranspose, kernel_init=XAVIER, bias=True)


class Encoder(nn.Module):
    """From images to latent vectors: [B, H, W, C] to [B, features].

    33,818,944 parameters at 64 x 64 x 1.

    Attributes:
        features: Z.
        convs: outputs of convolutions that halve the sides.
        dense: units of the layers behind these.
    """

    features: int = 128
    convs: tuple[int, ...] = (64, 128)
    dense: tuple[int, ...] = (1024,)

    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        return _vectors(x, self.convs, self.dense, self.features, key)


class Critic(nn.Module):
    """Scores images of one modality, [B, H, W, C] to [B], or vectors [B, Z].

    33,819,073 parameters at 64 x 64 x 1; the one of latent vectors, with no
    convolutions and 128 and 1024 units, has 149,633. Scores have no bounds.

    Attributes:
        convs: outputs of convolutions that halve the sides.
        dense: units of the layers between these and the score.
    """

    convs: tuple[int, ...] = (64, 128)
    dense: tuple[int, ...] = (1024, 128)

    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        return _vectors(x, self.convs, self.dense, 1, key)[:, 0]


class Shared(nn.Module):
    """Two doublings that both generators run: [B, H, W, C] to [B, 4 H, 4 W, .].

    6,292,224 parameters behind 512 channels.

    Attributes:
        features: outputs of the two.
    """

    features: tuple[int, int] = (512, 256)

    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        for wide in self.features:
            x = nn.relu(_Double(wide)(x, key))
        return x


class FirstGenerator(nn.Module):
    """Images of the first modality from latent vectors: [B, Z] to [B, H, W, C].

    2,772,737 parameters beside the shared ones. Sides are `start` times
    2 ** (4 + len(up)).

    Attributes:
        shared: the block behind the dense layers.
        start: height, width and channels of what goes into it.
        dense: units of the first layers; one as wide as `start` follows.
        up: outputs of the doublings behind the block, after which four
            channels become 2 x 2 pixels, and these images.
        channels: C.
    """

    shared: Shared
    start: tuple[int, int, int] = (2, 2, 512)
    dense: tuple[int, ...] = (128, 1024)
    up: tuple[int, ...] = (128,)
    channels: int = 1

    @nn.compact
    def __call__(self, z: jax.Array, key: jax.Array | None = None) -> jax.Array:
        x = _unflatten(z, self.dense, self.start, key)
        x = self.shared(x, key)
        for wide in self.up:
            x = nn.relu(_Double(wide)(x, key))
        return nn.tanh(_Double(self.channels)(to_pixels(x), key))


class SecondGenerator(nn.Module):
    """The second modality from the first: [B, H, W, .] to [B, H, W, C].

    A U-net whose deepest map goes through the shared block, and the one above
    it through a doubling of its own; the two are added. 10,359,681 parameters
    beside the shared ones. Sides are multiples of 2 ** len(down).

    Attributes:
        shared: the block.
        down: outputs of the convolutions that halve the sides, at least 3.
        up: outputs of the doublings behind the sum, 3 fewer; each is given the
            map of its size as well, and so is the one that makes images.
        channels: C.
    """

    shared: Shared
    down: tuple[int, ...] = (64, 128, 256, 512, 512)
    up: tuple[int, ...] = (128, 64)
    channels: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        _check_lengths(self.up, self.down, 3)
        maps = _halvings(x, self.down, key)
        # The first generator reads the same arrays with the same key.
        again = None if key is None else stream(key, "second")
        deepest = self.shared(maps.pop(), again)
        own = _Double(self.shared.features[-1])(maps.pop(), key)
        x = deepest + nn.relu(own)
        for wide in self.up:
            x = jnp.concatenate([x, maps.pop()], -1)
            x = nn.relu(_Double(wide)(x, key))
        x = jnp.concatenate([x, maps.pop()], -1)
        return nn.tanh(_Double(self.channels)(x, key))


class PlainFirst(nn.Module):
    """The first generator of the other variants: [B, Z] to [B, H, W, C].

    33,851,457 parameters. Sides are `start` times 2 ** (1 + len(up)).

    Attributes:
        start: height, width and channels behind the dense layers.
        dense: units of the first layers; one as wide as `start` follows.
        up: outputs of the doublings, before the one that makes images.
        channels: C.
    """

    start: tuple[int, int, int] = (16, 16, 128)
    dense: tuple[int, ...] = (1024,)
    up: tuple[int, ...] = (64,)
    channels: int = 1

    @nn.compact
    def __call__(self, z: jax.Array, key: jax.Array | None = None) -> jax.Array:
        x = _unflatten(z, self.dense, self.start, key)
        for wide in self.up:
            x = nn.relu(_Double(wide)(x, key))
        return nn.tanh(_Double(self.channels)(x, key))


class PlainSecond(nn.Module):
    """The U-net of the other variants: [B, H, W, .] to [B, H, W, C].

    29,235,585 parameters. Sides are multiples of 2 ** len(down).

    Attributes:
        down: outputs of the convolutions that halve the sides.
        up: outputs of the doublings, one fewer; each but the first is given
            the map of its size as well, and so is the one that makes images.
        channels: C.
    """

    down: tuple[int, ...] = (64, 128, 256, 512, 512, 512)
    up: tuple[int, ...] = (512, 512, 256, 128, 64)
    channels: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        _check_lengths(self.up, self.down, 1)
        maps = _halvings(x, self.down, key)
        x = maps.pop()
        for wide in self.up:
            x = nn.relu(_Double(wide)(x, key))
            x = jnp.concatenate([x, maps.pop()], -1)
        return nn.tanh(_Double(self.channels)(x, key))


def to_pixels(x: jax.Array) -> jax.Array:
    """Four channels of a pixel become four pixels: [B, 2 H, 2 W, C / 4].

    TensorFlow's `depth_to_space` of 2: channels are in the order (down, along,
    C / 4).
    """
    batch, height, width, channels = x.shape
    if channels % 4:
        raise checks.UsageError(
            f"{channels} channels do not become 2 x 2 pixels each; give the"
            " doubling before them a multiple of 4: the last of first_up, or"
            " of shared_features where that is empty."
        )
    x = x.reshape(batch, height, width, 2, 2, channels // 4)
    x = x.transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, 2 * height, 2 * width, channels // 4)


def check_sides(sides: Sequence[int], powers: Mapping[str, int]) -> None:
    """Raises unless sides can be halved as often as each field asks for.

    Args:
        sides: height and width.
        powers: of 2 that divide them, by the name of the field whose entries
            count in it.

    Raises:
        UsageError: with the closest sides that fit.
    """
    for name, power in powers.items():
        factor = 2**power
        if any(n < 1 or n % factor for n in sides):
            fit = tuple(max(round(n / factor), 1) * factor for n in sides)
            raise checks.UsageError(
                f"sides are {tuple(sides)}, but {name} makes networks whose"
                f" sides are multiples of {factor}; resize images to {fit}, or"
                f" give {name} fewer entries."
            )


def _check_lengths(up: Sequence[int], down: Sequence[int], fewer: int) -> None:
    if len(down) < fewer or len(up) != len(down) - fewer:
        raise checks.UsageError(
            f"a U-net of halvings {tuple(down)} and doublings {tuple(up)} does"
            f" not end at its images; give it {fewer} fewer doublings than"
            " halvings."
        )


def _vectors(
    x: jax.Array,
    convs: Sequence[int],
    dense: Sequence[int],
    features: int,
    key: jax.Array | None,
) -> jax.Array:
    """Convolutions that halve the sides, then dense layers, the last linear."""
    for wide in convs:
        x = nn.relu(_Halve(wide)(x, key))
    x = x.reshape(len(x), -1)
    for units in dense:
        x = nn.relu(_Dense(units)(x, key))
    return _Dense(features)(x, key)


def _unflatten(
    z: jax.Array,
    dense: Sequence[int],
    start: tuple[int, int, int],
    key: jax.Array | None,
) -> jax.Array:
    """Dense layers, and one whose outputs are a map of shape `start`."""
    for units in (*dense, math.prod(start)):
        z = nn.relu(_Dense(units)(z, key))
    return z.reshape(-1, *start)


def _halvings(
    x: jax.Array, down: Sequence[int], key: jax.Array | None
) -> list[jax.Array]:
    """The map behind each convolution, the smallest last."""
    check_sides(x.shape[1:3], {"down": len(down)})
    maps = []
    for wide in down:
        x = nn.relu(_Halve(wide)(x, key))
        maps.append(x)
    return maps
