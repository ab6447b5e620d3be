"""Tests of the section on radiomics: its numbers and its sentences."""

import re

import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from jaxedge.core import checks
from jaxedge.run import canvas, informed_page

SUMMARY = {
    "config": {
        "radiomics": {"radii": [1, 5], "local": "glcm_Idn", "select": "mrmr"},
        "losses": {"decorrelate": 2.0},
        "model": {"start": None},
    }
}
RNG = np.random.default_rng(0)
BASE = {"classes": np.array(["benign", "ill"]), "counts": np.array([30, 12])}
FEATURES = {
    "names": np.array(["original_shape_Sphericity", "original_glcm_Idn"]),
    "mean": np.array([[1234.567, 0.5], [np.nan, -1]]),
    "spread": np.array([[12.345, np.nan], [np.nan, 0.1234]]),
    "alone": np.array([[0.75, 0.5, 1], [np.nan, np.nan, np.nan]]),
}
VOLUMES = {
    "rows": np.array([0, 1234]),
    "label": np.array([1, 0]),
    "said": np.array([[0.75, 0.5], [0.25, np.nan]]),
    "depth": np.array(24),
    "slices": np.array([[3, 5, 7], [4, 4, 4]]),
    "image": RNG.normal(size=(2, 3, 4, 5)),
    "region": RNG.random((2, 3, 4, 5)) < 0.5,
    "maps": RNG.random((2, 3, 4, 5, 2)),
}
CORRELATIONS = {
    "correlation/start": RNG.uniform(-1, 1, (6, 2)),
    "correlation/trained": np.zeros((6, 2)),
}
CHANGE = {"roc/change": np.array([-0.02, -0.05, 0.01], np.float32)}


def curve(place, area=(0.9, 0.8, 1.0)):
    found = {
        "false": [0, 0.5, 1], "true": [0, 1, 1], "at": [0, 1], "low": [0, 1],
        "high": [0.5, 1], "area": area,
    }  # fmt: skip
    return {f"roc/{place}/{k}": np.array(v, float) for k, v in found.items()}


