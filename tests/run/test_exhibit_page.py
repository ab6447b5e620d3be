"""Tests of the section on answers: its pictures and its sentences."""

import re

import numpy as np
import pytest

from jaxedge.core import checks
from jaxedge.run import canvas, exhibit_figures, exhibit_page

COUNTS = np.array([[8, 0, 2], [0, 9, 1], [5, 0, 0]])
CLASSES = ("cat", "dog", "<b>$x$")


def counted():
    return {
        "classes": np.array(CLASSES),
        "confusion/ideal": np.diag([10, 10, 5]),
        "confusion/chip": COUNTS,
    }


def examples(kind, x, y, ideal, chip):
    return {
        "classes": np.array(CLASSES),
        f"{kind}/x": x, f"{kind}/y": y, f"{kind}/rows": np.array([3, 1200]),
        f"{kind}/ideal": ideal, f"{kind}/chip": chip,
        f"{kind}/ideal_score": np.array([0.9, 0.8]),
        f"{kind}/chip_score": np.array([0.75, np.nan]),
    }  # fmt: skip


def images(classes=3):
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, (2, 8, 10))
    y[0, :2] = -1  # A quarter.
    said = rng.random(y.shape) if classes == 2 else np.maximum(y, 0)
    found = examples("images", rng.random((2, 8, 10, 3)), y, said, said)
    return found | {"classes": np.array(CLASSES[:classes])}


def clouds():
    x = np.random.default_rng(0).normal(size=(2, 30, 3))
    return examples(
        "clouds", x, *(np.array(a) for a in ([0, 1], [0, 2], [1] * 2))
    )


def parts():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (3, 2, 30))
    return examples("clouds", rng.normal(size=(2, 30, 3)), *labels)


def section(pictures, score="roc_auc"):
    return exhibit_page.section(pictures, score).replace("\u00a0", " ")


def test_a_matrix_has_counts_and_names():
    ax, bar = exhibit_figures.confusion(COUNTS, CLASSES).axes
    written = {
        (int(t.get_position()[1]), int(t.get_position()[0])): t.get_text()
        for t in ax.texts
    }
    assert written == {
        (r, c): str(COUNTS[r, c]) for r, c in np.argwhere(COUNTS)
    }
    shares = np.asarray(ax.collections[0].get_array())
    np.testing.assert_allclose(
        shares, [[0.8, 0, 0.2], [0, 0.9, 0.1], [1, 0, 0]]
    )
    assert [t.get_text() for t in ax.get_yticklabels()] == list(CLASSES)
    low, high = ax.get_ylim()
    assert low > high  # The first class on top.
    assert "true" in bar.get_ylabel()


def test_counts_and_the_commonest_error_are_said():
    found = section(counted())
    assert "On ideal hardware 25 of 25 test examples (100.0 %)" in found
    assert "answered right." in found
    assert "On the first chip 17 of 25 test examples (68.0 %)" in found
    assert "error is cat for &lt;b&gt;$x$, 5 times" in found
    assert found.count("<img") == 2 and found.count('alt="Confusion') == 2


@pytest.mark.parametrize("classes", [2, 3])
def test_images_are_beside_their_answers(classes):
    found = section(images(classes))
    words = "area under the ROC curve"
    assert (
        f"Test example 3: {words} 90.0 % on ideal hardware and 75.0 %" in found
    )
    assert "Test example 1,200" in found and "hardware and – on the" in found
    assert found.count("Grey (25.0 %) counts nowhere.") == 1
    assert found.count("<img") == 2 and found.count('alt="An image') == 2


@pytest.mark.parametrize("classes", [2, 3])
def test_what_is_ignored_is_grey(classes):
    arrays = images(classes)
    names = ("x", "y", "ideal", "chip")
    given = exhibit_figures.Shown(*(arrays[f"images/{n}"][0] for n in names))
    fig = exhibit_figures.segmented(given, CLASSES[:classes])
    for ax in fig.axes[1:4]:
        (image,) = ax.images
        shown = np.ma.asarray(image.get_array())
        np.testing.assert_array_equal(
            np.ma.getmaskarray(shown), given.truth < 0
        )
        grey = image.to_rgba(shown)[0, 0]
        np.testing.assert_allclose(
            grey[:3], [0xB3 / 255, 0xBC / 255, 0xC4 / 255], atol=0.01
        )
    if classes == 3:  # Equal answers have equal colours in every map.
        true, said = (
            np.ma.asarray(a.images[0].get_array()) for a in fig.axes[1:3]
        )
        np.testing.assert_array_equal(true, said)


