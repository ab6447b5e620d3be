"""Tests of the pictures of radiomics: what is drawn is what was given."""

import numpy as np
import pytest

from jaxedge.core import checks
from jaxedge.run import canvas, informed_figures

RNG = np.random.default_rng(0)
CURVE = informed_figures.Curve(
    np.array([0, 0, 0.5, 1]),
    np.array([0, 0.25, 1, 1]),
    np.array([0, 0.5, 1]),
    np.array([0.125, 0.5, 1]),
    np.array([0.5, 1, 1]),
)
REGION = np.zeros((2, 5, 6), bool)
REGION[:, 1:3, 2:5] = True
REGION[1, 1, 2] = False
SHOWN = informed_figures.Slices(
    RNG.normal(size=(2, 5, 6)), REGION, RNG.random((2, 5, 6, 3))
)
DEPTHS, NAMES = ["slice 3", "slice 4"], ["radius 1", "radius 2", "radius 5"]


def test_curves_are_drawn_with_their_bands():
    fig = informed_figures.curves({"a": CURVE, "b": CURVE})
    (ax,) = fig.axes
    drawn = {a.get_label(): a for a in ax.get_lines()}
    for name in "ab":
        np.testing.assert_allclose(
            np.asarray(drawn[name].get_xydata()),
            100 * np.stack([CURVE.false, CURVE.true], 1),
        )
    assert len({drawn[name].get_color() for name in "ab"}) == 2
    first, second = ax.collections
    for band in (first, second):
        (path,) = band.get_paths()
        corners = {tuple(p) for p in np.round(np.array(path.vertices), 6)}
        # Steps: an end is held until the next place.
        wanted = {(0, 12.5), (50, 12.5), (50, 50), (100, 50), (100, 100)}
        assert wanted | {(0, 50), (50, 50), (50, 100)} <= corners
    assert canvas.to_svg_or_png(fig).startswith("data:image/svg")


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ({}, "0 ROC curves"),
        (dict.fromkeys("abc", CURVE), "3 ROC curves"),
        ({"a": CURVE._replace(low=np.zeros(2))}, "'a'.*do not fit"),
        ({"a": CURVE._replace(true=np.full(4, 1.5))}, "share of 'a' is 1.5"),
    ],
)
def test_curves_that_do_not_fit_are_named(found, says):
    with pytest.raises(checks.UsageError, match=says):
        informed_figures.curves(found)


def test_slices_are_drawn_below_each_other():
    fig = informed_figures.slices(SHOWN, DEPTHS, NAMES)
    image, *maps = fig.axes[:4]
    assert [ax.get_title() for ax in fig.axes[:4]] == ["Image", *NAMES]
    assert [text.get_text() for text in image.texts] == DEPTHS
    seen = np.asarray(image.images[0].get_array())
    np.testing.assert_allclose(seen[:5], SHOWN.image[0])
    np.testing.assert_allclose(seen[6:], SHOWN.image[1])
    inside = SHOWN.maps[REGION]
    for ax, value in zip(maps, np.moveaxis(SHOWN.maps, -1, 0), strict=True):
        (drawn,) = ax.images
        assert drawn.get_clim() == (inside.min(), inside.max())
        array = np.ma.array(drawn.get_array())
        seen = np.ma.getmaskarray(array)
        np.testing.assert_array_equal(seen[:5], ~REGION[0])
        np.testing.assert_array_equal(seen[6:], ~REGION[1])
        got = np.asarray(array)[6:][REGION[1]]
        np.testing.assert_allclose(got, value[1][REGION[1]])
        # Between slices neither a value nor what is outside of a region.
        between = drawn.to_rgba(array)[5]
        np.testing.assert_array_equal(between, 1)
    assert canvas.to_svg_or_png(fig).startswith("data:image/png")


def test_a_region_has_an_outline_on_its_edges():
    lines = informed_figures.outline(REGION[1])
    found = {tuple(sorted(map(tuple, line))) for line in lines.tolist()}
    # Row 1 has columns 3 and 4, row 2 has 2 to 4.
    across = {(3, 0.5), (4, 0.5), (2, 1.5), (2, 2.5), (3, 2.5), (4, 2.5)}
    down = {(2.5, 1), (4.5, 1), (1.5, 2), (4.5, 2)}
    wanted = {((x - 0.5, y), (x + 0.5, y)) for x, y in across}
    wanted |= {((x, y - 0.5), (x, y + 0.5)) for x, y in down}
    assert found == wanted and len(lines) == len(wanted)
    # At the border of an image it is closed, too.
    assert len(informed_figures.outline(np.ones((2, 3), bool))) == 10
    assert informed_figures.outline(np.zeros((2, 3), bool)).shape == (0, 2, 2)


def test_slices_without_maps_or_region_are_drawn():
    none = SHOWN._replace(maps=np.zeros((2, 5, 6, 0)))
    fig = informed_figures.slices(none, DEPTHS, [])
    assert [ax.get_title() for ax in fig.axes] == ["Image"]
    empty = SHOWN._replace(region=np.zeros_like(REGION))
    fig = informed_figures.slices(empty, DEPTHS, NAMES)
    assert not fig.axes[0].collections[0].get_paths()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("shown", "depths", "names"),
    [
        (SHOWN, DEPTHS[:1], NAMES),
        (SHOWN, DEPTHS, NAMES[:1]),
        (SHOWN._replace(region=REGION[:1]), DEPTHS, NAMES),
        (SHOWN._replace(maps=np.zeros((2, 5, 6))), DEPTHS, NAMES),
    ],
)
def test_slices_that_do_not_fit_are_named(shown, depths, names):
    with pytest.raises(checks.UsageError, match=r"\(2, 5, 6\).* do not fit"):
        informed_figures.slices(shown, depths, names)


def test_a_map_must_be_finite_in_its_region():
    maps = np.full_like(SHOWN.maps, np.nan)
    maps[REGION] = 0.5
    assert informed_figures.slices(SHOWN._replace(maps=maps), DEPTHS, NAMES)
    maps[1, 2, 2] = np.nan
    with pytest.raises(checks.UsageError, match="value of a local map is nan"):
        informed_figures.slices(SHOWN._replace(maps=maps), DEPTHS, NAMES)


def test_correlations_have_one_scale():
    found = {"first": RNG.uniform(-1, 1, (7, 2)), "last": np.zeros((7, 2))}
    fig = informed_figures.correlations(found, ["a", "b"])
    first, last = fig.axes[:2]
    np.testing.assert_allclose(
        np.asarray(first.images[0].get_array()), np.abs(found["first"].T)
    )
    mean = np.abs(found["first"]).mean()
    assert first.get_title(loc="left") == f"first: mean |r| {mean:.3f}"
    assert last.get_title(loc="left") == "last: mean |r| 0.000"
    for ax in (first, last):
        assert ax.images[0].get_clim() == (0, 1)
        names = [label.get_text() for label in ax.get_yticklabels()]
        assert names == ["a", "b"]
    assert last.get_position().y1 < first.get_position().y0
    assert canvas.to_svg_or_png(fig).startswith("data:image/png")


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ({}, "do not fit 2"),
        ({"a": np.zeros((3, 1))}, r"\(3, 1\).* do not fit 2"),
        ({"a": np.zeros((0, 2))}, "do not fit 2"),
        ({"a": np.full((3, 2), 2.0)}, "correlation a is 2.0"),
    ],
)
def test_correlations_that_do_not_fit_are_named(found, says):
    with pytest.raises(checks.UsageError, match=says):
        informed_figures.correlations(found, ["x", "y"])
