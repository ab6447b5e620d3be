"""Squares cut out of images: where they lie, how they are turned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxedge.core import UsageError
from jaxedge.features import patches

N, H, W, S = 4000, 9, 7, 4
cut = jax.jit(patches.random_squares, static_argnames="size")
# The eight positions of a square, as numpy turns and flips.
POSITIONS = [
    lambda a, k=k, f=f: np.rot90(a[:, ::-1] if f else a, k)
    for k in range(4)
    for f in (False, True)
]


@pytest.fixture(scope="module")
def squares():
    """Squares of N equal images whose pixels all differ, and their labels."""
    image = np.arange(H * W).reshape(H, W)
    y = jnp.broadcast_to(jnp.asarray(image), (N, H, W))
    x = (y + 0.5)[..., None]
    x, y = map(np.asarray, cut(jax.random.key(0), x, y, size=S))
    return image, x, y


def test_labels_move_with_their_pixels(squares):
    _, x, y = squares
    assert x.shape == (N, S, S, 1) and y.shape == (N, S, S)
    np.testing.assert_array_equal(x[..., 0], y + 0.5)


def test_places_and_positions_are_uniform(squares):
    image, _, y = squares
    places = (H - S + 1, W - S + 1)
    counts = np.zeros((*places, 8))
    for square in y:
        row, column = np.divmod(square.min(), W)
        window = image[row : row + S, column : column + S]
        alike = [np.array_equal(f(window), square) for f in POSITIONS]
        assert sum(alike) == 1
        counts[row, column, alike.index(True)] += 1
    # 24 places of 8 positions, 20.8 squares each; the chance of a p-value
    # below 1e-4 is 1e-4.
    assert stats.chisquare(counts.ravel()).pvalue > 1e-4


def test_a_key_draws_for_every_image(key):
    x = jnp.broadcast_to(jnp.arange(63.0).reshape(1, H, W, 1), (3, H, W, 1))
    y = jnp.array([0, 1, 2])
    first, labels = cut(key, x, y, size=S)
    np.testing.assert_array_equal(labels, y)  # Of whole images: they stay.
    np.testing.assert_array_equal(cut(key, x, y, size=S)[0], first)
    assert (cut(jax.random.key(1), x, y, size=S)[0] != first).any()
    assert (first[0] != first[1]).any() or (first[0] != first[2]).any()


MISUSES = {
    "squares of 8 pixels.*at least as large": lambda x, y: (x, y, 8),
    r"got \(2, 9, 7\)": lambda x, y: (x[..., 0], y, S),
    r"labels of shape \(2, 9, 6\)": lambda x, y: (x, y[..., 1:], S),
    "size is 0": lambda x, y: (x, y, 0),
}


@pytest.mark.parametrize("words", MISUSES)
def test_a_misuse_is_told(words, key):
    x, y = jnp.zeros((2, H, W, 1)), jnp.zeros((2, H, W), int)
    with pytest.raises(UsageError, match=words):
        patches.random_squares(key, *MISUSES[words](x, y))
