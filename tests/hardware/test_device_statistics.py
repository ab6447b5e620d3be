"""Moments and distributions against closed forms, float64.

Keys are fixed. A limit of Z standard errors would fail one in two million of
other keys, a Kolmogorov distance above KS / sqrt(n) one in ten million.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxedge.core import stream
from jaxedge.hardware import devices

MICRO, Z, KS = 1e-6, 5.0, 2.9
N = 160_000
MEAN, STD = 34.05538, 5.32269  # uS, device_physics section 2


@jax.jit
def program(device, key, target):
    written = device.program(key, target)
    return written, device.conductance(written)


def cells(name, target=0.0, dtype=jnp.float32, **overrides):
    """N cells programmed to one target (uS), their conductances in uS."""
    device = devices.get(name, **overrides)
    goal = jnp.full((400, N // 400), target * MICRO, dtype)
    written, g = program(device, stream(jax.random.key(0), name), goal)
    return written, in_micro(g)


def in_micro(g):
    return np.asarray(g, np.float64).ravel() / MICRO


def assert_share(hits, p):
    hits = np.asarray(hits)
    error = abs(hits.mean() - p)
    assert error <= Z * np.sqrt(p * (1 - p) / hits.size), hits.mean()


def assert_moments(x, mean, std, kurtosis=3.0):
    """Mean and std; the error of the std needs the kurtosis."""
    assert abs(x.mean() - mean) <= Z * std / np.sqrt(x.size), x.mean()
    relative = np.sqrt((kurtosis - 1) / 4 / x.size)
    assert abs(x.std() / std - 1) <= Z * relative, x.std()


def assert_distributed(x, distribution):
    mean, var, _, excess = distribution.stats("mvsk")
    assert_moments(x, mean, np.sqrt(var), excess + 3)
    distance = stats.kstest(x, distribution.cdf).statistic
    assert distance <= KS / np.sqrt(x.size), distance


def lognormal(mean, std):
    """With the given moments of the conductance itself (D.1)."""
    sigma = np.sqrt(np.log1p((std / mean) ** 2))
    return stats.lognorm(sigma, scale=mean * np.exp(-(sigma**2) / 2))


def truncated(mean, std):
    return stats.truncnorm(-mean / std, np.inf, mean, std)


@pytest.mark.parametrize("formed", [0.02, 0.25, 0.5, 0.493, 0.999])
def test_the_forming_share(formed):
    _, g = cells("rram_40nm_random", formed=formed)
    assert_share(g != g.min(), formed)
    assert g.min() == pytest.approx(0.1)  # pristine: 10 Mohm
    if formed == 0.5:
        assert_distributed(g[g > g.min()], truncated(MEAN, STD))


@pytest.mark.parametrize("std", [STD, 20.0, 60.0])
def test_a_normal_level_is_truncated_above_zero(std):
    _, g = cells("rram_40nm_set_reset", MEAN, lrs_std=std * MICRO)
    assert_distributed(g, truncated(MEAN, std))
    assert g.min() > 0


@pytest.mark.parametrize("mean, std", [(MEAN, STD), (5.0, 4.0)])
def test_a_lognormal_level_has_the_given_moments(mean, std):
    _, g = cells(
        "rram_40nm_set_reset",
        60.0,  # far above the threshold, whatever the mean
        lrs_mean=mean * MICRO,
        lrs_std=std * MICRO,
        family="lognormal",
    )
    assert_distributed(g, lognormal(mean, std))


def test_the_measured_preset_is_the_measured_lognormal():
    # Fit to the 50 x 50 map: mu 2.5023, sigma .1486 of ln uS (section 2);
    # the preset keeps the mean and std of the map itself.
    _, g = cells("rram_40nm_measured_50x50")
    log = np.log(g[g > 1])
    assert_share(g > 1, 1 - 0.507)
    assert abs(log.mean() - 2.5023) < 0.002
    assert abs(log.std() - 0.1486) < 0.003


@pytest.mark.parametrize("mean, std", [(1.0, 0.5), (0.5, 2.0)])
def test_the_high_resistance_level_is_a_folded_normal(mean, std):
    _, g = cells(
        "rram_40nm_set_reset", hrs_mean=mean * MICRO, hrs_std=std * MICRO
    )
    assert_distributed(g, stats.foldnorm(mean / std, scale=std))


@pytest.mark.parametrize("target", [0.0, MEAN])
@pytest.mark.parametrize("on, off", [(0.001, 0.0), (0.0, 0.01), (0.2, 0.7)])
def test_stuck_shares_hold_whatever_the_target(target, on, off):
    written, g = cells(
        "rram_40nm_set_reset", target, stuck_on=on, stuck_off=off
    )
    high = g > 10  # 4.5 std below the one level, 18 above the other
    assert_share(high, 1 - off if target else on)
    stuck = np.asarray(written.high == written.low).ravel()
    assert_share(stuck, on + off)


@pytest.mark.parametrize("on, off", [(0.1, 0.0), (0.0, 0.1), (0.1, 0.3)])
def test_stuck_cells_of_an_as_formed_array(on, off):
    _, g = cells("rram_40nm_random", stuck_on=on, stuck_off=off)
    # A stuck cell is at its own level, formed or not; the others divide.
    assert_share(g > 10, on + (1 - on - off) / 2)
    assert_share(g == g[np.abs(g - 0.1) < 1e-4][0], (1 - on - off) / 2)


@pytest.mark.parametrize("noise", [0.002, 0.1])
def test_programming_noise_is_relative_to_the_largest_conductance(noise):
    _, g = cells("ideal", 12.0, program_noise=noise)
    assert_distributed(g, stats.norm(12.0, 25 * noise))


def test_programming_never_ends_below_zero():
    _, g = cells("ideal", 0.0, program_noise=0.1)
    assert g.min() == 0
    assert_share(g > 0, 0.5)
    _, above = cells("ideal", 1000.0, g_max=25 * MICRO)
    np.testing.assert_allclose(above, 25, rtol=1e-6)


def test_read_noise_is_relative_to_the_conductance(key):
    device = devices.get("rram_40nm_set_reset", read_noise=0.03)
    written, g = cells("rram_40nm_set_reset", MEAN)
    relative = in_micro(device.read(key, written)) / g - 1
    assert_distributed(relative, stats.norm(0, 0.03))
    std = in_micro(device.read_std(written))
    np.testing.assert_allclose(std, 0.03 * g, rtol=1e-5)


def test_levels_of_a_pair_and_of_a_cell_are_independent():
    written, _ = cells("rram_40nm_set_reset", stuck_on=0.3)
    high, low = (np.asarray(level).ravel() for level in written[:2])
    free = high != low
    independent = [
        (high[:-1], high[1:]),
        (high[: N // 2], high[N // 2 :]),
        (high[free], low[free]),
        (high, free),
    ]
    for a, b in independent:
        assert abs(np.corrcoef(a, b)[0, 1]) <= Z / np.sqrt(a.size)


def test_forming_is_independent_of_the_level_and_of_faults():
    written, _ = cells("rram_40nm_random", stuck_on=0.3)
    high, state = (np.asarray(a).ravel() for a in (written.high, written.state))
    stuck = np.asarray(written.low == written.high).ravel()
    for a, b in [(high, state), (stuck, state), (state[:-1], state[1:])]:
        assert abs(np.corrcoef(a, b)[0, 1]) <= Z / np.sqrt(N)


def test_the_forming_law():
    volts = np.linspace(2.9, 4.0, 45)
    expected = stats.norm.cdf(volts, 3.433, 0.114)
    np.testing.assert_allclose(
        devices.forming_probability(volts), expected, rtol=1e-4, atol=1e-7
    )
    shifted = devices.forming_probability(3.0, mean=2.9, std=0.2)
    assert shifted == pytest.approx(stats.norm.cdf(0.5), rel=1e-5)


def test_the_forming_law_meets_the_measured_cells():
    # Unbroken fraction of 20 x 20 cells by voltage (section 2).
    volts = np.array([3.2, 3.3, 3.4, 3.43, 3.5, 3.6])
    unbroken = np.array([0.970, 0.840, 0.613, 0.513, 0.293, 0.058])
    error = devices.forming_probability(volts) - (1 - unbroken)
    assert np.abs(error).max() < 0.04


@pytest.mark.parametrize("name", ["ideal", "pcm_nandakumar2019", "sonos"])
def test_any_device_has_stuck_cells(key, name):
    on, off, n = 0.03, 0.05, 100_000
    device = devices.get(name, stuck_on=on, stuck_off=off)
    whole = devices.get(name)
    target = jnp.full(n, 0.5 * jnp.float32(whole.g_max))
    cells, sound = device.program(key, target), whole.program(key, target)
    for seconds in (0.0, 1e6):
        g = np.asarray(device.conductance(cells, seconds))
        at_max, at_min = g == np.float32(whole.g_max), g == whole.g_min
        # Five standard errors of a share.
        for found, share in ((at_max, on), (at_min, off)):
            error = 5 * np.sqrt(share * (1 - share) / n)
            assert found.mean() == pytest.approx(share, abs=error)
        # The others are what they would have been.
        rest = ~(at_max | at_min)
        expected = np.asarray(whole.conductance(sound, seconds))
        np.testing.assert_array_equal(g[rest], expected[rest])
        std = np.asarray(device.read_std(cells, seconds))
        np.testing.assert_array_equal(
            std[rest], np.asarray(whole.read_std(sound, seconds))[rest]
        )
    # Nothing that is written moves a stuck cell.
    other = device.conductance(device.program(key, 0.2 * target))
    reset = device.conductance(device.reset(cells, jnp.zeros(n)))
    for moved in (other, reset):
        np.testing.assert_array_equal(np.asarray(moved)[at_max], g[at_max])
    assert (np.asarray(reset)[rest] == whole.g_min).all()


def test_a_higher_fault_rate_keeps_the_faults_of_a_lower(key):
    def stuck(rate):
        device = devices.get("ideal", stuck_on=rate, stuck_off=rate)
        return np.asarray(device.program(key, jnp.zeros(10_000)).sound) == 0

    assert stuck(0.05)[stuck(0.02)].all()


@pytest.mark.parametrize("std", [0.0, 1e-12, 1e-6])
@pytest.mark.parametrize("family", ["normal", "lognormal"])
def test_a_spread_has_a_slope_down_to_none(key, family, std):
    """A level's slope to its spread is its standard normal number.

    (Where no level has any spread, no number is drawn, and the slope is 0.)
    """

    def level(std, hrs_std=1e-7):
        device = devices.get(
            "rram_40nm_set_reset", family=family, lrs_std=std, hrs_std=hrs_std
        )
        return device.program(key, jnp.full(4, 30e-6)).high

    slope = jax.jit(jax.jacfwd(level))(std)
    assert np.isfinite(slope).all()
    # Any spread shows the number; lognormal levels bend with it.
    number = (level(1e-8) - level(0.0)) / 1e-8
    np.testing.assert_allclose(slope, number, rtol=0.02, atol=0.1)


@pytest.mark.parametrize("family", ["normal", "lognormal"])
def test_targets_in_bfloat16_are_as_random(family):
    overrides = {"stuck_off": 0.003, "family": family}
    _, g = cells("rram_40nm_set_reset", MEAN, jnp.bfloat16, **overrides)
    assert_share(g < 10, 0.003)
    law = truncated if family == "normal" else lognormal
    assert_distributed(g[g > 10], law(MEAN, STD))
