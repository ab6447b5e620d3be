"""Tests of the pictures of confidence: what is drawn is what was given."""

from matplotlib.collections import LineCollection
import numpy as np
import pytest
import scipy.stats

from jaxedge.core import checks
from jaxedge.run import canvas, reliability_figures

WEIGHT = np.array([0, 10, 0, 30, 60], np.float32)
CONFIDENCE = np.array([0, 0.3, 0, 0.75, 0.9], np.float32)
ACCURACY = np.array([0, 0, 0, 0.8, 1], np.float32)
COVERAGE = np.linspace(0.1, 1, 10)


def bars(ax):
    return [(p.get_x(), p.get_width(), p.get_height()) for p in ax.patches]


def test_bins_are_drawn_with_their_intervals():
    fig = reliability_figures.reliability(WEIGHT, CONFIDENCE, ACCURACY)
    ax, below = fig.axes
    np.testing.assert_allclose(
        bars(ax), [(20, 20, 0), (60, 20, 80), (80, 20, 100)], rtol=1e-6
    )
    np.testing.assert_allclose(
        bars(below),
        [(20 * i, 20, w) for i, w in enumerate((0, 10, 0, 30, 60))],
    )
    (dots,) = (a for a in ax.get_lines() if a.get_marker() == "o")
    np.testing.assert_allclose(
        np.asarray(dots.get_xydata()), [(30, 0), (75, 80), (90, 100)], rtol=1e-6
    )
    (reach,) = ax.collections
    assert isinstance(reach, LineCollection)
    ends = [segment[:, 1] / 100 for segment in reach.get_segments()]
    for (low, high), good, n in zip(
        ends, (0, 24, 60), (10, 30, 60), strict=True
    ):
        test = scipy.stats.binomtest(good, n).proportion_ci(0.95, "exact")
        np.testing.assert_allclose((low, high), test, atol=1e-6)
    (diagonal,) = (a for a in ax.get_lines() if a.get_linestyle() == "--")
    np.testing.assert_array_equal(diagonal.get_xydata(), [(0, 0), (100, 100)])


def test_how_many_is_below_and_on_the_same_scale():
    fig = reliability_figures.reliability(WEIGHT, CONFIDENCE, ACCURACY)
    assert canvas.to_svg_or_png(fig).startswith("data:image/svg")
    ax, below = fig.axes
    assert ax.get_xlim() == below.get_xlim()
    assert ax.get_position().y0 > below.get_position().y1
    np.testing.assert_allclose(
        (ax.get_position().x0, ax.get_position().x1),
        (below.get_position().x0, below.get_position().x1),
    )


def test_curves_are_in_one_picture():
    curves = {
        "Ideal hardware": (COVERAGE, COVERAGE / 10),
        "First chip": (COVERAGE, COVERAGE / 5),
    }
    fig = reliability_figures.risk_coverage(curves)
    (ax,) = fig.axes
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert lines.keys() == curves.keys()
    for name, (x, y) in curves.items():
        drawn = np.asarray(lines[name].get_xydata())
        np.testing.assert_allclose(drawn, np.stack([100 * x, 100 * y], 1))
    assert len({line.get_color() for line in lines.values()}) == 2
    low, high = ax.get_ylim()
    assert low == 0 and 20 < high < 25
    assert canvas.to_svg_or_png(fig).startswith("data:image/svg")


@pytest.mark.parametrize(("risk", "high"), [(0.0, 1), (1.0, 102)])
def test_a_curve_of_nothing_or_all_has_room(risk, high):
    curves = {"First chip": (COVERAGE, np.full(10, risk))}
    (ax,) = reliability_figures.risk_coverage(curves).axes
    assert ax.get_ylim() == (0, high)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ((WEIGHT, CONFIDENCE[1:], ACCURACY), "bins of confidence have shapes"),
        ((WEIGHT[None],) * 3, "bins of confidence have shapes"),
        ((0 * WEIGHT, CONFIDENCE, ACCURACY), "hold 0 examples"),
        ((WEIGHT, CONFIDENCE + 1, ACCURACY), "confidence of a bin is 1"),
        ((WEIGHT, CONFIDENCE, -ACCURACY), "accuracy of a bin is -0.8"),
        ((WEIGHT - 1, CONFIDENCE, ACCURACY), "in a bin is -1"),
    ],
)
def test_bins_that_do_not_fit_are_named(arrays, says):
    with pytest.raises(checks.UsageError, match=says):
        reliability_figures.reliability(*arrays)


@pytest.mark.parametrize(
    ("curves", "says"),
    [
        ({}, "0 curves"),
        (dict.fromkeys("abc", (COVERAGE, COVERAGE)), "3 curves"),
        ({"a": (COVERAGE, COVERAGE[1:])}, r"\(10,\) does not fit risk"),
        ({"a": (COVERAGE, 2 * COVERAGE)}, "risk is 1.2"),
        ({"a": (COVERAGE - 1, COVERAGE)}, "coverage is -0.9"),
    ],
)
def test_curves_that_do_not_fit_are_named(curves, says):
    with pytest.raises(checks.UsageError, match=says):
        reliability_figures.risk_coverage(curves)
