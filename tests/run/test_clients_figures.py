"""Tests of the pictures of clients: what is drawn is what was given."""

import numpy as np
import pytest

from jaxedge.core import checks
from jaxedge.run import canvas, clients_figures

NAMES = [f"site_{i}" for i in range(12)]


def test_each_client_has_a_line_of_its_own():
    rng = np.random.default_rng(0)
    lines = {clients_figures.MEAN: rng.random(4)}
    lines |= {name: rng.random(4) for name in NAMES}
    lines["site_3"][1] = np.nan
    x = [30, 60, 90, 120]
    fig = clients_figures.scores(x, lines, "Labels", "site dice")
    (ax,) = fig.axes
    drawn = {line.get_label(): line for line in ax.get_lines()}
    assert drawn.keys() == lines.keys()
    for name, values in lines.items():
        np.testing.assert_array_equal(drawn[name].get_xdata(), x)
        y = np.asarray(drawn[name].get_ydata())
        np.testing.assert_allclose(y, 100 * values)
    looks = {(a.get_color(), a.get_linestyle()) for a in drawn.values()}
    assert len(looks) == 13
    assert ax.get_ylabel() == "Site dice (%)" and ax.get_xlabel() == "Labels"
    assert canvas.to_svg_or_png(fig).startswith("data:image/svg")


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [((0, 0), -2, 5), ((1, 1), 95, 102), ((0.5, 0.75), 45, 80)],
)
def test_scores_are_not_drawn_far_beyond_their_range(values, low, high):
    lines = {"a": np.array(values)}
    fig = clients_figures.scores([1, 2], lines, "Round", "accuracy")
    np.testing.assert_allclose(fig.axes[0].get_ylim(), (low, high))


def test_unknown_scores_are_drawn_as_nothing():
    lines = {"a": np.full(2, np.nan)}
    fig = clients_figures.scores([1, 2], lines, "Round", "accuracy")
    assert canvas.to_svg_or_png(fig)


def test_who_is_missing_has_a_panel():
    x, drift = np.arange(1, 31), np.linspace(2, 1, 30)
    (alone,) = clients_figures.rounds((x, drift), {}).axes
    np.testing.assert_array_equal(alone.get_lines()[0].get_ydata(), drift)
    counts = {"took no part": (x, x % 3), "rejected": (x, x % 2)}
    fig = clients_figures.rounds((x, drift), counts)
    drawn = {a.get_label(): a.get_ydata() for a in fig.axes[1].get_lines()}
    np.testing.assert_array_equal(drawn["took no part"], x % 3)
    np.testing.assert_array_equal(drawn["rejected"], x % 2)
    assert fig.axes[0].get_ylim()[0] == fig.axes[1].get_ylim()[0] == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_shows_every_image_once(channels):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (8, 10, 20, channels), dtype=np.uint8)
    words = ["a\n1", "$x$_b", *"cdefgh"]
    fig = clients_figures.sheet(x, words)
    (ax,) = fig.axes
    assert [a.get_text() for a in ax.texts] == words
    places = set()
    for image, given, word in zip(ax.images, x, ax.texts, strict=True):
        shown = np.asarray(image.get_array())
        np.testing.assert_array_equal(shown, np.squeeze(given))
        left, right, bottom, top = image.get_extent()
        assert bottom - top == pytest.approx((right - left) / 2)
        assert word.get_position()[0] == pytest.approx((left + right) / 2)
        places.add((left, top))
        assert right <= ax.get_xlim()[1] and bottom <= ax.get_ylim()[0]
    assert len(places) == 8 and len({top for _, top in places}) == 2
    assert canvas.to_svg_or_png(fig).startswith("data:image/png")


def test_long_names_are_cut():
    assert clients_figures.short("basophil") == "basophil"
    found = clients_figures.short("squamous cell carcinoma")
    assert found == "squamous cell car…" and len(found) == 18


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (lambda: clients_figures.scores([], {}, "x", "a"), "no scores"),
        (
            lambda: clients_figures.scores([1], {"b": np.ones(2)}, "x", "a"),
            r"'b' have shape \(2,\), but there are 1",
        ),
        (
            lambda: clients_figures.rounds((np.ones(0), np.ones(0)), {}),
            "no rounds",
        ),
        (
            lambda: clients_figures.sheet(np.zeros((2, 4, 4, 3)), ["a"]),
            r"1 texts do not fit images of shape \(2, 4, 4, 3\)",
        ),
        (lambda: clients_figures.sheet(np.zeros((0, 4, 4, 3)), []), "0 texts"),
    ],
)
def test_bad_input_is_named(draw, says):
    with pytest.raises(checks.UsageError, match=says):
        draw()
