"""Tests of the figures: what is drawn is what was given."""

import numpy as np
import pytest

from jaxedge.core import checks
from jaxedge.hardware import devices
from jaxedge.run import canvas, figures

TESTS, CHIPS = 360, 200


@pytest.mark.parametrize("threshold", [0.0, 0.85, 0.9, 0.9001, 0.95, 1.0])
def test_histogram_parts_the_chips_at_the_threshold(threshold):
    # 0.9 is reached by 324 of 360 exactly; float32, as a study stores it.
    right = np.random.default_rng(0).integers(300, 345, CHIPS)
    accuracy = (np.append(right[1:], 324) / TESTS).astype(np.float32)
    fig = figures.score_histogram(accuracy, threshold, "accuracy")
    good, bad = fig.axes[0].containers
    expected = int(sum(value >= np.float32(threshold) for value in accuracy))
    assert sum(bar.get_height() for bar in good) == expected
    assert sum(bar.get_height() for bar in bad) == CHIPS - expected
    # No bar of one kind may overlap a bar of the other.
    lefts = [bar.get_x() for bar in good if bar.get_height()]
    rights = [b.get_x() + b.get_width() for b in bad if b.get_height()]
    assert not lefts or not rights or min(lefts) >= max(rights) - 1e-9
    title = fig.axes[0].get_title("left")
    assert title == f"yield {100 * expected / CHIPS:.1f} %"


@pytest.mark.parametrize("accuracy", [[0.93], [0.9, 0.9], [0.0, 1.0]])
def test_histogram_of_few_chips(accuracy):
    fig = figures.score_histogram(np.array(accuracy), 0.9, "accuracy")
    heights = [bar.get_height() for bar in fig.axes[0].patches]
    assert sum(heights) == len(accuracy)


def test_histogram_bins_hold_equal_numbers_of_values():
    # A uniform count over the multiples of 1/360 must look uniform.
    accuracy = np.repeat(np.arange(240, 361), 3) / TESTS
    fig = figures.score_histogram(accuracy, 0.0, "accuracy")
    heights = [bar.get_height() for bar in fig.axes[0].containers[0]]
    assert len(heights) > 20
    assert len(set(heights[:-1])) == 1  # the last bar may be half filled


def test_band_is_the_percentiles():
    rng = np.random.default_rng(0)
    levels, accuracy = np.array([0.2, 0.0]), rng.random((2, 50))
    fig = figures.score_against(levels, accuracy, "noise (%)", "accuracy")
    (line,) = fig.axes[0].get_lines()
    np.testing.assert_allclose(line.get_xdata(), [0, 0.2])  # sorted
    mean = 100 * accuracy[::-1].mean(1)
    np.testing.assert_allclose(line.get_ydata(), mean)
    band = fig.axes[0].collections[0].get_paths()[0].vertices
    at_zero = band[band[:, 0] == 0, 1]
    # Of 50 sorted chips the 5 % point lies 2.45 gaps from either end.
    chips = np.sort(100 * accuracy[1])
    assert chips[2] <= at_zero.min() <= chips[3]
    assert chips[-4] <= at_zero.max() <= chips[-3]


def test_long_curves_are_averaged():
    rows = [
        {"step": step, "phase": "train", "loss": float(step % 2)}
        for step in range(10000)
    ]
    (line,) = figures.learning_curve(rows, "accuracy").axes[0].get_lines()
    assert len(line.get_xdata()) == 400
    np.testing.assert_allclose(line.get_ydata(), 0.5, atol=0.03)


def test_a_value_that_was_not_finite_breaks_the_curve():
    rows = [
        {"step": step, "phase": "train", "loss": None if step == 1 else 1.0}
        for step in range(3)
    ]
    (line,) = figures.learning_curve(rows, "accuracy").axes[0].get_lines()
    assert np.isnan(line.get_ydata()).tolist() == [False, True, False]


def test_axes_say_by_what_chips_are_judged():
    rows = [{"step": 1, "phase": "valid", "roc_auc": 0.9, "accuracy": 0.1}]
    (ax,) = figures.learning_curve(rows, "roc_auc").axes
    assert ax.get_ylabel() == "Area under the ROC curve (%)"
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), [90.0])
    fig = figures.score_histogram(np.array([0.9]), 0.5, "instance_iou")
    said = fig.axes[0].get_xlabel()
    assert said == "Test mean IoU over instances of a chip (%)"


def test_layers_of_one_name_keep_their_bars():
    fig = figures.sparsity(["a", "a"], [0.1, 0.9])
    widths = [bar.get_width() for bar in fig.axes[0].patches]
    assert widths == [100, 100, 10, 90]


def test_map_is_in_microsiemens_and_cropped():
    fig = figures.conductance_map(np.full((300, 20), 34e-6), "layer")
    (image,) = fig.axes[0].images
    assert image.get_array().shape == (192, 20)
    np.testing.assert_allclose(image.get_array(), 34)
    assert canvas.to_svg_or_png(fig).startswith("data:image/png;base64,")


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (lambda: figures.learning_curve([], "accuracy"), "none of 0 rows"),
        (
            lambda: figures.score_histogram(np.zeros(0), 0.9, "accuracy"),
            "is empty",
        ),
        (
            lambda: figures.score_histogram(
                np.array([np.nan]), 0.9, "accuracy"
            ),
            "score is nan",
        ),
        (
            lambda: figures.score_against(
                np.zeros(3), np.zeros((2, 4)), "x", "accuracy"
            ),
            r"shape \(2, 4\) does not fit levels of shape \(3,\)",
        ),
        (lambda: figures.conductance_map(np.zeros(3), "l"), r"shape \(3,\)"),
        (
            lambda: figures.conductance_map(np.full((2, 2), np.inf), "l"),
            "4 NaN or infinite",
        ),
        (lambda: figures.sparsity(["a"], [0.1, 0.2]), "1 layer names"),
        (lambda: figures.sparsity(["a"], [1.2]), "is 1.2"),
        (lambda: figures.energy([]), "no layers"),
    ],
)
def test_bad_input_is_named(draw, says):
    with pytest.raises(checks.UsageError, match=says):
        draw()


def test_a_fit_is_drawn_beside_its_cells():
    rng = np.random.default_rng(0)
    g = np.where(rng.random(400) < 0.5, rng.normal(12, 1.5, 400), 0.05) * 1e-6
    found = devices.fit(g)
    fig = figures.cell_fit(found, g.reshape(20, 20))
    left, right = fig.axes
    assert left.get_title("left") == f"{100 * found.formed / 400:.1f} % formed"
    # The density of the bars is that of the formed cells alone.
    area = sum(bar.get_height() * bar.get_width() for bar in left.patches)
    assert area == pytest.approx(1)
    points = right.get_lines()[0]
    np.testing.assert_allclose(
        points.get_ydata(), np.sort(g[g > 1e-6]) * 1e6, rtol=1e-12
    )
    # A good fit lies on the diagonal.
    assert np.corrcoef(points.get_xdata(), points.get_ydata())[0, 1] > 0.98
    assert canvas.to_svg_or_png(fig).startswith("data:image/svg")