WHOLE = {
    **BASE, **FEATURES, **VOLUMES, **CORRELATIONS, **CHANGE,
    **curve("ideal"), **curve("chip", (0.88, 0.7, 0.99)),
}  # fmt: skip


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are made but not written, which takes the longest."""
    drawn = []
    monkeypatch.setattr(
        canvas, "to_svg_or_png", lambda fig: drawn.append(fig) or "data:,"
    )
    return drawn


def section(arrays, summary=SUMMARY):
    pictures = {f"informed/{name}": array for name, array in arrays.items()}
    found = informed_page.section(pictures, summary)
    return found.replace("\u00a0", " ")


def changed(**sections):
    known = SUMMARY["config"]
    return {"config": known | {k: known[k] | v for k, v in sections.items()}}


def without(*prefixes):
    return {k: a for k, a in WHOLE.items() if not k.startswith(prefixes)}


def test_the_section_has_its_pictures_and_sentences(undrawn):
    found = section(WHOLE)
    assert "<h2>Radiomics</h2>" in found and found.count("<img") == 4
    assert "of class ill (12 of the test split)" in found
    assert "false alarms others (30)" in found
    assert "the area changes by -0.020; as the examples" in found
    assert "the interval of this is -0.050 to +0.010." in found
    assert "DeLong et al." in found and "Efron" in found
    legend = undrawn[0].axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [
        "Ideal hardware, 0.900 (0.800 to 1.000)",
        "First chip, 0.880 (0.700 to 0.990)",
    ]


def test_the_table_has_every_feature(undrawn):
    found = section(WHOLE)
    lines = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', found)
    cells = {name: re.findall("<td>(.*?)</td>", rest) for name, rest in lines}
    assert cells == {
        "original_shape_Sphericity": [
            "1235 ± 12", "0.5", "0.750 (0.500 to 1.000)",
        ],
        "original_glcm_Idn": ["–", "-1 ± 0.12", "–"],
        "The network, ideal": ["", "", "0.900 (0.800 to 1.000)"],
    }  # fmt: skip
    assert "smaller in class ill" in found
    assert "minimal redundancy" in found
    lasso = section(WHOLE, changed(radiomics={"select": "lasso"}))
    assert "LASSO of the training split" in lasso
    assert "those of the config" in section(
        WHOLE, changed(radiomics={"select": "fixed"})
    )


def test_volumes_are_told(undrawn):
    found = section(WHOLE)
    assert (
        "Test volume 0, of class ill: the probability of ill is 75.0 % on ideal"
        " hardware and 50.0 % on the first chip."
    ) in found
    assert "Test volume 1,234, of class benign" in found
    assert "is 25.0 % on ideal hardware and – on the first chip" in found
    assert found.count("of 24;") == 2 and found.count("The maps are glcm_") == 2
    first, second = undrawn[1:3]
    titles = [ax.get_title() for ax in first.axes[:3]]
    assert titles == ["Image", "radius 1", "radius 5"]
    said = [t.get_text() for t in first.axes[0].texts]
    assert said == ["slice 3", "slice 5", "slice 7"]
    # A slice is shown once.
    assert [t.get_text() for t in second.axes[0].texts] == ["slice 4"]
    none = VOLUMES | {"maps": np.zeros((2, 3, 4, 5, 0))}
    bare = section(WHOLE | none, changed(radiomics={"radii": []}))
    assert bare.count("<img") == 4 and "The maps are" not in bare
    with pytest.raises(checks.UsageError, match="1 names"):
        section(WHOLE, changed(radiomics={"radii": [1]}))


def test_correlations_are_told(undrawn):
    found = section(WHOLE)
    assert "over 42 test examples" in found
    assert "weight of the de-correlation loss was 2." in found
    assert "Trained, 6 of 6 deep features are constant" in found
    assert "At its start, " not in found and "model.start" not in found
    titles = [ax.get_title(loc="left") for ax in undrawn[-1].axes[:2]]
    mean = np.abs(CORRELATIONS["correlation/start"]).mean()
    assert titles == [f"At its start: mean |r| {mean:.3f}"] + [
        "Trained: mean |r| 0.000"
    ]
    other = section(
        WHOLE, changed(losses={"decorrelate": 0.0}, model={"start": "runs/a"})
    )
    assert "There was no de-correlation loss." in other
    assert "weights of the run without radiomics" in other


@pytest.mark.parametrize("n", [3, 12, 80])
def test_the_correlation_by_chance_is_a_mean(n):
    # Of the t statistic of r, whose law is Student's with n - 2 degrees.
    mean, _ = scipy.integrate.quad(
        lambda t: 2 * t / np.sqrt(t**2 + n - 2) * scipy.stats.t.pdf(t, n - 2),
        0,
        np.inf,
    )
    assert informed_page._by_chance(n) == pytest.approx(mean, rel=1e-6)
    said = section(WHOLE | {"counts": np.array([n, 0])})
    assert f"mean |r| of {mean:.3f} over" in said


def test_missing_parts_are_left_out(undrawn):
    assert section(without("roc")).count("<img") == 3
    assert section(without("roc/chip", "roc/change")).count("<img") == 4
    assert "changes by" not in section(without("roc/change"))
    assert section(without("image")).count("<img") == 2
    assert section(without("correlation")).count("<img") == 3
    bare = section(without("names", "correlation"))
    assert "no global features" in bare and "<table" not in bare
    assert section(BASE).count("<img") == 0
    assert section({}) == "" and section(without("classes")) == ""


def test_it_says_why_there_are_no_curves(undrawn):
    assert "no finite numbers" in section(without("roc"))
    few = without("roc") | {"counts": np.array([30, 1])}
    assert "has 30 and 1 examples of the classes" in section(few)


def test_chips_that_are_alike_have_the_same_area(undrawn):
    same = WHOLE | {"roc/change": np.array([-6e-8, -6e-8, 0], np.float32)}
    found = section(same)
    assert "the area is the same" in found and "-0.000" not in found


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": np.array(["a", "b", "c"])},
        {"counts": np.array(3)},
        {"alone": np.zeros((1, 3))},
        {"rows": np.arange(3)},
        {"slices": np.zeros((2, 2), int)},
    ],
)
def test_arrays_that_do_not_fit_are_named(changes):
    with pytest.raises(checks.UsageError, match="informed/.*do not fit"):
        section(WHOLE | changes)


def test_pictures_are_the_same_every_time():
    pages = [section(without("image")) for _ in range(2)]
    assert pages[0] == pages[1] and "data:image" in pages[0]
