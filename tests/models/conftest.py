import flax.linen as nn
import jax
import numpy as np
import pytest
from scipy import signal

from jaxedge import models


class Reference:
    """The operations of the networks in numpy's float64, one at a time."""

    @staticmethod
    def conv(x, kernel, strides=(1, 1)):
        """Valid correlation: [B, H, W, I], [h, w, I, O] -> [B, H', W', O]."""
        down, along = strides

        def channel(image, window):
            parts = zip(
                np.moveaxis(image, -1, 0), np.moveaxis(window, -1, 0),
                strict=True,
            )  # fmt: skip
            return sum(signal.correlate2d(i, w, "valid") for i, w in parts)

        outputs = range(kernel.shape[-1])
        return np.array(
            [
                np.stack([channel(image, kernel[..., o]) for o in outputs], -1)
                for image in x
            ]
        )[:, ::down, ::along]

    @staticmethod
    def pool(x):
        """Largest of 2 x 2; a last odd row or column is dropped."""
        x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
        corners = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        return np.max(corners, 0)

    @staticmethod
    def norm(x, stats):
        mean, var = (np.asarray(stats[k], np.float64) for k in ("mean", "var"))
        return (x - mean) / np.sqrt(var + 1e-5)

    @staticmethod
    def relu(x):
        return np.where(x > 0, x, 0)

    @staticmethod
    def quantise(x, bits, signed=False):
        if bits is None:
            return x
        axes = tuple(range(1, x.ndim))
        low = x.min(axes, keepdims=True)
        step = (x.max(axes, keepdims=True) - low) / (2**bits - 1)
        if signed:
            return (np.rint((x - low) / step) + np.floor(low / step)) * step
        return np.clip(np.rint(x / step), 0, 255) * step


@pytest.fixture(scope="session")
def reference():
    return Reference


def _watched(model):
    """The model as a jitted function that also returns what each layer saw.

    (variables, x, key) -> outputs, {layer: (inputs, outputs)}, vector counts.
    """

    def run(variables, x, key=None):
        layers = {}

        def record(following, args, kwargs, context):
            y = following(*args, **kwargs)
            if isinstance(context.module, models.Conv | models.Dense):
                layers["/".join(context.module.path)] = args[0], y
            return y

        with nn.intercept_methods(record):
            y, changed = model.apply(variables, x, key=key, mutable=["counts"])
        return y, layers, changed["counts"]

    return jax.jit(run)


@pytest.fixture(scope="session")
def watched():
    return _watched


def _trained(model, x):
    """Variables as after some training, drawn by numpy: nothing compiles."""
    rng = np.random.default_rng(4)

    def draw(path, leaf):
        name = path[-1].key
        if name == "var":
            return rng.uniform(0.2, 2, leaf.shape).astype(np.float32)
        std = 0.3 if name == "mean" else np.prod(leaf.shape[:-1]) ** -0.5
        return rng.normal(0, std, leaf.shape).astype(np.float32)

    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    shapes.pop("counts")
    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.fixture(scope="session")
def trained():
    return _trained
