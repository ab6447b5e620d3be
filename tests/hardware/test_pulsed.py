"""Cells that move by pulses: one battery for every law, and their physics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxedge import core
from jaxedge.hardware.devices import step_laws
from jaxedge.hardware.devices.pulsed import Pulsed
from jaxedge.hardware.devices.step_laws import (
    LinearStep,
    PowerStep,
    SoftBounds,
)
from jaxedge.hardware.wear import Wear

# Presets differ from these in numbers alone.
CASES = {
    "constant, worn": Pulsed(wear=Wear(30.0, 0.5)),
    "linear, lognormal": LinearStep(
        gamma_up=0.3, gamma_down=0.6, lognormal=True, up_down=0.2
    ),
    "soft, centred": step_laws.get("rram_array_gong2022"),
    "power": PowerStep(gamma=2.0, gamma_up_down=0.1, write_noise_std=3.0),
}
SHAPE = (5, 4)
COUNTS = np.random.default_rng(0).integers(-6, 7, SHAPE)
COUNTS[0, 0] = 0

every = pytest.mark.parametrize("name", CASES)
# Between them they hold every branch; running eagerly is slow.
some = pytest.mark.parametrize("name", ["soft, centred", "power"])


def trained(device, chip, key):
    """New cells after trains of pulses, the exact and the fast way."""
    cells = device.init(chip, SHAPE)
    exact = device.pulse(core.stream(key, "exact"), cells, COUNTS)
    ups, downs = np.maximum(COUNTS, 0) + 3, np.maximum(-COUNTS, 0) + 2
    return exact, device.pulse_many(core.stream(key, "fast"), cells, ups, downs)


compiled = jax.jit(jax.vmap(trained))


@functools.cache
def two_chips(name):
    devices = jax.tree.map(lambda a: jnp.array([a, a]), CASES[name])
    keys = core.chip_keys(jax.random.key(1), 2)
    return (devices, keys, keys), compiled(devices, keys, keys)


def quiet(law, **fields):
    """A law without any spread but what is asked for."""
    spreads = dict.fromkeys(law._spreads, 0.0)
    return law(**{**spreads, "w_min": -1.0, "w_max": 1.0, **fields})


@some
def test_jit_and_vmap_are_an_eager_loop(name):
    arguments, found = two_chips(name)
    one = jax.tree.map(lambda a: a[1], arguments)
    for a, b in zip(
        jax.tree.leaves(trained(*one)), jax.tree.leaves(found), strict=True
    ):
        assert a.shape == SHAPE and a.dtype == b.dtype
        np.testing.assert_allclose(a, b[1], rtol=2e-5, atol=2e-6)


@every
def test_new_numbers_compile_nothing(name, compilations):
    (devices, chips, keys), (exact, _) = two_chips(name)
    scaled = jax.tree.map(lambda number: 0.9 * number, devices)
    with compilations() as names:
        other, _ = compiled(scaled, chips, keys)
    assert not names
    assert (exact.w != other.w).any()


@some
def test_gradients_are_finite(name):
    def total(device, key):
        cells = device.init(key, SHAPE)
        moved = device.pulse_many(key, cells, COUNTS + 8, COUNTS + 7)
        return jnp.sum(device.conductance(moved)) / 1e-6

    # Eagerly: most operations are compiled, and one program of all is slow.
    slopes = jax.grad(total)(CASES[name], jax.random.key(2))
    for path, slope in jax.tree_util.tree_leaves_with_path(slopes):
        assert np.isfinite(slope), path
    assert slopes.dw_min != 0


@every
def test_cells_stay_in_their_bounds_and_count_their_pulses(name):
    device = CASES[name]
    _, both = two_chips(name)
    for cells in both:
        assert (cells.low <= cells.w).all() and (cells.w <= cells.high).all()
        assert (cells.low <= 0).all() and (cells.high >= 0).all()
        assert (cells.up >= 0).all() and (cells.down >= 0).all()
        assert device.weights(cells).shape == (2, *SHAPE)
    exact, fast = both
    np.testing.assert_array_equal(exact.ups - exact.downs, [COUNTS] * 2)
    np.testing.assert_array_equal(fast.pulses, [np.abs(COUNTS) + 5] * 2)
    # A cell that got no pulse shows what it showed: a weight of 0.
    np.testing.assert_allclose(device.weights(exact)[:, 0, 0], 0, atol=1e-6)


@pytest.mark.parametrize("name", step_laws.PRESETS)
def test_presets_make_sound_cells(name):
    device = step_laws.get(name)
    cells = device.init(jax.random.key(0), SHAPE)
    assert (cells.low < 0).all() and (cells.high > 0).all()
    assert (cells.up > 0).all() and (cells.down > 0).all()
    # Steps that pulses can be counted in.
    assert 1e-4 < device.granularity < 1


def test_a_chip_is_its_key():
    device = step_laws.get("rram_gong2018")
    one, again, other = (
        device.init(jax.random.key(k), SHAPE) for k in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.high, again.high)
    for field in ("high", "low", "up", "down"):
        assert (getattr(one, field) != getattr(other, field)).all()


def test_spreads_from_device_to_device():
    """n = 40,000: 5 standard errors of a mean are .025 std, of a std .018."""
    n = 40_000
    device = Pulsed(
        dw_min=0.01,
        dw_min_dtod=0.1,
        up_down=0.2,
        up_down_dtod=0.05,
        w_max=0.8,
        w_max_dtod=0.1,
    )
    cells = device.init(jax.random.key(0), (n,))

    def fits(values, mean, std):
        np.testing.assert_allclose(values.mean(), mean, atol=0.025 * std)
        np.testing.assert_allclose(values.std(), std, rtol=0.018)

    fits(cells.high, 0.8, 0.08)
    step = 0.01 * np.hypot(0.1, 0.05)
    fits(cells.up, 0.01, step)
    fits(cells.down, 0.01 * 0.8, step)
    # The gain is common to both directions, the balance is not.
    cov = np.cov(cells.up, cells.down)[0, 1] / 0.01**2
    assert abs(cov - (0.1**2 - 0.05**2)) < 5 * 0.1**2 / np.sqrt(n) * 2
    spread = device.replace(lognormal=True, up_down=0.0, up_down_dtod=0.0)
    ln = np.log(spread.init(jax.random.key(0), (n,)).up / 0.01)
    fits(ln, 0, 0.1)


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize(
    "law",
    [
        quiet(Pulsed, dw_min=0.03, up_down=0.3, w_max_dtod=0.3),
        quiet(LinearStep, dw_min=0.03, gamma_up=0.5, gamma_down=0.8),
        quiet(LinearStep, dw_min=0.03, gamma_up=0.5, gamma_up_dtod=0.2),
        quiet(SoftBounds, dw_min=0.03, dw_min_dtod=0.3, w_min_dtod=0.3),
        quiet(PowerStep, dw_min=0.03, gamma=2.0, gamma_up_down=0.2),
    ],
    ids=lambda law: type(law).__name__,
)
def test_pulses_follow_their_equation(law, direction):
    """Against the documented equations, cell by cell in float64."""
    cells = law.init(jax.random.key(3), SHAPE)
    start = jnp.linspace(-0.5, 0.5, 20).reshape(SHAPE)
    cells = law.place(cells, start)
    w = np.asarray(cells.w, np.float64)
    host = {k: np.asarray(v, np.float64) for k, v in cells._asdict().items()}
    counts = np.arange(20).reshape(SHAPE)
    for i in range(20):
        if isinstance(law, PowerStep):
            span = host["high"] - host["low"]
            f_up = ((host["high"] - w) / span) ** host["bend_up"]
            f_down = ((w - host["low"]) / span) ** host["bend_down"]
        elif isinstance(law, SoftBounds):
            f_up, f_down = 1 - w / host["high"], 1 - w / host["low"]
        elif isinstance(law, LinearStep):  # the bounds are at 1 and -1
            f_up, f_down = 1 - host["bend_up"] * w, 1 - host["bend_down"] * w
        else:
            f_up = f_down = 1
        step = host["up"] * f_up if direction > 0 else -host["down"] * f_down
        moved = np.clip(w + step, host["low"], host["high"])
        w = np.where(i < counts, moved, w)
    moved = law.pulse(jax.random.key(0), cells, direction * counts)
    np.testing.assert_allclose(moved.w, w, rtol=1e-5, atol=1e-6)
    many = law.pulse_many(
        jax.random.key(0),
        cells,
        counts * (direction > 0),
        counts * (direction < 0),
    )
    # Linear laws are followed exactly in one direction, a power nearly.
    off = 3e-3 if isinstance(law, PowerStep) else 3e-6
    np.testing.assert_allclose(many.w, w, atol=off)


def test_a_linear_step_shrinks_by_gamma_at_the_bound():
    law = quiet(LinearStep, dw_min=0.01, gamma_up=0.4, gamma_down=0.7)
    cells = law.init(jax.random.key(0), (3,))
    f_up, f_down = law.responses(cells, jnp.array([1.0, -1.0, 0.0]))
    np.testing.assert_allclose(f_up[0], 0.6, rtol=1e-6)
    np.testing.assert_allclose(f_down[1], 0.3, rtol=1e-5)
    soft = quiet(SoftBounds, w_max_dtod=0.3, w_min_dtod=0.3)
    cells = soft.init(jax.random.key(0), (50,))
    np.testing.assert_allclose(
        soft.responses(cells, cells.high)[0], 0, atol=1e-6
    )
    np.testing.assert_allclose(
        soft.responses(cells, cells.low)[1], 0, atol=1e-6
    )


@pytest.mark.parametrize("relative", [True, False])
def test_noise_from_pulse_to_pulse(relative):
    """n = 40,000 cells: 5 standard errors of a std are 1.8 %."""
    law = quiet(
        SoftBounds, dw_min=0.01, dw_min_std=0.5, relative_noise=relative
    )
    cells = law.place(
        law.init(jax.random.key(0), (40_000,)), jnp.full(40_000, 0.5)
    )
    counts = jnp.ones(40_000, jnp.int32)
    # f is a half there.
    std = 0.01 * 0.5 * (0.5 if relative else 1)
    for moved in (
        law.pulse(jax.random.key(1), cells, counts),
        law.pulse_many(jax.random.key(1), cells, counts, 0 * counts),
    ):
        step = np.asarray(moved.w) - 0.5
        np.testing.assert_allclose(step.mean(), 0.005, atol=5 * std / 200)
        np.testing.assert_allclose(step.std(), std, rtol=0.025)


def test_write_noise_hides_where_a_cell_is():
    """n = 40,000: 5 standard errors of a std are 1.8 %."""
    law = quiet(Pulsed, dw_min=0.01, write_noise_std=4.0)
    cells = law.init(jax.random.key(0), (40_000,))
    counts = jnp.where(jnp.arange(40_000) % 2, 1, 0)
    moved = law.pulse(jax.random.key(1), cells, counts)
    hidden = np.asarray(moved.seen - moved.w)
    assert (hidden[::2] == 0).all()
    np.testing.assert_allclose(hidden[1::2].std(), 0.04, rtol=0.026)
    np.testing.assert_allclose(moved.w[1::2], 0.01, rtol=1e-6)


@jax.jit
def one_by_one_and_at_once(law, order, ups, downs):
    """Cells after the pulses of each row of `order`, and after as many."""
    start = jnp.full(order.shape[1], 0.3)
    cells = law.place(law.init(jax.random.key(0), start.shape), start)

    def one(cells, step):
        i, signs = step
        key = core.stream(jax.random.key(1), "p", i)
        return law.pulse(key, cells, signs), None

    steps = jnp.arange(len(order)), order
    slow, _ = jax.lax.scan(one, cells, steps)
    return slow.w, law.pulse_many(jax.random.key(2), cells, ups, downs).w


@pytest.mark.parametrize("counts", [(60, 0), (0, 60), (40, 20), (30, 30)])
@pytest.mark.parametrize("relative", [True, False])
def test_many_pulses_at_once_are_like_one_after_another(counts, relative):
    """The bound that `pulse_many` states, on 4,000 cells in random order.

    Steps of a hundredth of the range; 5 standard errors of the mean of the
    cells' noise are below a tenth of a step.
    """
    n, (ups, downs) = 4000, counts
    law = quiet(
        SoftBounds,
        dw_min=0.02,
        dw_min_std=0.5,
        up_down=0.2,
        relative_noise=relative,
    )
    rng = np.random.default_rng(0)
    train = np.repeat([1, -1], counts)
    order = np.stack([rng.permutation(train) for _ in range(n)], 1)
    many = np.full(n, ups, np.int32), np.full(n, downs, np.int32)
    a, b = map(np.asarray, one_by_one_and_at_once(law, order, *many))
    assert abs(a.mean() - b.mean()) < 0.02
    np.testing.assert_allclose(b.std(), a.std(), rtol=0.1)


def test_the_symmetry_point_of_soft_bounds():
    """Against its closed form, (up - down) / (up / high - down / low)."""
    law = step_laws.get("rram_gong2018", dw_min=0.02, up_down=0.1)
    cells = law.init(jax.random.key(0), (100,))
    up, down, high, low = (
        np.asarray(a, np.float64)
        for a in (cells.up, cells.down, cells.high, cells.low)
    )
    expected = (up - down) / (up / high - down / low)
    point = law.symmetry_point(cells)
    np.testing.assert_allclose(point, expected, atol=1e-5)
    # Alternating pulses go there, whatever the start.
    silent = law.replace(dw_min_std=0.0, write_noise_std=0.0)
    ones = jnp.ones(100, jnp.int32)
    for start in (-0.5, 0.5):
        moved = silent.place(cells, jnp.full(100, start))
        many = silent.pulse_many(
            jax.random.key(0), moved, ones * 2000, ones * 2000
        )
        # Their random order alone shakes it, by the root of a step and less.
        off = np.asarray(many.w) - expected
        assert np.abs(off).max() < 2 * np.sqrt(np.max(up + down))
        assert abs(off.mean()) < 0.05
    centred = law.replace(centred=True).init(jax.random.key(0), (100,))
    np.testing.assert_allclose(centred.reference, expected, atol=1e-5)
    np.testing.assert_allclose(law.weights(centred), 0, atol=1e-6)


def test_unequal_constant_steps_have_no_symmetry_point():
    law = quiet(Pulsed, up_down=-0.2)
    cells = law.init(jax.random.key(0), (3,))
    np.testing.assert_allclose(law.symmetry_point(cells), -1, atol=1e-6)


@pytest.mark.parametrize(
    "family, spread", [("lognormal", 0.7), ("weibull", 0.4)]
)
def test_lifetimes_follow_their_law(family, spread):
    """n = 20,000: Kolmogorov-Smirnov at a level of 1e-4, distance .0157."""
    lives = Wear(1e6, spread, family).lifetimes(jax.random.key(0), (20_000,))
    law = (
        stats.lognorm(spread, scale=1e6)
        if family == "lognormal"
        else stats.weibull_min(1 / spread, scale=1e6 / np.log(2) ** spread)
    )
    assert (
        stats.kstest(np.asarray(lives, np.float64), law.cdf).statistic < 0.0157
    )
    assert abs(np.mean(lives > 1e6) - 0.5) < 5 * 0.5 / np.sqrt(20_000)


def test_worn_cells_do_not_move():
    law = quiet(Pulsed, dw_min=0.01, wear=Wear(25.0))
    cells = law.init(jax.random.key(0), (3,))
    counts = jnp.array([10, 25, 40])
    for moved in (
        law.pulse(jax.random.key(0), cells, counts),
        law.pulse_many(jax.random.key(0), cells, counts, 0 * counts),
    ):
        np.testing.assert_allclose(moved.w, [0.1, 0.25, 0.25], rtol=1e-4)
        np.testing.assert_array_equal(moved.stuck, [False, True, True])
        # It is pulsed all the same, at a price.
        np.testing.assert_array_equal(moved.pulses, counts)
    again = law.pulse(jax.random.key(0), moved, -counts)
    np.testing.assert_allclose(again.w, [0, 0.25, 0.25], atol=1e-6)
    uses = jnp.array([24, 25, 26])
    found = Wear(25.0).sound(jax.random.key(0), uses)
    np.testing.assert_array_equal(found, [True, False, False])
    assert (
        not law.replace(wear=Wear()).init(jax.random.key(0), (3,)).stuck.any()
    )


def test_pulses_have_a_price_only_if_it_is_known():
    law = quiet(Pulsed, up_joules=2e-12, down_joules=3e-12)
    cells = law.init(jax.random.key(0), (3,))
    moved = law.pulse(jax.random.key(0), cells, jnp.array([5, -2, 0]))
    np.testing.assert_allclose(law.joules(moved), 16e-12, rtol=1e-6)
    assert law.replace(down_joules=None).joules(moved) is None


def test_weights_and_conductances_are_one_scale():
    law = quiet(Pulsed, zero_S=20e-6, unit_S=10e-6, read_noise=0.02)
    cells = law.place(
        law.init(jax.random.key(0), (40_000,)), jnp.full(40_000, 0.5)
    )
    np.testing.assert_allclose(law.conductance(cells), 25e-6, rtol=1e-6)
    seen = np.asarray(law.read(jax.random.key(0), cells))
    # 5 standard errors of a std are 1.8 %.
    np.testing.assert_allclose(seen.std(), 0.02 * 25e-6, rtol=0.018)


BAD = [
    (lambda: step_laws.get("rram_gong"), ["pulsed device", "Did you mean"]),
    (lambda: step_laws.get("idealized", dw_mim=1.0), ["'dw_min'"]),
    (lambda: step_laws.get("idealized", dw_min=0.0), ["dw_min", "(0"]),
    (lambda: step_laws.get("idealized", w_min=0.1), ["w_min", "0.1"]),
    (lambda: step_laws.get("idealized", up_down=2.0), ["up_down", "2.0"]),
    (
        lambda: step_laws.get("ecram_tang2018", gamma_up_dtod=-1.0),
        ["gamma_up_dtod is -1.0"],
    ),
    (
        lambda: step_laws.get("idealized", wear=Wear(0.0)),
        ["median is 0.0", "(0"],
    ),
    (
        lambda: step_laws.get("idealized", wear=Wear(family="normal")),
        ["unknown family 'normal'", "weibull"],
    ),
    (lambda: Wear(np.nan).check(), ["median is nan"]),
    (
        lambda: step_laws.get("idealized", up_joules=-1.0),
        ["up_joules is -1.0"],
    ),
    (
        lambda: Pulsed().pulse(
            jax.random.key(0),
            Pulsed().init(jax.random.key(0), (2,)),
            jnp.ones(3, jnp.int32),
        ),
        ["(3,)", "(2,)", "one count a cell"],
    ),
]


@pytest.mark.parametrize("call, words", BAD)
def test_bad_cells_are_refused(call, words):
    with pytest.raises(core.UsageError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)
