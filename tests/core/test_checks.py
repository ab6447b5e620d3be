import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core import checks
from jaxedge.core.checks import UsageError


def message(call, *args, **options):
    """The text of the UsageError that the call must raise: one line."""
    with pytest.raises(UsageError) as caught:
        call(*args, **options)
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".")
    return text


def test_a_usage_error_is_a_value_error():
    assert issubclass(UsageError, ValueError)


@pytest.mark.parametrize(
    "value",
    [
        0,
        1,
        0.5,
        True,
        np.float32(1),
        np.array([0, 0.5]),
        jnp.array([0.25, 1]),
        jnp.bfloat16(0.5),
        np.zeros((0,)),
    ],
    ids=repr,
)
def test_in_range_takes_numbers_and_arrays(value):
    checks.in_range("share", value, 0, 1)


@pytest.mark.parametrize(
    "value, shown",
    [
        (-0.25, "-0.25"),
        (1.5, "1.5"),
        (np.nan, "nan"),
        (np.inf, "inf"),
        (np.array([[0.5, 3.0], [9.0, 0.5]]), "3.0"),
        (jnp.array([0.0, -2.0]), "-2.0"),
    ],
    ids=str,
)
def test_in_range_shows_the_first_bad_number(value, shown):
    text = message(checks.in_range, "share", value, 0, 1)
    assert text == f"share is {shown}, but must lie in [0, 1]."


def test_an_open_bound_excludes_itself():
    checks.in_range("volts", 1e-30, 0, open_low=True)
    text = message(checks.in_range, "volts", 0.0, 0, open_low=True)
    assert text == "volts is 0.0, but must lie in (0, inf]."


@pytest.mark.parametrize("value", ["0.5", None, [0.5], 1j, object], ids=repr)
def test_in_range_refuses_what_is_no_number(value):
    text = message(checks.in_range, "share", value, 0, 1)
    assert text == f"share must be a number, got {value!r}."


def test_traced_values_pass_unchecked():
    def bad(x):
        checks.in_range("x", x, 0, 1)
        checks.finite("x", x)
        return x

    nan = jnp.float32(np.nan)
    assert np.isnan(jax.jit(bad)(nan))
    assert np.isnan(jax.vmap(bad)(nan[None])).all()
    assert jax.grad(bad)(nan) == 1
    message(bad, nan)  # the same value, concrete


@pytest.mark.parametrize("value", [1.0, "1", True, None], ids=repr)
def test_whole_refuses_other_types(value):
    text = message(checks.whole, "rows", value, 1)
    assert text == f"rows must be a whole number, got {value!r}."


def test_whole_takes_integers_of_python_and_numpy_from_its_bound():
    for value in (1, 512, np.int64(3)):
        checks.whole("rows", value, 1)
    assert "rows is 0" in message(checks.whole, "rows", 0, 1)


def test_finite_counts_and_places_the_bad_entries():
    array = np.zeros((3, 4))
    checks.finite("w", array)
    array[1, 2], array[2, 0] = np.inf, np.nan
    text = message(checks.finite, "w", array)
    assert text.startswith("w holds 2 NaN") and "index (1, 2)" in text
    assert "index ()" in message(checks.finite, "w", float("nan"))
    assert "w holds 1" in message(
        checks.finite, "w", jnp.array([0, np.nan], jnp.bfloat16)
    )


def test_choice_takes_its_options_alone():
    checks.choice("read", "batch", ("vector", "batch"))
    text = message(checks.choice, "read", "batches", ("vector", "batch"))
    assert text == (
        "unknown read 'batches'. Did you mean 'batch'? Known: batch, vector."
    )


def test_unknown_guesses_only_what_is_close_and_shows_a_dozen():
    options = [f"option_{i:02d}" for i in range(30)]
    near = str(checks.unknown("thing", "opton_07", options))
    assert "Did you mean 'option_07'?" in near
    far = str(checks.unknown("thing", "zzz", options))
    assert "Did you mean" not in far
    assert "option_11" in far and "option_12" not in far
    assert far.endswith(", ....")
    few = str(checks.unknown("thing", 3, options[:2]))
    assert few == "unknown thing 3. Known: option_00, option_01."
