"""Errors of the in-SRAM macro: a published table, formulas, linearity."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxedge.core import checks
from jaxedge.hardware import sram
from jaxedge.hardware.sram import errors

MODES = [(0, 27), (8, 14), (8, 7), (8, 4), (0, 7)]
PARTS = ("quant", "line", "cmp", "cell", "pulse", "all")
# sram_cim 6: one population of 2,048 x 64 samples; std in units of x w.
TABLE = {
    "uniform": [
        (7.79, 15.6, 15.0, 20.2, 7.85, 28.8),
        (4.03, 8.11, 7.76, 9.11, 4.15, 14.9),
        (2.00, 4.04, 3.87, 6.16, 2.24, 8.14),
        (1.12, 2.31, 2.23, 4.54, 1.52, 5.82),
        (2.00, 4.03, 3.88, 8.02, 2.24, 10.0),
    ],
    "relu": [
        (7.78, 15.6, 15.0, 15.4, 7.81, 27.3),
        (4.04, 8.09, 7.79, 10.4, 4.12, 14.7),
        (2.00, 4.04, 3.89, 5.28, 2.17, 8.87),
        (1.12, 2.31, 2.23, 4.34, 1.41, 5.80),
        (2.00, 4.05, 3.91, 4.73, 2.09, 7.56),
    ],
}
CHIPS, VECTORS = 16, 256


def only(config, part):
    """The design with one kind of error; offsets belong to the lines."""
    if part == "all":
        return config
    none, name = config.without_errors(), f"sigma_{part}"
    if part == "quant":
        return none
    return dataclasses.replace(none, **{name: getattr(config, name)})


def draw(inputs, key, vectors=VECTORS):
    """Codes of the two kinds of the table."""
    a, b = jax.random.split(key)
    if inputs == "uniform":
        x = jax.random.randint(a, (vectors, 64), 0, 16)
        w = jax.random.randint(b, (64, 64), -7, 8)
    else:
        x = jnp.round(4 * jax.nn.relu(jax.random.normal(a, (vectors, 64))))
        w = jnp.round(2.2 * jax.random.normal(b, (64, 64)))
        x, w = jnp.clip(x, 0, 15), jnp.clip(w, -7, 7)
    return x.astype(float), w.astype(float)


@functools.partial(jax.jit, static_argnames=("inputs", "path"))
def population(inputs, config, key, path="exact"):
    """Mean square error of every chip, and what the formula says of it."""

    def one(key):
        data, chip, read = jax.random.split(key, 3)
        x, w = draw(inputs, data)
        code = sram.convert(
            x, w, config, chip_key=chip, read_key=read, path=path
        )
        off = sram.decode(code, w, config) - x @ w
        return jnp.mean(off**2), sram.predict(x, w, config).total

    return jax.lax.map(one, jax.random.split(key, CHIPS))


@functools.cache
def measured(inputs, mode, part, path="exact"):
    config = sram.Config(fold=mode[0], lsb_units=mode[1])
    key = jax.random.fold_in(jax.random.key(1), PARTS.index(part))
    found = population(inputs, only(config, part), key, path)
    return np.asarray(found, np.float64)


rows = pytest.mark.parametrize("mode", range(len(MODES)))
kinds = pytest.mark.parametrize("inputs", TABLE)


@rows
@kinds
def test_the_table_and_the_formula(inputs, mode):
    for part, published in zip(PARTS, TABLE[inputs][mode], strict=True):
        squares, predicted = measured(inputs, MODES[mode], part)
        std = np.sqrt(squares)
        # The table is one chip: its spread is that of a chip, and it is
        # rounded to three digits.
        margin = 3 * std.std(ddof=1) * np.sqrt(1 + 1 / CHIPS)
        rounding = 0.06 if published >= 10 else 0.006
        assert abs(std.mean() - published) < margin + rounding, part
        ratio = np.sqrt(squares.mean() / predicted.mean())
        # Of 1,024 columns. Static errors of the largest step dominate: one
        # number a line and column, whose mean square has a relative std of
        # sqrt(2 / 2048), 1.6 % of the std.
        assert abs(ratio - 1) < 0.05, part


@rows
@kinds
def test_the_fast_path_has_the_same_error(inputs, mode):
    # The same chips and reads of the same samples: what differs are the
    # numbers of the read noise.
    exact, fast = (
        np.sqrt(measured(inputs, MODES[mode], "all", path)[0].mean())
        for path in ("exact", "fast")
    )
    assert abs(fast / exact - 1) < 0.02


def test_the_formula_of_twos_complement():
    rng = np.random.default_rng(4)
    x = jnp.asarray(rng.integers(0, 16, (256, 64)), jnp.float32)
    w = jnp.asarray(rng.integers(-8, 8, (64, 64)), jnp.float32)
    # Lines clip often: each takes both the bits of one sign and the sign bits
    # of the other.
    config = sram.Config(lsb_units=4, w_code="twos_complement")

    @jax.jit
    def off(key):
        chip, read = jax.random.split(key)
        code = sram.convert(x, w, config, chip_key=chip, read_key=read)
        return jnp.mean((sram.decode(code, w, config) - x @ w) ** 2)

    keys = jax.random.split(jax.random.key(2), CHIPS)
    found = np.mean([off(key) for key in keys])
    said = sram.predict(x, w, config)
    assert float(said.clipping) > 0.05 * float(said.total)
    assert abs(np.sqrt(found / float(said.total)) - 1) < 0.05


def test_the_comparator_alone():
    # .5 LSB is as .47 LSB before the converter (sram_cim 5.2).
    config = sram.Config(sigma_cmp=0.5)
    assert abs(np.sqrt(float(errors.decisions(config))) - 0.47) < 0.005
    none = dataclasses.replace(config, sigma_cmp=0.0)
    assert abs(float(errors.decisions(none))) < 1e-3


def test_steps_of_the_default_policy():
    # 2^k branches up to 64, of 8 steps: 127 + 4^7 / 64.
    assert errors.step_power(sram.Config()) == 383


# Max (1960), table I: step of the optimum uniform quantiser of a normal
# variable of std 1, by number of levels.
@pytest.mark.parametrize(
    "bits, step",
    [(1, 1.596), (2, 0.9957), (3, 0.5860), (4, 0.3352), (5, 0.1881)],
)
def test_optimal_clipping_of_a_normal_variable(bits, step):
    # Quantiles instead of draws: no sampling error.
    n = 200_001
    samples = stats.norm.ppf((np.arange(n) + 0.5) / n)
    clip = sram.optimal_clip(samples, bits)
    assert abs(clip / 2 ** (bits - 1) / step - 1) < 0.01


def test_optimal_clipping_needs_samples():
    with pytest.raises(checks.UsageError, match="empty or all zero"):
        sram.optimal_clip(np.zeros(3), 4)


# sram_cim 6: median and 95th percentile over 500 columns, LSB, and missing
# codes a column.
@pytest.mark.parametrize(
    "sigma, inl, dnl, missing",
    [
        (0.01, (0.20, 0.34), (0.22, 0.44), 0.0),
        (0.03, (0.59, 1.00), (0.62, 1.06), 0.09),
        (0.05, (0.95, 1.76), (1.00, 2.03), 0.58),
    ],
)
def test_linearity_of_500_columns(sigma, inl, dnl, missing):
    n = 500
    found = sram.characterise(
        sram.Config(sigma_cell=sigma), jax.random.key(1), n
    )
    for values, (median, _) in ((found.max_inl, inl), (found.max_dnl, dnl)):
        values = np.sort(np.asarray(values))
        # Order statistics at 3 sigma about the middle, widened by sqrt 2 for
        # the sampling error of the published median, and by 1/64 LSB: both
        # count points of a ramp of 32 a code.
        reach = int(3 * np.sqrt(2) * np.sqrt(n) / 2)
        low, high = values[n // 2 - reach], values[n // 2 + reach]
        assert low - 1 / 64 <= median <= high + 1 / 64
    for values, (_, tail) in ((found.max_inl, inl), (found.max_dnl, dnl)):
        assert abs(np.percentile(values, 95) / tail - 1) < 0.15
    counts = np.asarray(found.missing)
    error = 3 * np.sqrt(2) * counts.std() / np.sqrt(n)
    assert abs(counts.mean() - missing) <= error + 0.005


def test_an_ideal_converter_is_straight():
    config = sram.Config(sigma_cell=0.0, sigma_off=0.0)
    quiet = dataclasses.replace(config, sigma_line=0.0, sigma_cmp=0.0)
    found = sram.characterise(quiet, jax.random.key(0), 3)
    for name in ("max_inl", "max_dnl", "missing", "one_sigma"):
        assert np.abs(getattr(found, name)).max() < 1e-4
    np.testing.assert_allclose(found.gain, 1, atol=1e-6)
    # Noise of the lines and of the comparator; a code is floored after it, and
    # the ideal one before it, which adds at most two roundings.
    noisy = sram.characterise(config, jax.random.key(0), 8)
    noise = 0.25 + float(errors.decisions(config))
    assert noise < float(np.mean(noisy.one_sigma**2)) < noise + 2 / 12
    percent = noisy.one_sigma_percent
    np.testing.assert_allclose(percent, 100 * noisy.one_sigma / 256, rtol=1e-6)


def test_characterise_wants_a_number_of_columns():
    with pytest.raises(checks.UsageError, match="columns"):
        sram.characterise(sram.Config(), jax.random.key(0), 0)
