"""Fits recover devices that made the readings, and measured ones."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxedge import core
from jaxedge.hardware import devices

MICRO = 1e-6
PRESETS = ["rram_40nm_random", "rram_40nm_measured_50x50"]


def made(name, key, n=20_000, **overrides):
    """Conductances of a device's own cells."""
    device = devices.get(name, **overrides)
    cells = device.program(key, jnp.zeros(n))
    return device, cells, np.asarray(device.conductance(cells))


@pytest.fixture(scope="module")
def measured():
    """Two maps of the 40 nm macro, S."""
    root = Path(os.environ.get("JAXEDGE_DATA", "")) / "rram_measured"
    if not (root / "measured.npz").is_file():
        pytest.skip("no measured maps: set JAXEDGE_DATA")
    with np.load(root / "measured.npz") as file:
        arrays = [file[name] * MICRO for name in file.files]
    return {array.shape: array for array in arrays}


@pytest.mark.parametrize("name", PRESETS)
def test_a_fit_recovers_the_device(key, name):
    device, _, g = made(name, key)
    found = devices.fit(g)
    n = found.formed
    assert found.cells == g.size and found.device.family == device.family
    # Five standard errors of a share, a mean and a standard deviation.
    share = device.formed
    error = 5 * np.sqrt(share * (1 - share) / g.size)
    assert found.device.formed == pytest.approx(share, abs=error)
    std = device.lrs_std
    assert found.device.lrs_mean == pytest.approx(
        device.lrs_mean, abs=5 * std / np.sqrt(n)
    )
    assert found.device.lrs_std == pytest.approx(std, rel=5 / np.sqrt(2 * n))
    assert found.device.pristine == pytest.approx(device.pristine, rel=1e-4)
    # 1.63 / sqrt(n) is the 1 % point of the KS distance.
    assert found.distance[device.family] < 1.63 / np.sqrt(n)


def test_repeated_readings_tell_the_read_noise(key):
    device, cells, _ = made("rram_40nm_random", key, read_noise=0.05)
    keys = core.chip_keys(core.stream(key, "reads"), 6)
    reads = jax.vmap(lambda key: device.read(key, cells))(keys)
    found = devices.fit(reads, reads=0)
    # 10,000 cells of five degrees of freedom each.
    assert found.device.read_noise == pytest.approx(0.05, rel=0.02)
    assert found.device.lrs_std == pytest.approx(device.lrs_std, rel=0.05)
    assert found.cells == 20_000
    turned = devices.fit(np.moveaxis(np.asarray(reads), 0, -1), reads=-1)
    assert turned.device.read_noise == pytest.approx(found.device.read_noise)


def test_the_measured_maps_are_lognormal(measured):
    """Section 2 of device_physics: KS .024 against .050 for 50 x 50."""
    found = devices.fit(measured[50, 50])
    assert found.device.family == "lognormal"
    assert found.distance["lognormal"] == pytest.approx(0.024, abs=0.001)
    assert found.distance["normal"] == pytest.approx(0.050, abs=0.001)
    assert 1 - found.device.formed == pytest.approx(0.507, abs=5e-4)
    location = np.log(found.device.lrs_mean / MICRO)
    location -= (
        np.log1p((found.device.lrs_std / found.device.lrs_mean) ** 2) / 2
    )
    assert location == pytest.approx(2.5023, abs=1e-3)
    small = devices.fit(measured[50, 8])
    assert 1 - small.device.formed == pytest.approx(0.505, abs=5e-4)
    assert small.device.lrs_mean / MICRO == pytest.approx(12.272, rel=2e-3)


def test_a_fitted_device_draws_what_was_measured(key, measured):
    g = measured[50, 50]
    device = devices.fit(g).device
    cells = device.program(key, jnp.zeros(100_000))
    drawn = np.asarray(device.conductance(cells))
    result = stats.ks_2samp(drawn[drawn > MICRO], g[g > MICRO])
    assert result.pvalue > 0.01


@pytest.mark.parametrize("family", ["normal", "lognormal"])
def test_a_law_is_that_of_the_cells(key, family):
    device, _, g = made("rram_40nm_random", key, family=family, formed=1.0)
    distance = stats.ks_1samp(g, devices.law(device).cdf).statistic
    assert distance < 1.63 / np.sqrt(g.size)


@pytest.mark.parametrize(
    "readings, options, words",
    [
        (np.full(20, 12.0), {}, "give siemens"),
        (np.full(20, -1e-6), {}, "conductances is -1e-06"),
        (np.full(20, np.nan), {}, "conductances is nan"),
        (np.zeros(20), {}, "0 of 20 cells conduct"),
        (np.zeros(0), {}, "0 of 0 cells"),
        (np.full(20, 1e-5), {"family": "normla"}, "Did you mean 'normal'"),
        (np.full(20, 1e-5), {"reads": 1}, "reads=1 of readings of shape"),
        (np.full((1, 20), 1e-5), {"reads": 0}, "two readings"),
    ],
    ids=str,
)
def test_readings_that_fit_nothing(readings, options, words):
    with pytest.raises(core.UsageError, match=words):
        devices.fit(readings, **options)
