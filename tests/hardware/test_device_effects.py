"""Effects that any device may have, against closed forms in float64.

Keys are fixed. A limit of Z standard errors would fail one in two million of
other keys, a Kolmogorov distance above KS / sqrt(n) one in ten million.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxedge.core import chip_keys, stream
from jaxedge.hardware import devices

MICRO, Z, KS = 1e-6, 5.0, 2.9
N = 100_000
LEVEL = 12 * MICRO


@jax.jit
def write(device, key, event=0, level=LEVEL):
    """Conductances of N cells written to one level, uS."""
    return device.conductance(device.program(key, jnp.full(N, level), event))


def written(device, key, event=0, level=LEVEL):
    return np.asarray(write(device, key, event, level), np.float64) / MICRO


def correlation(a, b):
    return np.corrcoef(a, b)[0, 1]


def assert_distributed(x, law):
    distance = stats.kstest(x, law.cdf).statistic
    assert distance <= KS / np.sqrt(x.size), distance


def assert_share(hits, p):
    hits = np.asarray(hits)
    error = abs(hits.mean() - p)
    assert error <= Z * np.sqrt(p * (1 - p) / hits.size), hits.mean()


def laws(family, std):
    """Of a factor whose mean is 1."""
    if family == "normal":
        return stats.truncnorm(-1 / std, np.inf, 1, std)
    sigma = np.sqrt(np.log1p(std**2))
    return stats.lognorm(sigma, scale=np.exp(-(sigma**2) / 2))


# Programming events.


@pytest.mark.parametrize("family", ["normal", "lognormal"])
def test_device_and_event_are_two_levels_of_spread(key, family):
    """Chips, events and cells are an analysis of variance with two levels."""
    d2d, c2c, events = 0.2, 0.05, 3
    device = devices.get("ideal", d2d=d2d, c2c=c2c, spread_family=family)
    fixed = devices.get("ideal", d2d=d2d, spread_family=family)
    factor = written(fixed, key) / 12
    assert_distributed(factor, laws(family, d2d))
    cycles = [written(device, key, e) / 12 / factor for e in range(events)]
    for cycle in cycles:
        assert_distributed(cycle, laws(family, c2c))
        assert abs(correlation(cycle, factor)) <= Z / np.sqrt(N)
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        assert abs(correlation(cycles[a], cycles[b])) <= Z / np.sqrt(N)
    # Without a cycle part, another event changes nothing; another chip does.
    np.testing.assert_array_equal(factor, written(fixed, key, 7) / 12)
    other = written(fixed, stream(key, "other")) / 12
    assert abs(correlation(factor, other)) <= Z / np.sqrt(N)


@pytest.mark.parametrize("preset, level", [("ideal", 12), ("sonos", 6)])
def test_an_event_of_a_written_cell_draws_its_error_anew(key, preset, level):
    overrides = {"program_noise": 0.02} if preset == "ideal" else {}
    device = devices.get(preset, **overrides)
    a, b = (written(device, key, e, level * MICRO) for e in (0, 5))
    assert abs(correlation(a, b)) <= Z / np.sqrt(N)
    assert stats.ks_2samp(a, b).statistic <= KS * np.sqrt(2 / N)
    # Events are numbers: they can be mapped over and traced.
    events = jnp.array([0, 5])
    both = jax.vmap(write, (None, None, 0, None))(
        device, key, events, level * MICRO
    )
    np.testing.assert_allclose(both / MICRO, [a, b], rtol=2e-5)


@pytest.mark.parametrize("preset", ["rram_40nm_set_reset", "rram_40nm_random"])
def test_an_event_of_a_set_cell_keeps_its_level(key, preset):
    """(1 + c2c eps) on the level, eps normal and clipped at two sigma."""
    c2c = 0.01
    faults = {"stuck_on": 0.1, "stuck_off": 0.1, "unformed": 0.1}
    device = devices.get(preset, c2c=c2c, **faults)
    program = jax.jit(device.program)
    target = jnp.full(N, 30 * MICRO)
    first, again = (program(key, target, e) for e in (0, 1))
    plain = devices.get(preset, **faults).program(key, target)
    np.testing.assert_array_equal(first.state, again.state)
    stuck = np.asarray(plain.high == plain.low)
    assert_share(stuck, 0.3)
    eps = []
    for cells in (first, again):
        ratio = np.asarray(cells.high, np.float64) / plain.high
        assert (ratio[stuck] == 1).all()
        eps.append((ratio[~stuck] - 1) / c2c)
        inside = np.abs(eps[-1]) < 1.999
        # Float32 knows a ratio to 1e-7, and so eps to 1e-5.
        assert np.abs(eps[-1]).max() < 2.0001
        assert_share(~inside, 2 * stats.norm.cdf(-1.999))
        law = stats.truncnorm(-1.999, 1.999)
        assert_distributed(eps[-1][inside], law)
    assert abs(correlation(*eps)) <= Z / np.sqrt(eps[0].size)


# Stuck cells.


@pytest.mark.parametrize("preset", ["ideal", "rram_40nm_set_reset", "sonos"])
@pytest.mark.parametrize("on, off", [(0.0, 0.0), (0.1, 0.2)])
def test_unformed_cells_stay_pristine(key, preset, on, off):
    share, pristine = 0.07, 0.3 * MICRO
    faults = {"stuck_on": on, "stuck_off": off}
    device = devices.get(preset, unformed=share, pristine=pristine, **faults)
    others = devices.get(preset, **faults)
    found, sound = written(device, key), written(others, key)
    unformed = found == np.float64(np.float32(pristine)) / MICRO
    assert_share(unformed, share)
    # Nothing else has changed.
    np.testing.assert_array_equal(found[~unformed], sound[~unformed])
    np.testing.assert_array_equal(
        found[unformed], written(device, key, 1, 3 * MICRO)[unformed]
    )


def test_unformed_cells_of_an_as_formed_array(key):
    device = devices.get("rram_40nm_random", unformed=0.2)
    found = written(device, key)
    # Half of the others are not formed either.
    assert_share(found < 1, 0.6)
    whole = written(devices.get("rram_40nm_random"), key)
    np.testing.assert_array_equal(found[found > 1], whole[found > 1])


def test_a_fault_map_pins_the_cells_it_names(key):
    rng = np.random.default_rng(0)
    stuck = (rng.random((2, 30, 4)) < 0.2).astype(np.float32)
    pinned = np.where(stuck == 1, rng.uniform(0, 5e-6, stuck.shape), 9e-6)
    inner = devices.get("pcm_nandakumar2019", read_noise=0.1)
    device = devices.FaultMap(inner, stuck, pinned.astype(np.float32))
    device.check()
    target = np.full(stuck.shape, np.float32(LEVEL))
    cells, sound = (jax.jit(d.program)(key, target) for d in (device, inner))
    for seconds in (0.0, 1e5):
        for see in ("conductance", "read_std"):
            here = np.asarray(getattr(device, see)(cells, seconds))
            below = np.asarray(getattr(inner, see)(sound, seconds))
            at = pinned if see == "conductance" else 0.1 * pinned
            expected = np.where(stuck == 1, at, below)
            np.testing.assert_allclose(here, expected, rtol=1e-6)


def test_a_stuck_cell_is_read_with_relative_noise(key):
    device = devices.get("ideal", stuck_on=1.0, read_noise=0.1)
    cells = device.program(key, jnp.full(N, LEVEL))
    seen = np.asarray(device.read(stream(key, "read"), cells), np.float64)
    assert_distributed(seen / 25e-6, stats.norm(1, 0.1))


# Telegraph noise.

RTN = {"rtn_amplitude": 0.3, "rtn_tau_high": 2.0, "rtn_tau_low": 0.5}
HIGH, RATE = 0.8, 1 / 2.0 + 1 / 0.5  # share of the time, 1/s


@functools.cache
def trapped(share=1.0, noise=0.0):
    device = devices.get("ideal", rtn_share=share, read_noise=noise, **RTN)
    return device, device.program(jax.random.key(1), jnp.full(N, LEVEL))


def test_a_share_of_the_cells_has_a_trap(key):
    device, cells = trapped(share=0.3)
    trap = np.asarray(cells.trap)
    assert_share(trap == 1, 0.3)
    # A chip keeps its traps when it is written again, and gets more of them.
    target = jnp.full(N, LEVEL)
    again = device.program(jax.random.key(1), target, 3)
    np.testing.assert_array_equal(again.trap, trap)
    more = device.replace(rtn_share=0.5).program(jax.random.key(1), target)
    assert np.asarray(more.trap)[trap == 1].all()
    # The others are read as they are.
    seen = np.asarray(device.read(key, cells))
    assert (seen[trap == 0] == np.float32(LEVEL)).all()


def test_a_read_sees_one_of_two_levels(key):
    device, cells = trapped()
    seen = np.asarray(device.read(key, cells), np.float64) / LEVEL
    low = seen < 0.85
    np.testing.assert_allclose(seen[low], 0.7, rtol=1e-6)
    np.testing.assert_allclose(seen[~low], 1.0, rtol=1e-6)
    assert_share(low, 0.2)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_mean_and_spread_are_those_of_a_read(key, noise):
    device, cells = trapped(noise=noise)
    seen = np.asarray(device.read(key, cells), np.float64) / LEVEL
    # E f, E f^2 of the factor f, which is 1 or .7, times an independent read.
    mean, square = HIGH + 0.7 * 0.2, HIGH + 0.49 * 0.2
    std = np.sqrt(square * (1 + noise**2) - mean**2)
    np.testing.assert_allclose(
        device.conductance(cells) / LEVEL, mean, rtol=1e-5
    )
    np.testing.assert_allclose(device.read_std(cells) / LEVEL, std, rtol=1e-5)
    assert abs(seen.mean() - mean) <= Z * std / np.sqrt(N)
    fourth = np.mean((seen - mean) ** 4) / std**4
    assert abs(seen.std() / std - 1) <= Z * np.sqrt((fourth - 1) / 4 / N)


def test_a_trap_relaxes_exponentially(key):
    """Stationary at any time, correlated by exp(-t (1 / tau + 1 / tau))."""
    device, cells = trapped()
    times = np.array([0.0, 0.1, 0.4, 0.4, 1.5, 30.0], np.float32)
    states = np.asarray(jax.jit(device.states)(key, cells, times))
    assert {*np.unique(states)} == {0.0, 1.0}
    for state in states:
        assert_share(state == 1, HIGH)
    for i, a in enumerate(times):
        for j, b in enumerate(times[:i]):
            correlated = np.exp(-RATE * (np.float64(a) - b))
            differ = 2 * HIGH * (1 - HIGH) * (1 - correlated)
            assert_share(states[i] != states[j], differ)


def test_times_in_a_state_are_exponential(key):
    """Sampled at a fixed step, the length of a stay is geometric."""
    device = devices.get("ideal", **RTN)
    cells = device.program(key, jnp.full(32, LEVEL))
    step, count = 0.025, 8000
    times = step * np.arange(count, dtype=np.float32)
    states = np.asarray(jax.jit(device.states)(key, cells, times))
    for state, share in ((1, HIGH), (0, 1 - HIGH)):
        leave = (1 - share) * (1 - np.exp(-RATE * step))
        runs = []
        for course in states.T:
            jumps = np.flatnonzero(np.diff(course)) + 1
            lengths, kinds = np.diff(jumps), course[jumps[:-1]]
            runs.append(lengths[kinds == state])
        runs = np.concatenate(runs)
        error = np.sqrt(1 - leave) / leave / np.sqrt(runs.size)
        assert abs(runs.mean() - 1 / leave) <= Z * error
        distance = stats.ks_1samp(runs, stats.geom(leave).cdf).statistic
        assert distance <= leave + KS / np.sqrt(runs.size)  # whole numbers


def test_a_trace_is_the_course_of_the_cell(key):
    device = devices.get("pcm_nandakumar2019", rtn_share=0.5, **RTN)
    cells = jax.jit(device.program)(key, np.full(50, LEVEL))
    times = jnp.array([0.0, 1.0, 1e4])
    drawn = jax.jit(device.states)
    trace = np.asarray(jax.jit(device.trace)(key, cells, times))
    states = np.asarray(drawn(key, cells, times))
    assert states[:, np.asarray(cells.trap) == 0].all()
    for g, state, t in zip(trace, states, times, strict=True):
        whole = np.asarray(device.device.conductance(cells.cells, t))
        expected = whole * np.where(state == 1, 1, 0.7)
        np.testing.assert_allclose(g, expected, rtol=1e-6)
    # More times later change nothing.
    longer = drawn(key, cells, jnp.array([0.0, 1.0, 1e4, 2e4]))
    np.testing.assert_array_equal(longer[:3], states)


def test_traps_without_amplitude_are_silent(key):
    silent = devices.get("pcm_nandakumar2019", rtn_share=0.5)
    device = devices.get("pcm_nandakumar2019")
    target = np.full(100, np.float32(LEVEL))
    cells, plain = (jax.jit(d.program)(key, target) for d in (silent, device))
    for see in (silent.conductance, silent.read_std):
        expected = getattr(device, see.__name__)(plain, 100.0)
        np.testing.assert_allclose(see(cells, 100.0), expected, rtol=1e-6)


# I-V curves.

VOLTS = np.linspace(-0.4, 0.4, 9)


def current(device, v, g):
    """Of single cells, A, float64."""
    terms = device.curve(jnp.asarray(v, jnp.float32), jnp.asarray(g))
    return sum(np.asarray(d, np.float64) * np.asarray(s) for d, s in terms)


@pytest.mark.parametrize("g", [0.0, 0.1, 25.0])
@pytest.mark.parametrize("name", ["ideal", "rram_40nm_set_reset"])
def test_curves_are_their_formulas(name, g):
    level = np.full(VOLTS.shape, g * MICRO, np.float32)
    full = float(devices.get(name).g_max)

    def same(device, expected):
        # Relative to a straight line of the same cell.
        error = current(device, VOLTS, level) - expected
        assert np.abs(error).max() <= 2e-6 * g * MICRO
        assert not device.linear

    line = VOLTS * level
    np.testing.assert_allclose(
        current(devices.get(name), VOLTS, level), line, rtol=1e-6
    )
    bent = devices.get(name, iv_v0=0.3)
    same(bent, level * 0.3 * np.sinh(VOLTS / 0.3))
    cubic = devices.get(name, iv_a2=0.2, iv_a3=-0.7)
    same(cubic, level * (VOLTS + 0.2 * VOLTS**2 - 0.7 * VOLTS**3))
    steep = devices.get(name, iv_a3=0.5, iv_power=0.5)
    bend = 0.5 * full * np.sqrt(level / full)  # a3(G), A / V^3
    same(steep, line + bend * VOLTS**3)


def test_the_slope_at_no_voltage_is_the_conductance():
    for fields in ({"iv_v0": 0.2}, {"iv_a2": 0.3, "iv_a3": 2.0}):
        device = devices.get("ideal", **fields)
        slope = jax.grad(
            lambda v, d=device: sum(a * g for a, g in d.curve(v, LEVEL))
        )(0.0)
        assert slope == pytest.approx(LEVEL, rel=1e-6)


def test_products_of_terms_are_sums_over_cells(key):
    """drive @ siemens is the sum of single cells, stuck ones on the curve."""
    device = devices.get(
        "rram_40nm_set_reset", iv_a2=0.2, iv_a3=0.5, iv_power=0.6, stuck_on=0.2
    )
    device = devices.with_fields(device, rtn_amplitude=0.1)
    cells = device.program(key, jnp.full((9, 4), 30 * MICRO))
    g = np.asarray(device.conductance(cells, 3.0))
    terms = device.terms(jnp.asarray(VOLTS, jnp.float32), cells, 3.0)
    found = sum(np.asarray(d @ s) for d, s in terms)
    expected = current(device, np.tile(VOLTS[:, None], 4), g).sum(0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-11)


def test_a_linear_device_has_one_term():
    for name in devices.PRESETS:
        device = devices.get(name)
        assert device.linear
        v, g = jnp.ones(3), jnp.ones((3, 2))
        ((drive, siemens),) = device.curve(v, g)
        assert drive is v and siemens is g


# Wrappers together.

ALL = {
    "stuck_on": 0.05,
    "unformed": 0.02,
    "rtn_amplitude": 0.1,
    "iv_v0": 0.3,
    "d2d": 0.1,
    "c2c": 0.02,
}


@pytest.mark.parametrize("name", ["ideal", "pcm_joshi2020"])
def test_fields_find_their_wrapper_in_any_order(name):
    device = devices.get(name)
    for field in ALL:
        device = devices.with_fields(device, **{field: ALL[field]})
    backwards = devices.get(name)
    for field in reversed(ALL):
        backwards = devices.with_fields(backwards, **{field: ALL[field]})
    assert device == backwards == devices.get(name, **ALL)
    below = []
    while isinstance(device, devices.Wrapper):
        below.append(type(device).__name__)
        device = device.device
    assert below == ["Faulty", "Telegraph", "Sinh", "Spread"]
    assert device == devices.get(name)


def test_replacing_finds_the_owner_of_a_field():
    device = devices.get("sonos", **ALL)
    new = device.replace(stuck_on=0.5, iv_v0=0.7, drift=0.0, read_noise=0.1)
    expected = ALL | {"stuck_on": 0.5, "iv_v0": 0.7}
    assert new == devices.get("sonos", drift=0.0, read_noise=0.1, **expected)
    assert (new.g_max, new.read_noise) == (devices.get("sonos").g_max, 0.1)
    with pytest.raises(TypeError, match="unknowable"):
        device.replace(unknowable=1)


def test_own_fields_need_no_wrapper():
    fields = {"stuck_on": 0.1, "unformed": 0.1, "pristine": 1e-7, "c2c": 0.01}
    for name in ("rram_40nm_random", "rram_40nm_set_reset"):
        device = devices.get(name, **fields)
        assert not isinstance(device, devices.Wrapper)
        assert device == devices.with_fields(devices.get(name), **fields)
    mapped = devices.FaultMap(device, np.zeros(2), np.zeros(2))
    noisy = devices.with_fields(mapped, rtn_amplitude=0.1)
    assert isinstance(noisy, devices.FaultMap)
    assert isinstance(noisy.device, devices.Telegraph)


@pytest.mark.parametrize("name", ["ideal", "rram_40nm_set_reset", "sonos"])
def test_an_effect_of_size_zero_is_none(key, name):
    """Wrapped and silent, a chip is what it was."""
    own = name.startswith("rram")
    silent = {"rtn_amplitude": 0.0, "iv_v0": 0.3, "unformed": 0.0}
    silent |= {"c2c": 0.0} if own else {"d2d": 0.0, "stuck_on": 0.0}
    device = devices.get(name, **silent)
    for k in chip_keys(key, 3):
        # But for the rounding of what the compiler fuses.
        np.testing.assert_allclose(
            written(device, k), written(devices.get(name), k), rtol=3e-7
        )
