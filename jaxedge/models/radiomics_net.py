"""The network of RIDL (arXiv:2308.06933), which sees radiomics in two places.

An encoder of volumes, in which maps of local radiomic features join the first
level and global ones the classifier, and a decoder that reconstructs the
volume. Three published counts settle its layers (ridl 3): 9,284,073 parameters
without radiomics; 2,072 = 260^2 - 256^2 + 2 * 4 more with 4 global features,
so that the classifier has a hidden layer as wide as its input; 1,454 more with
4 local maps, 1,024 in the convolution that halves what they join and 430 in a
gate with 10 hidden units. With a PReLU behind each doubling (224 slopes) and
without a bias in the spatial gate all three come out.

Order, dropout and the initialisation are those of the released code.

Letters: B batch, Z, Y, X axes of a volume, C channels, L local maps, G global
features, F deep features.
"""

from collections.abc import Mapping, Sequence
import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxedge.core import checks
from jaxedge.models.layers import Dense
from jaxedge.models.volume_layers import (
    Cbam,
    ChannelGate,
    Doubling,
    Prelu,
    VolumeConv,
    enlarge,
)

# What the input is: the volume, and what is known of it from radiomics.
VOLUME, LOCAL, GLOBAL = "volume", "local", "global"
Inputs = jax.Array | Mapping[str, jax.Array]


class Outputs(NamedTuple):
    """What the network makes of volumes.

    Attributes:
        logits_B: above 0 for the second class.
        deep_BxF: means of the deepest level's gated channels, which the
            classifier sees and `learn.decorrelate` compares.
        reconstructions: of the volume, [B, Z, Y, X, C] each, from the coarsest
            level to the finest; empty unless asked for.
    """

    logits_B: jax.Array
    deep_BxF: jax.Array
    reconstructions: tuple[jax.Array, ...] = ()


class Stage(nn.Module):
    """Convolutions of 3 x 3 x 3, a PReLU behind each.

    Attributes:
        features: number of outputs.
        dilations: of the convolutions.
    """

    features: int
    dilations: Sequence[int]

    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        for dilation in self.dilations:
            x = VolumeConv(self.features, dilation=dilation)(x, key)
            x = Prelu()(x)
        return x


