"""Tests of ensembles: the moments of cells, and of what vectors read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from jaxedge import core, hardware
from jaxedge.core import checks
from jaxedge.hardware import crossbar, devices, ensemble

MICRO = 1e-6
CHIPS = 2000


def ideal():
    return devices.get("ideal", program_noise=0.03, read_noise=0.02)


def rectified(target, sigma):
    """Mean and mean square of max(target + sigma z, 0), in closed form."""
    a = np.asarray(target, np.float64)
    inside, density = norm.cdf(a / sigma), norm.pdf(a / sigma)
    mean = a * inside + sigma * density
    return mean, (a**2 + sigma**2) * inside + a * sigma * density


def test_moments_are_those_of_the_closed_form():
    targets = jnp.linspace(0, 25 * MICRO, 33)
    found = ensemble.moments(ideal(), targets)
    sigma = 0.03 * 25 * MICRO
    mean, square = rectified(targets, sigma)
    std = np.sqrt(square - mean**2 + 0.02**2 * square)
    np.testing.assert_allclose(found.mean, mean, rtol=0, atol=1e-3 * sigma)
    np.testing.assert_allclose(found.std, std, rtol=2e-3)


@pytest.mark.parametrize("name", devices.PRESETS)
def test_moments_are_those_of_many_cells(name, key):
    device, n = devices.get(name), 50_000
    targets = jnp.linspace(float(device.g_min), float(device.g_max), 4)
    rows = jnp.broadcast_to(targets[:, None], (4, n))

    @jax.jit
    def both(key):
        cells = device.program(core.stream(key, "chip"), rows)
        seen = device.read(core.stream(key, "read"), cells, 3600.0)
        return ensemble.moments(device, targets, 3600.0), seen

    found, seen = both(key)
    seen = np.asarray(seen, np.float64)
    atol = 1e-6 * float(device.g_max)  # of float32, for cells without spread
    gap = np.abs(seen.mean(1) - found.mean)
    assert np.all(gap < 5 * seen.std(1) / np.sqrt(n) + atol)
    # Of 50,000 cells the std is known to .3 %, with heavy tails to 1 %.
    np.testing.assert_allclose(seen.std(1), found.std, rtol=0.03, atol=atol)


def drawn(key, x, w, spec):
    leaf = hardware.program(core.stream(key, "chip"), w, spec)
    return hardware.dot(x, leaf, key=core.stream(key, "read"))


@pytest.mark.parametrize(
    "given", [{}, {"input_bits": 4, "adc_bits": 6, "rows": 16}], ids=str
)
def test_a_vector_reads_what_it_reads_over_chips(key, given):
    rng = np.random.default_rng(0)
    w = jnp.asarray(rng.normal(size=(40, 6)), jnp.float32)
    x = jnp.asarray(rng.random((3, 40)), jnp.float32)
    spec = crossbar.Spec(ideal(), **given)
    keys = core.chip_keys(key, CHIPS)
    many = jax.jit(jax.vmap(lambda k: drawn(k, x, w, spec)))(keys)
    whole = ensemble.ensemble(spec)
    one = jax.jit(jax.vmap(lambda k: drawn(k, x, w, whole)))(keys)
    many, one = np.asarray(many, np.float64), np.asarray(one, np.float64)
    error = np.sqrt((many.var(0) + one.var(0)) / CHIPS)
    assert np.all(np.abs(many.mean(0) - one.mean(0)) < 4.5 * error)
    # A std of 2,000 numbers is known to 1.6 %, the ratio of two to 2.2 %.
    np.testing.assert_allclose(one.std(0), many.std(0), rtol=5 * 0.022)
    # Vectors of a chip move together; those of an ensemble do not.
    together, apart = (
        np.corrcoef(a[:, 0, 0], a[:, 1, 0])[0, 1] for a in (many, one)
    )
    assert together > 0.3
    assert abs(apart) < 4.5 / np.sqrt(CHIPS)


def test_mean_weights_are_the_mean_of_chips(key):
    w = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 2, 5)))
    w = w.astype(jnp.float32)
    device = devices.get("pcm_nandakumar2019")
    spec = crossbar.Spec(device, seconds=3600.0)
    keys = core.chip_keys(key, CHIPS)
    make = lambda k: ensemble.weights(hardware.program(k, w, spec))  # noqa: E731
    chips = np.asarray(jax.jit(jax.vmap(make))(keys), np.float64)
    error = chips.std(0) / np.sqrt(CHIPS)
    gap = np.abs(chips.mean(0) - ensemble.mean_weights(spec, w))
    assert np.all(gap < 5 * error)


def test_every_key_gives_the_same_leaf(key):
    whole = ensemble.ensemble(crossbar.Spec(ideal()))
    w = jnp.eye(4)
    one = hardware.program(key, w, whole)
    two = hardware.program(jax.random.key(9), w, whole)
    assert all(
        jax.tree.leaves(jax.tree.map(np.array_equal, one.cells, two.cells))
    )


@pytest.mark.parametrize(
    "given", [{"compensate": True}, {"read": "batch"}], ids=str
)
def test_what_vectors_share_is_refused(given):
    with pytest.raises(checks.UsageError, match="an ensemble needs"):
        ensemble.ensemble(crossbar.Spec(ideal(), **given))


def test_a_kernel_is_refused(key):
    whole = ensemble.ensemble(crossbar.Spec(ideal()))
    with pytest.raises(checks.UsageError, match="holds matrices"):
        hardware.program(key, jnp.ones((3, 3, 2, 5)), whole)


def test_a_masked_weight_is_refused(key):
    whole = ensemble.ensemble(crossbar.Spec(ideal()))
    masked = hardware.MaskedRandom(jnp.ones((4, 2)), jnp.ones((4, 2)))
    with pytest.raises(checks.UsageError, match="MaskedRandom"):
        hardware.program(key, masked, whole)
