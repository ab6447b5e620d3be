"""Converters with errors against codes that are counted one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import core
from jaxedge.hardware import converters
from jaxedge.hardware.adc import Adc, Columns

KEY = jax.random.key(0)
X = jnp.linspace(-1.2, 1.2, 997)[:, None]


def flat(**columns):
    """One column without error but for what is given."""
    none = {"gain": 0.0, "offset": 0.0, "bow": 0.0, "weights": None}
    return Columns(**{**none, **columns})


@pytest.mark.parametrize("kind", ["uniform", "ramp", "sar"])
def test_without_spread_every_kind_is_the_ideal_converter(kind):
    adc = Adc(kind=kind)
    columns = adc.draw(KEY, (1,), 6)
    found = adc.convert(X, 1.0, 6, columns)
    ideal = converters.signed(X, 1.0, 6)
    np.testing.assert_allclose(found, ideal, atol=1e-6)


def test_gain_offset_and_bow_shift_the_transitions():
    bits, n = 6, 31
    columns = flat(gain=0.02, offset=0.7, bow=-1.5)
    found = Adc().convert(X, 1.0, bits, columns)
    u = np.asarray(X, np.float64) * n
    t = np.clip(u / n, -1, 1)
    bow = -1.5 * 3 * np.sqrt(3) / 2 * t * (1 - t**2)
    code = np.clip(np.round(u * 1.02 + 0.7 + bow), -n, n)
    agree = np.isclose(np.asarray(found) * n, code, atol=1e-3)
    assert agree.mean() > 0.995  # ties of float32 apart
    # The bow's largest integral non-linearity is its name.
    fine = np.linspace(0, 1, 10001)
    peak = np.max(3 * np.sqrt(3) / 2 * fine * (1 - fine**2))
    np.testing.assert_allclose(peak, 1, rtol=1e-6)


def test_successive_approximation_is_a_search_through_its_capacitors():
    bits, n = 5, 15
    adc = Adc(kind="sar", mismatch=0.2)
    columns = adc.draw(KEY, (1,), bits)
    weights = np.asarray(columns.weights[0], np.float64)
    np.testing.assert_allclose(weights.sum(), 2**bits - 1, rtol=1e-6)
    codes = []
    for u in np.asarray(X[:, 0], np.float64) * n + n:
        held, code = 0.0, 0
        for k in reversed(range(bits)):
            if u + 0.5 >= held + weights[k]:
                held, code = held + weights[k], code + 2**k
        codes.append(np.clip(code - n, -n, n))
    found = np.asarray(adc.convert(X, 1.0, bits, columns))[:, 0] * n
    assert np.isclose(found, codes, atol=1e-3).mean() > 0.99
    assert not np.allclose(found, np.clip(np.round(X[:, 0] * n), -n, n))


def test_spreads_over_columns_are_those_asked_for():
    n = 20_000
    adc = Adc(gain=0.01, offset=0.5, inl=0.8)
    columns = adc.draw(KEY, (n,), 8)
    for name, std in (("gain", 0.01), ("offset", 0.5), ("bow", 0.8)):
        found = np.std(getattr(columns, name))
        # The standard error of a standard deviation is std / sqrt(2 n).
        assert abs(found - std) < 5 * std / np.sqrt(2 * n)
    together = np.corrcoef(np.stack([columns.gain, columns.offset]))[0, 1]
    assert abs(together) < 5 / np.sqrt(n)
    # Unit capacitors of 2^k parallel units spread by their root.
    weights = Adc(kind="sar", mismatch=0.01).draw(KEY, (n,), 6).weights
    power = 2.0 ** np.arange(6)
    expected = 0.01 * np.sqrt(power)
    # The fit to the ends takes out the common part.
    share = power / power.sum()
    spread = expected**2 * (1 - 2 * share) + share**2 * np.sum(expected**2)
    np.testing.assert_allclose(
        np.std(weights, 0), np.sqrt(spread), rtol=5 / np.sqrt(2 * n) + 1e-3
    )


def test_columns_of_a_tile_share_a_ramp():
    columns = Adc(kind="ramp", inl=1.0).draw(KEY, (2, 3, 4), 6)
    assert columns.bow.shape == (2, 3, 1)
    assert np.unique(columns.bow).size == 6


def test_stochastic_rounding_is_right_on_average():
    n = 20_000
    adc = Adc(rounding="stochastic")
    x = jnp.full((n, 1), 0.3)
    columns = adc.draw(KEY, (1,), 4)
    found = np.asarray(adc.convert(x, 1.0, 4, columns, KEY))
    u = 0.3 * 7
    assert set(np.unique(np.round(found * 7))) == {2.0, 3.0}
    share = u - np.floor(u)
    error = np.sqrt(share * (1 - share) / n) / 7
    assert abs(found.mean() - 0.3) < 5 * error
    # Without a read key there is nothing to draw.
    still = adc.convert(x, 1.0, 4, columns)
    np.testing.assert_allclose(still, 2 / 7, rtol=1e-6)


def test_the_gradient_passes_inside_the_range_alone():
    adc = Adc(kind="sar", gain=0.01, mismatch=0.02)
    columns = adc.draw(KEY, (1,), 4)
    slope = jax.grad(lambda x: adc.convert(x, 1.0, 4, columns).sum())
    found = slope(jnp.array([[-1.5], [-0.2], [0.0], [0.9], [1.1]]))
    np.testing.assert_array_equal(found[:, 0], [0, 1, 1, 1, 0])


@pytest.mark.parametrize(
    "adc, words",
    [
        (Adc(gain=-0.1), "adc.gain is -0.1"),
        (Adc(kind="flash"), "unknown adc.kind 'flash'"),
        (Adc(mismatch=0.1), "only a 'sar' converter has capacitors"),
        (Adc(kind="sar", rounding="stochastic"), "decides bit by bit"),
    ],
)
def test_converters_that_cannot_be(adc, words):
    with pytest.raises(core.UsageError, match=words):
        adc.check()