class RadiomicsNet(nn.Module):
    """Classifies volumes: a logit, deep features and reconstructions.

    9,287,599 parameters with 4 local maps and 4 global features, of 2 channels
    (a CT scaled to [-1, 1] and its mask). Sides are multiples of 8, or of
    2 ** (levels - 2); in the paper 96 x 128 x 128.

    Attributes:
        local_maps: L, that join the first level behind a gate; 0 leaves both
            out.
        global_features: G, that join the deep ones in front of the classifier.
        widths: channels of the levels. The first has all voxels, each after it
            but the last half the sides of the one before; the last, whose
            channels are the deep features, does not.
        dilations: of the convolutions of the levels between these.
        dropout: rate behind levels; above 0 training needs an rng "dropout".
        reduction: how many times fewer units the gate of the deep channels has
            than there are channels.
    """

    local_maps: int = 4
    global_features: int = 4
    widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    dilations: tuple[tuple[int, ...], ...] = ((1, 1, 1), (1, 2, 4), (3, 4, 5))
    dropout: float = 0.3
    reduction: int = 16

    @nn.compact
    def __call__(
        self,
        x: Inputs,
        *,
        train: bool = False,
        key: jax.Array | None = None,
        reconstruct: bool = False,
    ) -> Outputs:
        """Logits, deep features, and reconstructions if asked for.

        Args:
            x: "volume" [B, Z, Y, X, C], "local" [B, Z, Y, X, L] unless L is 0,
                "global" [B, G] unless G is 0; what else there is, is not
                looked at, so that ablations take the same. Without radiomics
                it may be the volume alone.
            train: whether features are dropped, and the batch normalises.
            key: read key, consumed.
            reconstruct: whether the decoder runs.

        Raises:
            UsageError: for attributes out of range, and inputs that are
                missing or do not fit.
        """
        volume, local, radiomic = self._inputs(x)
        dropped = functools.partial(
            nn.Dropout(self.dropout), deterministic=not train
        )

        x = Stage(self.widths[0], (1, 1), name="level_0")(volume, key)
        if local is not None:
            x = jnp.concatenate([x, local.astype(x.dtype)], -1)
            x = ChannelGate(max(x.shape[-1] // 2, 1), name="local_gate")(x, key)
        for level, (wide, dilations) in enumerate(
            zip(self.widths[1:-1], self.dilations, strict=True), 1
        ):
            around = self._unit(wide, 2, 2, f"down_{level}", x, key)
            x = Stage(wide, dilations, name=f"level_{level}")(around, key)
            x = dropped(x + around)
        deep = self.widths[-1]
        around = self._unit(deep, 3, 1, "down_deep", x, key)
        x = Stage(deep, (1, 1, 1), name="level_deep")(x, key)
        x = dropped(x + around)

        hidden = max(deep // self.reduction, 1)
        gated = Cbam(hidden, name="cbam")(x, train, key)
        deep_BxF = gated.mean((1, 2, 3))
        logits_B = self._classified(deep_BxF, radiomic, key)
        if not (reconstruct or self.is_initializing()):
            return Outputs(logits_B, deep_BxF)
        found = self._reconstructed(x, volume.shape[-1], dropped, key)
        return Outputs(logits_B, deep_BxF, tuple(found))

    def _classified(
        self,
        deep_BxF: jax.Array,
        radiomic: jax.Array | None,
        key: jax.Array | None,
    ) -> jax.Array:
        y = deep_BxF
        if radiomic is not None:
            y = jnp.concatenate([y, radiomic.astype(y.dtype)], -1)
        y = nn.relu(Dense(y.shape[-1], bias=True, name="hidden")(y, key))
        return Dense(1, bias=True, name="head")(y, key)[:, 0]

    def _reconstructed(
        self, x: jax.Array, channels: int, dropped, key: jax.Array | None
    ) -> list[jax.Array]:
        """Of every level a reconstruction, in the size of the volume."""
        found = []
        levels = len(self.widths) - 2
        for level in reversed(range(levels + 1)):
            if level < levels:
                wide = self.widths[level + 1]
                around = Doubling(wide, name=f"double_{level}")(x, key)
                around = Prelu(name=f"double_{level}_prelu")(around)
                # One convolution less at the finest, and nothing is dropped.
                convs = (1,) * (3 if level else 2)
                x = Stage(wide, convs, name=f"up_{level}")(around, key) + around
                x = dropped(x) if level else x
            head = VolumeConv(channels, 1, name=f"map_{level}")
            found.append(enlarge(head(x, key), 2**level))
        return found

    def _unit(
        self,
        features: int,
        window: int,
        stride: int,
        name: str,
        x: jax.Array,
        key: jax.Array | None,
    ) -> jax.Array:
        """A convolution from one level to the next, and its PReLU."""
        x = VolumeConv(features, window, stride, name=name)(x, key)
        return Prelu(name=f"{name}_prelu")(x)

    def _inputs(
        self, x: Inputs
    ) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
        """The volume, local maps and global features; the latter if used."""
        self._check()
        given = x if isinstance(x, Mapping) else {VOLUME: x}
        needed = [VOLUME]
        needed += [LOCAL] * bool(self.local_maps)
        needed += [GLOBAL] * bool(self.global_features)
        missing = [name for name in needed if given.get(name) is None]
        if missing:
            raise checks.UsageError(
                f"the network needs {' and '.join(map(repr, missing))}, but"
                f" its inputs are {', '.join(given)}; add them, or set"
                " local_maps and global_features to what there is."
            )
        volume = jnp.asarray(given[VOLUME])
        self._check_volume(volume)
        shapes = {
            LOCAL: (*volume.shape[:-1], self.local_maps),
            GLOBAL: (len(volume), self.global_features),
        }
        for name in needed[1:]:
            if jnp.shape(given[name]) != shapes[name]:
                raise checks.UsageError(
                    f"the {name} features have shape {jnp.shape(given[name])},"
                    f" but must have {shapes[name]}, as volumes of shape"
                    f" {volume.shape} and the network need."
                )
        local, radiomic = (
            jnp.asarray(given[name]) if name in needed else None
            for name in (LOCAL, GLOBAL)
        )
        return volume, local, radiomic

    def _check_volume(self, volume: jax.Array) -> None:
        step = 2 ** (len(self.widths) - 2)
        sides = volume.shape[1:-1]
        if volume.ndim != 5 or any(n % step or not n for n in sides):
            raise checks.UsageError(
                f"volumes have shape {volume.shape[1:]}, but must be"
                f" [Z, Y, X, C] with sides that are multiples of {step}; pad or"
                " crop them."
            )

    def _check(self) -> None:
        for name in ("local_maps", "global_features"):
            checks.whole(name, getattr(self, name), 0)
        if len(self.widths) < 3 or len(self.dilations) != len(self.widths) - 2:
            raise checks.UsageError(
                f"widths are {self.widths} and dilations {self.dilations}, but"
                " there must be 3 widths or more, and dilations for all levels"
                " but the first and the last."
            )
        for name, numbers in (
            ("widths", self.widths),
            *(("dilations", each) for each in self.dilations),
        ):
            for n in numbers:
                checks.whole(name, n, 1)
        checks.whole("reduction", self.reduction, 1)
        checks.in_range("dropout", self.dropout, 0, 0.999)
