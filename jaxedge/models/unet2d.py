"""The U-Net of FEAL (arXiv:2312.02567), for medical images of several sites.

Two published counts settle its layers (feal 3). With a base n and levels of
n (1, 2, 4, 8, 16) channels, batch normalisation has 3,184,754 - 3,179,890 =
4,864 parameters more than instance normalisation, which learns none: a scale
and a bias of 2,432 channels. Three convolutions a level downwards have 3 * 31 n
= 1,488 of them at n = 16. The other 944 = 59 n are those of the way up from
16 n: half the channels behind the 1 x 1 convolution, all of them again behind a
3 x 3 convolution of what joins (8 + 16, 4 + 8, 2 + 4 and 1 + 2 times n), and
first, but at the deepest level, as many behind a 3 x 3 convolution that halves
what came from below (8, 4 and 2 times n). These kernels and the head have
3,177,458 parameters with the two biases of the head; the 2,432 that are left of
3,179,890 are a bias of every convolution.

Counts tell no order. Normalisations follow their convolutions, and rectifiers
the normalisations but that of the first convolution of a level downwards;
nothing is led around (feal 3; the released code at the revision of that sheet).

Letters: B batch, H height, W width, C channels, K classes.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxedge.core import checks
from jaxedge.models import pooling
from jaxedge.models.layers import Conv, Norm

NORMS = ("in", "bn", "gn")
EPS = 1e-5
# Kaiming's for rectifiers, N(0, 2 / (h w O)).
INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Unit(nn.Module):
    """A convolution with a bias, a normalisation, and mostly a rectifier.

    Attributes:
        features: number of outputs.
        norm: as in `Unet2D`.
        window: kernel height and width.
        rectified: whether negative outputs become 0.
    """

    features: int
    norm: str
    window: int = 3
    rectified: bool = True

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, key: jax.Array | None
    ) -> jax.Array:
        window = (self.window, self.window)
        x = Conv(self.features, window, kernel_init=INIT, bias=True)(x, key)
        x = _normalise(self.norm, x, train)
        return nn.relu(x) if self.rectified else x


class Unet2D(nn.Module):
    """Labels every pixel: [B, H, W, C] to logits [B, H, W, K].

    3,179,890 parameters for 3 channels and 2 classes with instance
    normalisation, 3,184,754 with another. Sides are multiples of 16, or of
    2 ** (levels - 1).

    Attributes:
        classes: K.
        base: n, channels of the first level.
        norm: "in" normalises each channel of each image by itself and learns
            nothing; "gn" each image as a whole, and "bn" each channel over the
            batch, both with a learned scale and bias.
        levels: of which each but the first has half the side of the one before
            and twice its channels.
    """

    classes: int = 2
    base: int = 16
    norm: str = "in"
    levels: int = 5

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool = False,
        key: jax.Array | None = None,
        features: bool = False,
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """Logits of the classes, and what the network sees if asked for.

        Args:
            x: [B, H, W, C].
            train: whether the batch normalises.
            key: read key, consumed.
            features: whether the outputs of the deepest level are returned
                too, in means over 3 x 3 parts (`pooling.flat_means`): what
                FEAL compares images by (feal 4.4).

        Returns:
            Logits [B, H, W, K], and features [B, 9 * C], C the channels of the
            deepest level: 2,304 by default.

        Raises:
            UsageError: for attributes out of range and sides that do not fit.
        """
        self._check(x)
        unit = functools.partial(Unit, norm=self.norm)
        seen = []
        for level in range(self.levels):
            wide = self.base * 2**level
            if level:
                x = nn.max_pool(x, (2, 2), strides=(2, 2))
            for i in range(3):
                name = f"down_{level}_{i}"
                x = unit(wide, rectified=i > 0, name=name)(x, train, key)
            seen.append(x)
        for level in reversed(range(self.levels - 1)):
            wide = self.base * 2 ** (level + 1)
            if level < self.levels - 2:
                x = unit(wide, name=f"up_{level}_0")(x, train, key)
            name = f"up_{level}_1"
            x = unit(wide // 2, window=1, name=name)(_doubled(x), train, key)
            x = jnp.concatenate([seen[level], x], -1)
            x = unit(wide, name=f"up_{level}_2")(x, train, key)
        head = Conv(
            self.classes, (1, 1), kernel_init=INIT, bias=True, name="head"
        )
        logits = head(x, key)
        return (logits, pooling.flat_means(seen[-1])) if features else logits

    def _check(self, x: jax.Array) -> None:
        checks.choice("norm", self.norm, NORMS)
        for name in ("classes", "base"):
            checks.whole(name, getattr(self, name), 1)
        checks.whole("levels", self.levels, 2)
        step = 2 ** (self.levels - 1)
        sides = x.shape[1:3]
        if x.ndim != 4 or any(n % step or not n for n in sides):
            raise checks.UsageError(
                f"images have shape {x.shape[1:]}, but must be [H, W, C] with"
                f" sides that are multiples of {step}; pad or crop them."
            )
        if self.norm == "in" and sides == (step, step):
            raise checks.UsageError(
                f"images of {step} x {step} are one pixel at the deepest level,"
                " which instance normalisation makes 0; enlarge them, or take"
                " norm 'bn' or 'gn'."
            )


def _normalise(norm: str, x: jax.Array, train: bool) -> jax.Array:
    """A normalisation of the module that calls it, in the type of `x`."""
    if norm == "bn":
        return Norm(True, EPS)(x, train)
    # The fast variance, E x^2 - (E x)^2, loses digits where the mean is large.
    exact = {"epsilon": EPS, "dtype": x.dtype, "use_fast_variance": False}
    if norm == "gn":
        return nn.GroupNorm(num_groups=1, **exact)(x)
    return nn.InstanceNorm(use_bias=False, use_scale=False, **exact)(x)


def _doubled(x: jax.Array) -> jax.Array:
    """Every pixel four times."""
    return jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)
