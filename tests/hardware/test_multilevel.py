"""Written cells against their published formulas, in float64 numpy.

100,000 cells a case; means and spreads lie within Z = 3 standard errors, keys
being fixed.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import core
from jaxedge import hardware as hw
from jaxedge.hardware import devices
from jaxedge.hardware.crossbar import Spec

N, Z, MICRO = 100_000, 3.0, 1e-6
HOUR, DAY, YEAR = 3600.0, 86400.0, 365 * 86400.0
TIMES = [25.0, HOUR, DAY, YEAR]
WRITTEN = [
    "pcm_nandakumar2019",
    "pcm_joshi2020",
    "rram_wan2022",
    "rram_cmo_hfox_falcone",
    "sonos",
]
SHARES = [0.3, 0.9]  # of the largest conductance

# Standard normal numbers and their weights, fine enough for kinks.
GRID = np.linspace(-9, 9, 180_001)
MASS = np.exp(-(GRID**2) / 2) / np.sqrt(2 * np.pi) * (GRID[1] - GRID[0])


def moments(*factors):
    """Mean and std of a product of independent functions of GRID."""
    mean = np.prod([np.sum(f * MASS) for f in factors])
    power = np.prod([np.sum(f**2 * MASS) for f in factors])
    return mean, np.sqrt(power - mean**2)


def pcm(name, target, t):
    """uS: mean and std of cells written to `target`, t seconds later."""
    r = target / 25
    sigma = 0.26348 + 1.9650 * r - 1.1731 * r**2
    if name == "pcm_joshi2020":
        sigma = -0.00178767 * target**2 + 0.07585724 * target + 0.28638599
    mean = np.clip(-0.0155 * np.log(r) + 0.0244, 0.049, 0.1)
    spread = np.clip(-0.0125 * np.log(r) - 0.0059, 0.008, 0.045)
    nu = np.abs(mean + spread * GRID)
    written = np.maximum(target + sigma * GRID, 0)
    return moments(written, ((t + 20) / 20) ** -nu)


def wan(name, target, t):
    fits = {
        1.0: [-16.815, 45.393, -43.853, 16.030, 0.348],
        DAY: [-16.458, 47.095, -50.773, 22.086, 0.701],
        2 * DAY: [-11.934, 37.062, -43.507, 20.274, 0.782],
    }
    sigmas = [np.polyval(fit, target / 40) for fit in fits.values()]
    sigma = np.interp(np.log(t), np.log(list(fits)), sigmas)
    return moments(np.maximum(target + sigma * GRID, 0))


def cmo(name, target, t):
    spread = 0.04201137 * np.log(t) + 0.41183342
    written = 0.00081107 + 0.00106879 * target
    both = np.hypot(spread, written)
    g = target - 0.08900206 * np.log(t) + both * GRID
    return moments(np.clip(g, 9, 88.199997))


SONOS = {
    0: (19.88665, 176.3115, [0.0]),
    1: (25.59102, 186.85544, [
        6.83650e-01, 6.51250e-03, -4.03163e-04, 3.37944e-06, -1.87435e-08,
        5.88902e-11, -1.07685e-13, 1.17751e-16, -7.60016e-20, 2.67255e-23,
        -3.94954e-27]),
    5: (34.57909, 207.34309, [
        1.15294e00, 1.03149e-02, -6.05199e-05, 1.76086e-08, -6.46690e-09,
        3.39044e-11, -7.53872e-14, 8.98185e-17, -6.00346e-20, 2.12615e-23,
        -3.11099e-27]),
}  # fmt: skip


def sonos(name, target, t):
    """Between 0 and 1 days by interpolation, at 5 days afterwards."""
    current = 100 * target  # nA of uS at .1 V
    days = min(t / DAY, 5)
    low, high = (0, 1) if days <= 1 else (5, 5)
    share = days - low if low != high else 0.0
    law = [
        [a, b, np.polynomial.polynomial.polyval(current, c)]
        for a, b, c in (SONOS[low], SONOS[high])
    ]
    a, b, moved = np.average(law, axis=0, weights=[1 - share, share])
    mean = current + moved
    sigma = a - a * np.exp(-mean / b)
    return moments(np.maximum(mean + sigma * GRID, 0) / 100)


FORMULAS = {
    "pcm_nandakumar2019": pcm,
    "pcm_joshi2020": pcm,
    "rram_wan2022": wan,
    "rram_cmo_hfox_falcone": cmo,
    "sonos": sonos,
}


def read_noise(name, start, g, t):
    """uS: std of one read of cells written to `start` that are now at `g`."""
    if name.startswith("pcm"):
        q = np.minimum(0.0088 / np.maximum((start / 25) ** 0.65, 1e-3), 0.2)
        return g * q * np.sqrt(np.log((t + 20 + 250e-9) / 500e-9))
    if name == "rram_wan2022":
        return 0.01 * g
    if name == "sonos":
        return (12.58037 - 12.58037 * np.exp(-100 * g / 215.36557)) / 100
    k = 0.0277316483 * np.sqrt(np.log((t + 1e-6) / 2e-6))
    return np.abs(k * np.log10(g))


@functools.cache
def cells(name, share):
    """100,000 cells of one target; the target in uS."""
    device = devices.get(name)
    target = share * float(device.g_max)
    key = core.stream(jax.random.key(0), f"{name}/{share}")
    written = jax.jit(device.program)(key, jnp.full(N, target, jnp.float32))
    return device, written, target / MICRO


def micro(g):
    return np.asarray(g, np.float64) / MICRO


def standard_errors(sample):
    """Of the mean and of the standard deviation."""
    std = sample.std()
    fourth = np.mean((sample - sample.mean()) ** 4)
    of_std = np.sqrt(max(fourth - std**4, 0) / sample.size) / (2 * std)
    return std / np.sqrt(sample.size), of_std


cases = pytest.mark.parametrize("name", WRITTEN)
program, dot = jax.jit(hw.program), jax.jit(hw.dot)


def test_every_written_preset_is_here():
    assert {
        name
        for name in devices.PRESETS
        if hasattr(devices.get(name), "write_error")
    } == set(WRITTEN)


@cases
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("t", TIMES)
def test_cells_have_the_published_moments(name, share, t):
    device, written, target = cells(name, share)
    g = micro(device.conductance(written, t))
    mean, std = FORMULAS[name](name, target, t)
    of_mean, of_std = standard_errors(g)
    assert abs(g.mean() - mean) <= Z * of_mean
    assert abs(g.std() - std) <= Z * of_std


@cases
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("t", TIMES)
def test_reads_have_the_published_noise(name, share, t):
    device, written, _ = cells(name, share)
    g = micro(device.conductance(written, t))
    start = micro(written.g) if name.startswith("pcm") else None
    expected = read_noise(name, start, g, t)
    std = micro(device.read_std(written, t))
    np.testing.assert_allclose(std, expected, rtol=3e-5, atol=1e-6)
    key = core.stream(jax.random.key(1), f"{name}/{share}/{t}")
    lit = expected > 0  # a cell at zero has no noise that is a share of it
    z = ((micro(device.read(key, written, t)) - g)[lit]) / expected[lit]
    assert abs(z.mean()) <= Z / np.sqrt(z.size)
    assert abs(z.var() - 1) <= Z * np.sqrt(2 / z.size)


@cases
def test_what_is_switched_off_is_off(name):
    off = {"write_error": 0.0, "flicker": 0.0, "read_noise": 0.0}
    if name != "rram_wan2022":
        off["drift"] = 0.0
    device = devices.get(name, **off)
    share = jnp.linspace(0.2, 1, 9)
    target = share * jnp.float32(device.g_max)
    written = device.program(jax.random.key(0), target)
    for t in (0.0, DAY):
        seen = device.read(jax.random.key(1), written, t)
        np.testing.assert_allclose(seen, target, rtol=1e-6)


@cases
def test_time_moves_no_number_that_was_drawn(name):
    """Cells keep their rank where time only widens a spread."""
    device, written, _ = cells(name, 0.9)
    early, late = (device.conductance(written, t) for t in (HOUR, DAY))
    correlation = np.corrcoef(early, late)[0, 1]
    assert correlation > 0.9


@cases
def test_targets_beyond_the_range_are_refused(name):
    device = devices.get(name)
    beyond = jnp.array([0.5, 1.01]) * device.g_max
    with pytest.raises(core.UsageError, match="target_S is .* must lie in"):
        device.program(jax.random.key(0), beyond)


def test_another_range_stretches_the_law():
    """aihwkit's rule for g_max: error and argument stretch with it."""
    target = jnp.full(N, 30 * MICRO, jnp.float32)
    wide = devices.get("pcm_nandakumar2019", g_max=50 * MICRO)
    g = micro(wide.program(jax.random.key(0), target).g)
    sigma = 2 * (0.26348 + 1.9650 * 0.6 - 1.1731 * 0.36)
    assert abs(g.std() - sigma) <= Z * standard_errors(g)[1]
    # Joshi's is a law of absolute conductance.
    wide = devices.get("pcm_joshi2020", g_max=50 * MICRO)
    g = micro(wide.program(jax.random.key(0), target).g)
    sigma = -0.00178767 * 900 + 0.07585724 * 30 + 0.28638599
    assert abs(g.std() - sigma) <= Z * standard_errors(g)[1]


