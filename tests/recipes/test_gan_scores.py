"""Scores of made pairs beside numpy's float64 and scipy's root."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from jaxedge.data.source import Batch
from jaxedge.recipes import gan_scores
from jaxedge.recipes.recipe import add

pytestmark = pytest.mark.usefixtures("compile_quickly")

SIDE, ROWS, CLASSES, FREE = 16, 24, 2, 3


class Toy:
    """Networks without weights, whose images tell what went in.

    A first image is its latent vector's mean beside its last number; a second
    one is half of the first.
    """

    latent, labels, noise = FREE + CLASSES, CLASSES, 0

    def __init__(self, encodes=True):
        self.encodes = encodes

    def apply(self, variables, x, *more, key=None, method: Any = "first"):
        del variables
        if callable(method):
            return method(self, x, *more, *(() if key is None else (key,)))
        return getattr(self, method)(x, *more, key=key)

    def encode(self, x, *, key=None):
        means = x.mean((1, 2, 3))
        return jnp.stack([means] * self.latent, -1)

    def first(self, z, *, key=None):
        flat = jnp.stack([z.mean(-1), z[:, -1]], -1)
        return jnp.tile(flat, (1, SIDE * SIDE // 2)).reshape(-1, SIDE, SIDE, 1)

    def second(self, x, noise=None, *, key=None):
        return x / 2

    def generate(self, z, noise=None, *, key=None):
        first = self.first(z)
        return first, self.second(first)


@pytest.fixture(scope="module")
def rows():
    """Pairs, of which the last three are padding, and their labels."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (ROWS, SIDE, SIDE, 2)).astype(np.float32)
    x[..., 1] = 0.6 * x[..., 0] + 0.3 * x[..., 1]
    weight = np.ones(ROWS, np.float32)
    weight[-3:] = 0
    y = rng.integers(0, CLASSES, ROWS)
    aux = {"row": np.arange(ROWS, dtype=np.int32)}
    return Batch(x, y, weight, aux), np.eye(CLASSES, dtype=np.float32)[y]


@pytest.fixture(scope="module")
def judge():
    toy: Any = Toy()
    return jax.jit(
        lambda batch, labels: gan_scores.judge(toy, {}, batch, labels, None)
    )


def coarse(x):
    """Means over squares of 2 x 2 pixels, written out."""
    parts = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    return np.mean(parts, 0, dtype=float).reshape(len(x), -1)


def pairs_made(labels):
    """What is made of the rows' vectors."""
    toy: Any = Toy()
    found = gan_scores.made(toy, {}, jnp.arange(len(labels)), labels)
    return np.concatenate(found, -1)


def test_pixels_are_made_coarse(rows):
    x = rows[0].x
    np.testing.assert_allclose(gan_scores.coarse(x), coarse(x), atol=1e-6)
    # A side of at most 8 stays; 12 becomes 6.
    assert gan_scores.coarse(x[:, :8, :8]).shape == (ROWS, 128)
    assert gan_scores.coarse(x[:, :12, :8]).shape == (ROWS, 6 * 8 * 2)


def test_scores_are_those_of_the_rows_that_count(rows, judge):
    batch, labels = rows
    found = gan_scores.measure(judge(batch, labels))
    x, keep = np.asarray(batch.x, float), batch.weight > 0
    # Reconstructions are of the rows' classes, whatever an encoder says.
    mean = x[..., 0].mean((1, 2))
    z = np.concatenate([np.tile(mean[:, None], (1, FREE)), labels], -1)
    again = np.empty((ROWS, SIDE * SIDE))
    again[:, 0::2], again[:, 1::2] = z.mean(-1)[:, None], z[:, -1:]
    again = again.reshape(ROWS, SIDE, SIDE)
    told = (("first_", again, x[..., 0]), ("", again / 2, x[..., 1]))
    for name, fake, real in told:
        apart = (fake - real)[keep]
        mae = np.abs(apart).mean()
        assert float(found[f"{name}mae"]) == pytest.approx(mae, rel=1e-5)
        noise = (apart**2).mean((1, 2))
        psnr = (10 * np.log10(4 / noise)).mean()
        assert float(found[f"{name}psnr"]) == pytest.approx(psnr, rel=1e-5)
    assert float(found["loss"]) == float(found["mae"])

    # The Frechet distance of coarse pixels, whose root is scipy's.
    real, fake = (coarse(a)[keep] for a in (batch.x, pairs_made(labels)))
    covs = [np.cov(a.T, bias=True) for a in (real, fake)]
    root: Any = scipy.linalg.sqrtm(covs[0] @ covs[1])
    apart = np.square(real.mean(0) - fake.mean(0)).sum()
    apart += np.trace(covs[0] + covs[1] - 2 * root.real)
    assert float(found["frechet"]) == pytest.approx(apart, rel=1e-3)
    assert float(found["fidelity"]) == pytest.approx(1 / (1 + apart), rel=1e-3)


def test_padding_and_the_size_of_batches_change_nothing(rows, judge):
    batch, labels = rows
    whole = judge(batch, labels)
    other = batch.x.copy()
    other[-3:] = -1
    padded = judge(batch._replace(x=other), labels)
    half = np.arange(ROWS) < ROWS // 2
    parts = add(
        *(
            judge(batch._replace(weight=batch.weight * part), labels)
            for part in (half, ~half)
        )
    )
    for found in (padded, parts):
        for name, value in whole.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-4)


def test_the_same_rows_make_the_same_pairs(rows):
    labels = rows[1]
    toy: Any = Toy()
    some: Any = np.array([5, 2])
    found = np.concatenate(gan_scores.made(toy, {}, some, labels[some]), -1)
    np.testing.assert_array_equal(found, pairs_made(labels)[some])
    # Two numbers of one vector, of which the last is the label's.
    np.testing.assert_array_equal(found[:, 0, 1, 0], labels[some, -1])


def test_real_pairs_are_as_faithful_as_can_be(rows, judge):
    sums = dict(judge(*rows))
    for name in ("sum", "square"):
        sums[f"made_{name}"] = sums[f"real_{name}"]
    found = gan_scores.measure(sums)
    assert float(found["frechet"]) == pytest.approx(0, abs=1e-3)
    sums["ssim"] = -sums["count"]
    # As a score, which has no values below 0.
    assert float(gan_scores.measure(sums)["ssim"]) == 0
    assert set(gan_scores.SCORES) <= set(found)


def test_without_an_encoder_the_images_themselves_are_translated(rows):
    batch, labels = rows
    toy: Any = Toy(encodes=False)
    first = batch.x[..., :1]
    found = gan_scores.translated(toy, {}, first, labels)
    np.testing.assert_allclose(found, first / 2)
    sums = gan_scores.judge(toy, {}, batch, labels, None)
    assert not any(name.startswith("first_") for name in sums)