def test_the_commonest_labels_have_colours():
    labels = np.repeat(np.arange(10), np.arange(1, 11))  # 0 is rarest
    (shown,), found, more = exhibit_figures._few([np.append(labels, -1)])
    assert found.tolist() == [3, 4, 5, 6, 7, 8, 9] and more
    expected = np.where(labels < 3, len(canvas.PALETTE), labels - 3)
    np.testing.assert_array_equal(shown[:-1], expected)
    assert shown[-1] == len(canvas.PALETTE)


def test_point_sets_are_drawn_with_their_classes():
    found = section(clouds(), "accuracy")
    assert (
        "2 test examples 1 are answered right on ideal hardware and 1" in found
    )
    arrays = clouds()
    names = ("x", "y", "ideal", "chip")
    given = exhibit_figures.Shown(*(arrays[f"clouds/{n}"] for n in names))
    fig = exhibit_figures.clouds(given, CLASSES)
    assert fig.axes[1].get_title() == (
        "True: dog\nIdeal hardware: <b>$x$\nFirst chip: dog"
    )
    assert canvas.to_svg_or_png(fig)


def test_parts_are_drawn_by_colour():
    found = section(parts(), "instance_iou")
    assert "Test example 3: mean IoU over instances 90.0 %" in found
    assert found.count("<img") == 2 and len(found) < 1e6
    arrays = parts()
    names = ("x", "y", "ideal", "chip")
    given = exhibit_figures.Shown(*(arrays[f"clouds/{n}"][0] for n in names))
    fig = exhibit_figures.parts(given, CLASSES)
    assert len(fig.axes) == 3
    names = [text.get_text() for text in fig.legends[0].get_texts()]
    assert names == list(CLASSES)


def test_every_text_is_escaped():
    for arrays in (counted(), clouds(), parts()):
        found = section(arrays)
        assert "<b>" not in re.sub('src="[^"]*"', "", found)


@pytest.mark.parametrize("make", [counted, images, clouds, parts])
def test_missing_parts_are_left_out(make):
    whole = make()
    assert section({}) == ""
    assert section({"classes": whole["classes"]}) == ""
    for name in whole:
        rest = {k: v for k, v in whole.items() if k != name}
        if make is counted and name != "classes":
            assert section(rest).count("<img") == 1
        else:
            assert section(rest) == ""


@pytest.mark.parametrize(
    ("make", "name", "value", "says"),
    [
        (counted, "confusion/chip", np.ones((2, 3)), "does not fit 3 classes"),
        (counted, "confusion/chip", -COUNTS, "confusion matrix is"),
        (images, "images/chip", np.zeros((2, 3, 4), int), r"\(3, 4\) do"),
        (parts, "clouds/y", np.zeros((2, 4), int), r"\(4,\) do not fit points"),
        (clouds, "clouds/ideal", np.zeros((2, 1), int), "do not fit sets"),
        (clouds, "clouds/chip", np.array([0, 3]), "answer is 3"),
        (clouds, "clouds/x", np.zeros((2, 30, 2)), "clouds/.*do not fit"),
        (images, "images/x", np.zeros((2, 8, 10)), "images/.*do not fit"),
        (parts, "clouds/rows", np.zeros(3, int), "clouds/.*do not fit"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_named(make, name, value, says):
    with pytest.raises(checks.UsageError, match=says):
        section(make() | {name: value})


def test_a_probability_is_one():
    arrays = images(2) | {"images/chip": np.full((2, 8, 10), -0.5)}
    with pytest.raises(checks.UsageError, match="on first chip is -0.5"):
        section(arrays)


def test_pictures_are_the_same_every_time():
    assert section(parts()) == section(parts())
