"""Layers that multiply by the leaf they are given."""

from collections.abc import Sequence
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxedge import hardware
from jaxedge.core import checks
from jaxedge.core.keys import stream

Init = nn.initializers.Initializer
# U(-1/sqrt(fan_in), 1/sqrt(fan_in)), the default of torch (Kaiming, a=sqrt 5).
DEFAULT_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
# Collection that counts the vectors a layer sends to its array, per example.
COUNTS = "counts"
# Collection that shows what passes the places of a network (`site`).
SITES = "sites"


def weight(module: nn.Module, shape: Sequence[int], init: Init) -> Any:
    """The layer's kernel: an array at init, later any leaf of that shape."""
    if not module.has_variable("params", "kernel"):
        return module.param("kernel", init, tuple(shape))
    kernel = module.get_variable("params", "kernel")
    if tuple(kernel.shape) != tuple(shape):
        raise checks.UsageError(
            f"layer {'/'.join(module.path)} needs a weight of shape"
            f" {tuple(shape)}, got {tuple(kernel.shape)}."
        )
    return kernel


def read_key(module: nn.Module, key: jax.Array | None) -> jax.Array | None:
    """The read key of a layer, by its path."""
    return None if key is None else stream(key, "/".join(module.path))


def with_bias(module: nn.Module, y: jax.Array) -> jax.Array:
    """Adds a learned bias [O], digitally: it is no weight of the array."""
    bias = module.param("bias", nn.initializers.zeros, (y.shape[-1],))
    # All axes, for a broadcast that is meant.
    return y + jnp.asarray(bias, y.dtype).reshape([1] * (y.ndim - 1) + [-1])


def site(module: nn.Module, name: str, x: jax.Array) -> jax.Array:
    """A place where a tensor that meets no weight may be quantised.

    Such as the queries and keys of an attention, whose product no array holds.

    Args:
        module: whose parameters may have a leaf of that name, with a method
            `apply` (`quantize.grid.Grid`); by default they have none.
        name: of the place within its module; ends in "_site".
        x: any tensor.

    Returns:
        What the leaf makes of it; without one `x`.
    """
    if not module.is_initializing():
        module.sow(SITES, name, x)
    if not module.has_variable("params", name):
        return x
    return module.get_variable("params", name).apply(x)


class Dense(nn.Module):
    """A matrix product: [..., I] to [..., features].

    Attributes:
        features: number of outputs.
        kernel_init: initialiser of the kernel [I, features].
        bias: whether a bias is added, outside of the array.
    """

    features: int
    kernel_init: Init = DEFAULT_INIT
    bias: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        kernel = weight(self, (x.shape[-1], self.features), self.kernel_init)
        y = hardware.dot(x, kernel, key=read_key(self, key))
        self.sow(COUNTS, "vectors", jnp.int32(math.prod(y.shape[1:-1])))
        return with_bias(self, y) if self.bias else y


class Conv(nn.Module):
    """A convolution: [B, H, W, I] to [B, H', W', features].

    Attributes:
        features: number of outputs.
        window: kernel height and width.
        strides: one number, or one for each of height and width.
        padding: "SAME", "VALID" or pairs.
        kernel_init: initialiser of the kernel [h, w, I, features].
        bias: whether a bias is added, outside of the array.
    """

    features: int
    window: tuple[int, int] = (3, 3)
    strides: int | tuple[int, int] = 1
    padding: str | tuple[tuple[int, int], ...] = "SAME"
    kernel_init: Init = DEFAULT_INIT
    bias: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        shape = (*self.window, x.shape[-1], self.features)
        y = hardware.conv(
            x,
            weight(self, shape, self.kernel_init),
            strides=self.strides,
            padding=self.padding,
            key=read_key(self, key),
        )
        self.sow(COUNTS, "vectors", jnp.int32(math.prod(y.shape[1:-1])))
        return with_bias(self, y) if self.bias else y


class Norm(nn.Module):
    """Batch normalisation.

    Attributes:
        affine: whether scale and bias are learned.
        eps: added to the variance.
    """

    affine: bool = False
    eps: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        norm = nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            epsilon=self.eps,
            use_bias=self.affine,
            use_scale=self.affine,
        )
        # In the type of its input, whatever that of the statistics.
        return norm(x).astype(x.dtype)
