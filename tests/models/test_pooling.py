import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.models import pooling


def means(x, size):
    """Each part by itself, in numpy's float64."""
    height, width = x.shape[1:3]
    y = np.empty((len(x), *size, x.shape[-1]))
    for i, j in np.ndindex(*size):
        top, left = i * height // size[0], j * width // size[1]
        bottom = int(np.ceil((i + 1) * height / size[0]))
        right = int(np.ceil((j + 1) * width / size[1]))
        part = x[:, top:bottom, left:right].astype(np.float64)
        y[:, i, j] = part.mean((1, 2))
    return y


@pytest.mark.parametrize(
    ("sides", "size"),
    # Equal parts, overlapping ones, one part, and more parts than pixels.
    [((6, 9), (3, 3)), ((7, 4), (3, 2)), ((5, 5), (1, 1)), ((2, 1), (3, 3))],
)
def test_parts_are_those_of_pytorch(sides, size):
    x = np.random.default_rng(0).normal(size=(2, *sides, 4)).astype("f4")
    got = pooling.adaptive_mean(x, size)
    np.testing.assert_allclose(got, means(x, size), rtol=0, atol=1e-6)


def test_overlapping_parts_of_five_pixels():
    # Pixels 0 and 1, 1 to 3, 3 and 4.
    x = np.array([1.0, 2.0, 4.0, 8.0, 16.0], np.float32).reshape(1, 1, 5, 1)
    got = pooling.adaptive_mean(x, (1, 3)).ravel()
    np.testing.assert_allclose(got, [1.5, 14 / 3, 12.0], rtol=1e-6)


def test_vectors_have_channel_after_channel():
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype("f4")
    got = pooling.flat_means(x)
    want = means(x, (3, 3)).transpose(0, 3, 1, 2).reshape(2, 27)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


def test_gradients_and_types():
    x = np.random.default_rng(0).normal(size=(1, 5, 4, 2)).astype("f4")
    # The mean of all parts, each pixel by its share of every part.
    slope = jax.jit(jax.grad(lambda x: pooling.flat_means(x, 2).sum()))(x)
    rows = np.array([1 / 3, 1 / 3, 2 / 3, 1 / 3, 1 / 3])
    want = np.multiply.outer(rows, np.full(4, 1 / 2))
    np.testing.assert_allclose(slope[0, ..., 1], want, rtol=1e-6)
    small = pooling.adaptive_mean(jnp.asarray(x, jnp.bfloat16), (2, 2))
    assert small.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("shape", "size", "message"),
    [
        ((2, 4, 4), (3, 3), r"images of shape \(2, 4, 4\) have no parts"),
        ((2, 0, 4, 1), (3, 3), "have no parts, but must be"),
        ((2, 4, 4, 1), (3,), r"size is \(3,\), but must be two numbers"),
        ((2, 4, 4, 1), (3, 0), "size is 0, but must lie in"),
        ((2, 4, 4, 1), (2.5, 3), "size must be a whole number, got 2.5"),
    ],
)
def test_what_has_no_parts_is_named(shape, size, message):
    with pytest.raises(UsageError, match=message):
        pooling.adaptive_mean(jnp.zeros(shape), size)
