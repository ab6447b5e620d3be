"""Programming until a read is close enough."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxedge import core
from jaxedge import hardware as hw
from jaxedge.hardware import devices
from jaxedge.hardware.crossbar import Spec
from jaxedge.hardware.devices import step_laws
from jaxedge.hardware.devices.faults import Faulty
from jaxedge.hardware.devices.pulsed import Pulsed
from jaxedge.hardware.wear import Wear
from jaxedge.hardware.write_verify import Verified, write_again, write_verify

MICRO = 1e-6
N = 20_000
# Kolmogorov-Smirnov distance of N draws at a level of 1e-4.
KS = 2.23 / np.sqrt(N)
PULSED = step_laws.get(
    "gokmen_vlasov2016", dw_min=0.02, up_joules=2e-12, down_joules=1e-12
)
TARGET = MICRO * np.linspace(5, 20, 60, dtype=np.float32).reshape(6, 10)


def written(key, device=PULSED, target=TARGET, tolerance=0.3 * MICRO, most=200):
    cells = device.init(core.stream(key, "chip"), target.shape)
    return write_verify(
        key,
        device,
        cells,
        target,
        tolerance_S=tolerance,
        max_pulses=most,
    )


compiled = jax.jit(written, static_argnames="most")


def again(device, tolerance, target=20 * MICRO, most=200, n=N):
    return write_again(
        jax.random.key(0),
        device,
        jnp.full(n, target),
        tolerance_S=tolerance,
        max_events=most,
    )


def test_pulses_bring_cells_to_their_targets(key):
    # Steps are .25 uS, the tolerance is .3 uS, bounds of 5 and 20 uS are rare.
    found = compiled(key, PULSED, TARGET, 0.3 * MICRO)
    error = np.abs(PULSED.conductance(found.cells) - TARGET)
    assert found.converged.sum() >= 50
    np.testing.assert_array_equal(found.converged, error <= 0.3 * MICRO)
    np.testing.assert_allclose(found.share, found.converged.mean(), rtol=1e-6)
    np.testing.assert_array_equal(found.pulses, found.cells.pulses)
    # A cell that is close enough from the start is left alone.
    start = PULSED.init(core.stream(key, "chip"), TARGET.shape)
    close = np.abs(PULSED.conductance(start) - TARGET) <= 0.3 * MICRO
    np.testing.assert_array_equal(found.pulses == 0, close)
    price = found.cells.ups.sum() * 2e-12 + found.cells.downs.sum() * 1e-12
    np.testing.assert_allclose(found.joules, price, rtol=1e-5)


def test_each_pulse_counts_and_no_more_than_allowed(key):
    law = Pulsed(
        **dict.fromkeys(Pulsed._spreads, 0.0),
        dw_min=0.04,
        w_min=-1.0,
        w_max=1.0,
    ).replace(zero_S=10 * MICRO, unit_S=10 * MICRO)
    target = MICRO * jnp.array([10.0, 11.0, 8.6, 14.0])
    found = written(key, law, target, 0.21 * MICRO, 7)
    # Steps are .4 uS: 1.0 takes two or three, 1.4 three, 4.0 ten.
    np.testing.assert_array_equal(found.pulses, [0, 2, 3, 7])
    np.testing.assert_array_equal(found.converged, [True, True, True, False])
    assert found.joules is None
    done = written(key, law, target, 0.21 * MICRO, 10)
    np.testing.assert_array_equal(done.pulses, [0, 2, 3, 10])
    assert done.share == 1


def test_cells_that_cannot_get_there_are_flagged(key):
    """Targets beyond the bounds, and cells that wear out on the way."""
    far_off = np.full_like(TARGET, 40 * MICRO)
    beyond = compiled(key, PULSED, far_off, 0.3 * MICRO)
    assert not beyond.converged.all() and beyond.share < 0.1
    assert (beyond.pulses[~beyond.converged] == 200).all()
    weak = PULSED.replace(wear=Wear(4.0))
    worn = compiled(key, weak, TARGET, 0.3 * MICRO)
    far = np.abs(TARGET - 12.5 * MICRO) > 5 * MICRO
    assert not worn.converged[far].any()
    # A wider tolerance takes all.
    assert compiled(key, PULSED, TARGET, 1.0).share == 1


def test_a_noisy_check_lets_some_pass(key):
    noisy = PULSED.replace(read_noise=0.05)
    found = compiled(key, noisy, TARGET, 0.3 * MICRO)
    error = np.abs(noisy.conductance(found.cells) - TARGET)
    assert found.share > 0.9  # All but those whose bounds are too narrow.
    assert (error[found.converged] > 0.3 * MICRO).any()


def test_programming_is_its_key_under_every_transformation(key):
    keys = core.chip_keys(key, 2)
    both = jax.jit(jax.vmap(written))(keys)
    assert (both.cells.w[0] != both.cells.w[1]).any()
    for row, chip in enumerate(keys):
        one = written(chip)
        np.testing.assert_array_equal(one.pulses, both.pulses[row])
        np.testing.assert_allclose(one.cells.w, both.cells.w[row], atol=1e-6)


def test_new_numbers_compile_nothing(key, compilations):
    compiled(key, PULSED, TARGET, 0.3 * MICRO)
    with compilations() as names:
        compiled(key, PULSED.replace(dw_min=0.03), TARGET, 0.4 * MICRO)
    assert not names


@pytest.mark.parametrize(
    "device, std",
    [
        (devices.get("ideal", program_noise=0.04), 0.04 * 25 * MICRO),
        (
            devices.get("rram_cmo_hfox_falcone", flicker=0.0, write_error=9.0),
            9 * (0.00081107 + 0.00106879 * 20) * MICRO,
        ),
    ],
    ids=["ideal", "falcone"],
)
def test_the_error_is_the_published_one_cut_off(device, std):
    """n = 20,000 against scipy's truncated normal law."""
    found = again(device, 0.5 * std)
    error = np.asarray(device.conductance(found.cells), np.float64) / MICRO - 20
    law = stats.truncnorm(-0.5, 0.5, scale=std / MICRO)
    assert found.converged.all()
    assert stats.kstest(error, law.cdf).statistic < KS
    # The number of events is geometric.
    p = stats.norm.cdf(0.5) - stats.norm.cdf(-0.5)
    se = np.sqrt(1 - p) / p / np.sqrt(N)
    assert abs(np.mean(found.pulses) - 1 / p) < 5 * se
    assert found.pulses.min() == 1


