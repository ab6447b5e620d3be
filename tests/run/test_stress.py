"""Tests of a study's pictures and tables: what is drawn is what was given."""

import numpy as np
import pytest
from scipy import stats

from jaxedge.core import checks
from jaxedge.run import canvas, stress

ACCURACY = np.array([[0.9, 0.8, 0.7, 0.8], [0.5, 0.6, 0.5, 0.6]])


def mean_line(fig):
    (line,) = fig.axes[0].get_lines()
    return line.get_xdata(), line.get_ydata()


def tick_names(fig):
    return [label.get_text() for label in fig.axes[0].get_xticklabels()]


@pytest.mark.parametrize(
    ("sweep", "levels", "x", "scale"),
    [
        ("seconds", [25, 86400], [25, 86400], "symlog"),
        ("r_wire", [0, 0.5], [0, 0.5], "symlog"),
        ("array", [32, 512], [32, 512], "symlog"),
        ("adc_bits", [4, 8], [4, 8], "linear"),
        ("read_noise", [0.01, 0.02], [1, 2], "linear"),
        ("fault", [0.001, 0.1], [0.1, 10], "symlog"),
        ("seconds_uncompensated", [25, 86400], [25, 86400], "symlog"),
        ("drift", [0.5, 1], [0.5, 1], "linear"),
    ],
)
def test_means_are_drawn_at_their_levels(sweep, levels, x, scale):
    fig = stress.against(sweep, np.array(levels, float), ACCURACY, "accuracy")
    drawn_x, drawn_y = mean_line(fig)
    np.testing.assert_allclose(drawn_x, x)
    np.testing.assert_allclose(drawn_y, [80, 55])
    assert fig.axes[0].get_xscale() == scale


def test_times_are_named():
    levels = np.array([86400.0, 25.0])  # in any order
    fig = stress.against("seconds", levels, ACCURACY, "accuracy")
    assert tick_names(fig) == ["25 s", "1 day"]
    np.testing.assert_allclose(mean_line(fig)[1], [55, 80])


def test_an_exact_converter_lies_beyond_the_finest():
    fig = stress.against(
        "adc_bits", np.array([np.nan, 6.0]), ACCURACY, "accuracy"
    )
    np.testing.assert_allclose(mean_line(fig)[0], [6, 7])
    assert tick_names(fig) == ["6", "exact"]


def test_text_levels_have_a_place_each():
    fig = stress.against(
        "read", np.array(["vector", "batch"]), ACCURACY, "accuracy"
    )
    assert tick_names(fig) == ["vector", "batch"]


def test_a_sentence_goes_from_the_least_to_the_greatest_level():
    said = stress.sentence("fault", np.array([0.1, 0.0]), ACCURACY, "accuracy")
    said = said.replace("\u00a0", " ")
    assert said == (
        "The accuracy goes on average from 55.0 % at 0 % stuck cells to"
        " 80.0 % at 10 %, over 4 chips a level."
    )
    said = stress.sentence(
        "adc_bits", np.array([np.nan, 4.0]), ACCURACY, "accuracy"
    )
    assert "55.0\u00a0% at 4 bits of the ADC to 80.0\u00a0% at exact" in said


def test_rows_are_scipys():
    levels = np.array([32.0, 64.0])
    first, _ = stress.rows("array", levels, ACCURACY, 0.75)
    low, high = stats.t.interval(
        0.95, 3, ACCURACY[0].mean(), stats.sem(ACCURACY[0])
    )
    good = stats.binomtest(3, 4).proportion_ci(0.95)
    assert [cell.replace("\u00a0", " ") for cell in first] == [
        "32", "80.0 %", f"{100 * low:.1f}-{100 * high:.1f} %", "71.5-88.5 %",
        "75.0 %", f"{100 * good.low:.1f}-{100 * good.high:.1f} %",
    ]  # fmt: skip
    assert len(stress.HEAD) == len(first)


def test_a_yield_curve_steps_down_at_each_chip():
    accuracy = np.array([0.5, 0.75, 1.0])
    fig = stress.yield_curve(accuracy, 0.6, "accuracy")
    curve, limit = fig.axes[0].get_lines()
    np.testing.assert_allclose(curve.get_xdata(), [50, 75, 100])
    np.testing.assert_allclose(curve.get_ydata(), [100, 200 / 3, 100 / 3])
    assert curve.get_drawstyle() == "steps-pre"
    assert limit.get_xdata() == [60, 60]
    (band,) = fig.axes[0].collections
    corners = band.get_paths()[0].vertices
    # Three of three: the lower end is .025^(1/3).
    assert np.isclose(corners, [50, 100 * 0.025 ** (1 / 3)]).all(1).any()


def test_bars_of_layers_are_mean_errors():
    other = 1 - (1 - ACCURACY) / 2
    fig = stress.layer_errors(
        ["a", "b"], {"one": ACCURACY, "two": other}, "accuracy"
    )
    widths = [bar.get_width() for bar in fig.axes[0].patches]
    np.testing.assert_allclose(widths, [20, 45, 10, 22.5])
    said = stress.worst_layer(["a", "b"], {"one": ACCURACY, "two": other})
    assert "One: b is worst" in said and "two: b is worst" in said
    assert canvas.to_svg_or_png(fig).startswith("data:image/svg")


@pytest.mark.parametrize("accuracy", [np.array([np.nan]), np.array([1.5])])
def test_accuracies_beyond_a_share_are_named(accuracy):
    with pytest.raises(checks.UsageError, match="score is"):
        stress.yield_curve(accuracy, 0.5, "accuracy")
