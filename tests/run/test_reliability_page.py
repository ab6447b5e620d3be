"""Tests of the section on confidence: its numbers and its sentences."""

import re

import numpy as np
import pytest

from jaxedge.core import checks
from jaxedge.run import canvas, reliability_page

SUMMARY = {"config": {}, "chips": {"n": 2}}
BINS = {
    "weight": [0, 20, 80], "confidence": [0, 0.6, 0.95],
    "accuracy": [0, 0.5, 0.9],
}  # fmt: skip
CURVE = {"coverage": [0.25, 0.5, 0.75, 1], "risk": [0, 0.05, 0.1, 0.18]}
NUMBERS = {
    "examples": 1200, "ece": 0.06, "brier": 0.25, "nll": 0.41234,
    "aurc": 0.0333, "auroc": 0.789,
}  # fmt: skip
BY_PLACE = [*BINS, *CURVE, *NUMBERS]


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are made but not written, which takes the longest."""
    monkeypatch.setattr(canvas, "to_svg_or_png", lambda fig: "data:,")


def place(name, **changes):
    found = BINS | CURVE | NUMBERS | changes
    return {f"reliability/{name}/{k}": np.array(v) for k, v in found.items()}


def whole(**chip):
    softmax = {"reliability/softmax": np.array(True)}
    return softmax | place("ideal") | place("chip", **chip)


def section(pictures, summary=SUMMARY):
    found = reliability_page.section(pictures, summary)
    return re.sub('src="[^"]*"', "", found).replace("\u00a0", " ")


def cells(found, measure):
    """The cells of a line of the table."""
    line = re.search(rf'<th scope="row">{measure}.*?</tr>', found)
    assert line, measure
    return re.findall("<td>(.*?)</td>", line[0])


def test_the_section_has_its_pictures_and_sentences(undrawn):
    found = section(whole(risk=[0, 0.2, 0.2, 0.3]))
    assert "<h2>Confidence</h2>" in found and found.count("<img") == 3
    # 0.2 * 0.6 + 0.8 * 0.95 and 0.2 * 0.5 + 0.8 * 0.9
    said = "is on average 88.0 %, and 82.0 % of the answers are right"
    assert found.count(said) == 2
    assert "On ideal hardware the confidence" in found
    assert "On the first chip the confidence" in found
    assert "one of 3 ranges" in found and "interval of 95 %" in found
    assert (
        "Of the surer half it is 5.0 % instead of 18.0 % on ideal hardware and"
        " 20.0 % instead of 30.0 % on the first chip."
    ) in found
    assert "the softmax of the network" in found


def test_the_table_has_every_measure(undrawn):
    found = section(whole(ece=0.08, nll=np.inf, auroc=np.nan))
    assert "over 1,200 test examples" in found
    assert cells(found, "Right answers") == ["82.0 %", "82.0 %", "higher"]
    assert cells(found, "Mean confidence")[:2] == ["88.0 %", "88.0 %"]
    assert cells(found, "Expected calibration error, 3 bins") == [
        "6.0 %", "8.0 %", "lower",
    ]  # fmt: skip
    assert cells(found, "Brier score") == ["0.25", "0.25", "lower"]
    assert cells(found, "Negative log-likelihood") == ["0.412", "∞", "lower"]
    assert cells(found, "Area under") == ["0.0333", "0.0333", "lower"]
    assert cells(found, "AUROC") == ["0.789", "–", "higher"]
    said = "all right or all wrong (on the first chip), AUROC has nothing"
    assert said in found and said not in section(whole())


@pytest.mark.parametrize(
    ("softmax", "config", "says"),
    [
        (True, {"evidence": {"activation": "relu"}}, "softmax"),
        (False, {"evidence": {"activation": "relu"}}, "alpha / S (relu)"),
        (False, {}, "that the recipe makes"),
    ],
)
def test_it_says_what_probabilities_are(undrawn, softmax, config, says):
    pictures = whole() | {"reliability/softmax": np.array(softmax)}
    assert says in section(pictures, SUMMARY | {"config": config})


def test_a_place_without_numbers_is_named(undrawn):
    only = {"reliability/softmax": np.array(True)} | place("ideal")
    found = section(only)
    assert found.count("<img") == 2 and "Those on the first chip are not" in (
        found
    )
    assert cells(found, "Brier score") == ["0.25", "lower"]
    assert "not all are finite" not in section(whole())


@pytest.mark.parametrize("name", BY_PLACE)
def test_missing_parts_are_left_out(undrawn, name):
    rest = whole()
    del rest[f"reliability/ideal/{name}"]
    assert section(rest).count("<img") == 2
    del rest[f"reliability/chip/{name}"]
    assert section(rest) == ""


def test_without_arrays_or_chips_there_is_no_section():
    assert section({}) == ""
    assert section({"classes": np.array(["a"])}) == ""
    assert section(whole(), {"config": {}, "chips": None}) == ""
    assert section(whole(), {"config": {}}) == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"weight": [1, 2]},
        {"weight": 1, "confidence": 0.5, "accuracy": 0.5},
        {"risk": [0.1, 0.2]},
        {"ece": [0.1]},
    ],
)
def test_arrays_that_do_not_fit_are_named(changes):
    with pytest.raises(checks.UsageError, match="reliability/chip.*not fit"):
        section(whole(**changes))


def test_pictures_are_the_same_every_time():
    pages = [reliability_page.section(whole(), SUMMARY) for _ in range(2)]
    assert pages[0] == pages[1]