def test_a_noisy_check_widens_the_cut():
    """n = 20,000: density phi(e) [Phi((t - e) / s) - Phi((-t - e) / s)]."""
    device = devices.get("ideal", program_noise=0.04, read_noise=0.01)
    found = again(device, 0.5 * MICRO)
    error = np.asarray(found.cells.g, np.float64) / MICRO - 20
    e = np.linspace(-5, 5, 4001)
    s = 0.01 * (20 + e)  # relative to what is read
    density = stats.norm.pdf(e) * (
        stats.norm.cdf((0.5 - e) / s) - stats.norm.cdf((-0.5 - e) / s)
    )
    cdf = np.cumsum(density) / density.sum()
    distance = stats.kstest(error, lambda x: np.interp(x, e, cdf)).statistic
    assert distance < KS


def test_cells_that_never_fit_are_flagged():
    """n = 20,000, one event: the share is that of the normal law."""
    device = devices.get("ideal", program_noise=0.04)
    found = again(device, 0.5 * MICRO, most=1)
    p = stats.norm.cdf(0.5) - stats.norm.cdf(-0.5)
    assert abs(found.share - p) < 5 * np.sqrt(p * (1 - p) / N)
    np.testing.assert_array_equal(found.pulses, 1)
    off = np.abs(found.cells.g - 20 * MICRO) > 0.5 * MICRO
    np.testing.assert_array_equal(found.converged, ~off)
    assert found.joules is None
    nothing = again(device, 0.0, most=3, n=10)
    np.testing.assert_array_equal(nothing.pulses, 3)
    assert nothing.share == 0