def test_sonos_has_no_law_above_its_currents():
    with pytest.raises(core.UsageError, match="g_max is"):
        devices.get("sonos", g_max=20 * MICRO)


@cases
def test_a_chip_ages_in_one_program(name, key, compilations):
    """A sweep over time is one compiled map."""
    w = jax.random.normal(key, (40, 30))
    x = jax.random.normal(key, (5, 40))
    leaf = program(key, w, Spec(devices.get(name)))

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    def outputs(seconds, key):
        spec = Spec(devices.get(name), seconds=seconds)
        return hw.dot(x, hw.Crossbar(leaf.cells, leaf.scale, spec, (40, 30)))

    y = outputs(jnp.array([0.0, HOUR, DAY]), key)
    assert np.isfinite(y).all() and (y[0] != y[2]).any()
    with compilations() as names:
        outputs(jnp.array([1.0, 2.0, 3.0]), key)
    assert not names


@pytest.mark.parametrize("converters", [{}, {"input_bits": 8, "adc_bits": 12}])
def test_one_drift_of_all_cells_is_compensated(key, converters):
    """With equal exponents the factor is exact: 51^nu after 1,000 s."""
    w = jax.random.choice(key, jnp.array([-1.0, 1.0]), (40, 30))
    x = jax.random.normal(key, (5, 40))
    # Written at full scale, r = 1, exponents are N(.049, .008): none spread.
    device = devices.get("pcm_nandakumar2019", write_error=0.0, drift=0.0)
    leaf = program(key, w, Spec(device, compensate=True, **converters))
    fresh = dot(x, leaf)
    cells = leaf.cells._replace(exponent=jnp.full((2, 40, 30), 0.05))
    spec = dataclasses.replace(leaf.spec, seconds=1000.0)
    old = dataclasses.replace(leaf, cells=cells, spec=spec)
    assert float(old.compensation()) == pytest.approx(51**0.05, rel=1e-5)
    scale = np.abs(fresh).max()
    np.testing.assert_allclose(dot(x, old), fresh, atol=2e-3 * scale)
    plain = dataclasses.replace(
        old, spec=dataclasses.replace(spec, compensate=False)
    )
    decayed = dot(x, plain) * 51**0.05
    np.testing.assert_allclose(decayed, fresh, atol=2e-3 * scale)


def test_compensation_helps_cells_that_drift_apart(key):
    w = jax.random.normal(key, (300, 100))
    x = jax.random.normal(core.stream(key, "x"), (20, 300))

    def error(compensate):
        spec = Spec(
            devices.get("pcm_nandakumar2019"), DAY, compensate=compensate
        )
        y = dot(x, program(key, w, spec))
        return np.std(y - x @ w) / np.std(x @ w)

    # A day takes about 35 %; what is left is the spread of the exponents.
    assert error(False) > 0.3
    assert error(True) < 0.15


def test_an_array_of_nothing_is_not_compensated(key):
    spec = Spec(devices.get("pcm_nandakumar2019", write_error=0.0), DAY,
                compensate=True)  # fmt: skip
    leaf = hw.program(key, jnp.zeros((3, 2)), spec)
    assert float(leaf.compensation()) == 1