@pytest.mark.parametrize(
    "name", ["pcm_nandakumar2019", "rram_wan2022", "rram_cmo_hfox_falcone"]
)
def test_every_multilevel_device_can_be_verified(name, key):
    plain = devices.get(name)
    device = Verified(plain, 0.2 * MICRO, 1e-12, max_events=400)
    device.check()
    target = jnp.full(400, 15 * MICRO)

    @jax.jit
    def program(key):
        return device.program(key, target), plain.program(key, target)

    cells, cells_unchecked = program(key)
    assert cells.share == 1
    # A fit whose read is noisy may lie a little outside.
    error = np.abs(device.conductance(cells) - target)
    unchecked = plain.conductance(cells_unchecked) - target
    assert error.max() < 3 * MICRO and error.std() < np.std(unchecked) + 1e-12
    price = cells.pulses.sum() * 1e-12
    np.testing.assert_allclose(cells.joules, price, rtol=1e-5)


def test_a_crossbar_holds_verified_cells(key):
    plain = devices.get("ideal", program_noise=0.04)
    w = jax.random.normal(jax.random.key(1), (6, 4))

    @jax.jit
    def off(device):
        chip = hw.program(key, w, Spec(device))
        return hw.dot(jnp.eye(6), chip) - w

    close = off(Verified(plain, 0.1 * MICRO))
    assert np.abs(close).max() < np.abs(w).max() * 2 * 0.1 / 25 + 1e-5
    assert np.abs(off(plain)).max() > 3 * np.abs(close).max()
    # Stuck cells stay what they are, outside and inside.
    for faulty in (
        Faulty(Verified(plain, 0.1 * MICRO), stuck_on=0.5),
        Verified(Faulty(plain, stuck_on=0.5), 0.1 * MICRO),
    ):
        cells = jax.jit(faulty.program)(key, np.full(1000, 5 * MICRO))
        g = faulty.conductance(cells)
        stuck = np.isclose(g, 25 * MICRO)
        assert abs(np.mean(stuck) - 0.5) < 5 * 0.5 / np.sqrt(1000)
    np.testing.assert_array_equal(cells.converged, ~stuck)


def test_verified_cells_have_slopes_and_can_be_swept(key):
    target = jnp.linspace(1, 20, 8) * MICRO

    def cells(noise):
        plain = devices.get("ideal", program_noise=0.0)
        device = Verified(plain, MICRO).replace(program_noise=noise)
        return device.conductance(device.program(key, target)).sum()

    run = jax.jit(jax.value_and_grad(cells))
    near = (run(0.02001)[0] - run(0.01999)[0]) / 2e-5
    np.testing.assert_allclose(run(0.02)[1], near, rtol=0.05)
    each = [run(n)[0] for n in (0.0, 0.05)]
    both = jax.jit(jax.vmap(cells))(jnp.array([0.0, 0.05]))
    np.testing.assert_allclose(both, each, rtol=1e-5)


BAD = [
    (lambda: written(jax.random.key(0), most=0), ["max_pulses is 0"]),
    (lambda: written(jax.random.key(0), tolerance=-1.0), ["tolerance_S"]),
    (
        lambda: written(jax.random.key(0), target=TARGET * np.nan),
        ["target_S", "NaN"],
    ),
    (
        lambda: write_verify(
            jax.random.key(0),
            PULSED,
            PULSED.init(jax.random.key(0), (3,)),
            TARGET,
            tolerance_S=1e-6,
            max_pulses=3,
        ),
        ["(6, 10)", "(3,)"],
    ),
    (lambda: again(devices.get("ideal"), 1e-6, most=0), ["max_events is 0"]),
    (
        lambda: Verified(devices.get("ideal"), -1.0).check(),
        ["tolerance_S is -1.0"],
    ),
]


@pytest.mark.parametrize("call, words", BAD)
def test_bad_programming_is_refused(call, words):
    with pytest.raises(core.UsageError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)
