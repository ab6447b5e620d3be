"""Tests of the section on learned grids: its numbers, sentences, pictures."""

import re
from typing import Any

import numpy as np
import pytest

from jaxedge.core import checks
from jaxedge.run import canvas, variation_figures, variation_page
from jaxedge.run.variation_figures import Change

SUMMARY = {"score": "accuracy", "metrics": {"frozen": 0.25}}
NAN = np.nan
FOUND = {
    "names": np.array(["block_0/attention/prob", "block_0/mlp/up", "head"]),
    "kinds": np.array(["probabilities", "MLP", "matrix"]),
    "groups": np.array(["attention", "feed-forward"]),
    "examples": np.array(200),
    "bits": np.array([NAN, 3, 8]),
    "input_bits": np.array([3, 3, 8.0]),
    "count": np.array([0, 300, 100]),
    "step": np.array([NAN, 0.0123, 0.5]),
    "distances": np.array([[NAN] * 10, [0.1] * 10, [1.0] + [0.0] * 9]),
    "clipped": np.array([NAN, 0.04, 0.0]),
    "fluctuation": np.array([[NAN] * 5, [1, 2, 3.25, 4, 0.5], [0] * 5]),
    "oscillating": np.array([NAN, 0.2, 0.0]),
    "rate": np.array([NAN, 0.004, 0.0]),
    "score/all": np.array(0.8),
    "score/none": np.array(0.9),
    "score/alone": np.array([0.85, 0.9, 0.91]),
    "score/spared": np.array([0.8, 0.84, 0.79]),
    "score/group_alone": np.array([0.85, 0.9]),
    "score/group_spared": np.array([0.8, 0.84]),
    "loss/all": np.array(0.5),
    "loss/none": np.array(0.25),
    "loss/alone": np.array([0.375, 0.25, 0.25]),
    "loss/spared": np.array([0.5, 0.25, 0.625]),
    "loss/group_alone": np.array([0.375, 0.25]),
    "loss/group_spared": np.array([0.5, 0.25]),
}
ROWS = [
    {"phase": "train", "epoch": 1, "oscillating_rise": 0.3, "flips": 4.0},
    {"phase": "valid", "epoch": 1, "accuracy": 0.5},
    {"phase": "train", "epoch": 2, "oscillating_rise": -0.1, "flips": 2.0},
]


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are made but not written, which takes the longest."""
    drawn = []
    monkeypatch.setattr(
        canvas, "to_svg_or_png", lambda fig: drawn.append(fig) or "data:,"
    )
    return drawn


def section(found=FOUND, rows=ROWS, summary=SUMMARY):
    pictures = {f"variation/{name}": array for name, array in found.items()}
    html = variation_page.section(pictures, rows, summary)
    return html.replace("\u00a0", " ")


def test_a_whole_section(undrawn):
    html = section()
    assert len(undrawn) == html.count("<figure>") == 5
    assert "accuracy is 80.0 % with all of them, and 90.0 % with none" in html
    assert "first 200 validation examples" in html
    assert "One example is 0.5 points" in html
    assert "Attention is query, key, value, probabilities, projection" in html
    # 300 weights of 400, of which a fifth: 15 %; .004 of 3 in 4 steps.
    assert "15.0 % oscillate" in html
    assert "once in 333 steps" in html and "25.0 % are held for good" in html
    # Evenly spread of 300, none of 100.
    assert "15.0 % lie in the fifth nearest to the middle" in html
    assert "3.0 % outside of the range" in html
    assert "are not drawn" not in html


def test_the_table_has_every_module():
    table = variation_page._table(FOUND, "accuracy").replace("\u00a0", " ")
    lines = re.findall(r"<tr>(.*?)</tr>", table)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line) for line in lines]
    head, prob, up, last = cells
    assert len({len(row) for row in cells}) == 1
    told = dict(zip(head, up, strict=True))
    assert up[:6] == ["block_0/mlp/up", "MLP", "300", "3", "3", "0.0123"]
    assert told["Accuracy lost alone"] == "0"
    assert told["Accuracy won back"] == told["Clipped (%)"] == "4"
    assert told["Loss won back"] == "0.25" and told["Loss lost alone"] == "0"
    assert told["Oscillating (%)"] == "20" and told["Kurtosis"] == "4"
    assert told["Turns in 1,000 steps"] == "4"
    assert told["Near the middle (%)"] == "20"
    assert told["Spread of outputs"] == "3.25" and told["Outliers (%)"] == "50"
    assert prob[2:6] == ["0", "–", "3", "–"] and last[3] == "8"


def test_what_grids_cost_has_its_sign():
    points, loss = variation_page.changes(FOUND, "accuracy")
    np.testing.assert_allclose(points.alone, [5, 0, -1], atol=1e-9)
    np.testing.assert_allclose(points.spared, [0, 4, -1], atol=1e-9)
    np.testing.assert_allclose(loss.alone, [0.125, 0, 0])
    np.testing.assert_allclose(loss.spared, [0, 0.25, -0.125])
    (one,) = variation_page.changes(
        FOUND | {"loss/alone": np.array([np.inf, 0, 0])}, "accuracy"
    )
    assert one.label == "Accuracy (points)"


def test_curves_add_up_the_rises():
    made = variation_page.curves(ROWS)
    (share, flips) = made.values()
    np.testing.assert_allclose(share, [[1, 2], [30, 20]])
    np.testing.assert_allclose(flips, [[1, 2], [4, 2]])
    assert not variation_page.curves(ROWS[1:2])


def test_what_is_unknown_is_not_drawn(undrawn):
    assert section({"groups": FOUND["groups"]}) == ""
    none = {**FOUND, "oscillating": np.full(3, NAN), "rate": np.full(3, NAN)}
    html = section(none, [])
    assert "not followed" in html and len(undrawn) == 3
    one = dict.fromkeys(("groups",), np.zeros(0, "<U1"))
    few = {k: v[:0] for k, v in FOUND.items() if "/group_" in k}
    html = section({**FOUND, **one, **few}, [])
    assert len(undrawn) == 3 + 3 and "Attention is" not in html
    lost = {**FOUND, "score/none": np.array(NAN), "loss/none": np.array(NAN)}
    assert "It is unknown" in section(lost, [])


def test_many_modules_are_cut_to_the_worst(undrawn, monkeypatch):
    monkeypatch.setattr(variation_page, "MOST", 1)
    html = section()
    assert html.count("are not drawn") == 3
    shown = [t.get_text() for t in undrawn[0].axes[0].get_yticklabels()]
    # By the loss, which knows more than 200 examples.
    assert shown == ["block_0/mlp/up"]


@pytest.mark.parametrize(
    "changes",
    [{"rate": np.zeros(2)}, {"score/group_alone": np.zeros(3)}],
)
def test_arrays_that_do_not_fit_are_named(changes):
    with pytest.raises(checks.UsageError, match="do not fit"):
        section({**FOUND, **changes})
    part = {k: v for k, v in FOUND.items() if k != "score/spared"}
    with pytest.raises(checks.UsageError, match="score/spared"):
        section(part)


# Pictures.


def patches(fig, panel=0) -> list[Any]:
    return [*fig.axes[panel].patches]


def test_bars_are_the_numbers():
    change = Change("Loss", np.array([1.0, -2.0]), np.array([0.5, 3.0]))
    fig = variation_figures.sensitivity(["a", "b"], [change, change])
    bars = [bar.get_width() for bar in patches(fig, 1)]
    assert bars == [1, -2, 0.5, 3]
    fig = variation_figures.oscillation(
        ["a", "b", "c"], ["k", "v", "k"], np.array([0.1, 0.2, 0.3])
    )
    widths = {
        round(bar.get_y() + bar.get_height() / 2): round(bar.get_width(), 6)
        for bar in patches(fig)
    }
    assert widths == {0: 10, 1: 20, 2: 30}
    share = np.array([[0.5, 0.5], [1.0, 0.0]])
    fig = variation_figures.distances(["a", "b"], share)
    image = np.asarray(fig.axes[0].images[0].get_array())
    # Over an even spread, which has as much in each bin.
    np.testing.assert_allclose(image, [[1, 1], [2, 0]])


LONG = Change("x", np.zeros(1), np.zeros(2))
BROKEN = Change("x", np.array([np.nan]), np.zeros(1))


@pytest.mark.parametrize(
    "draw, message",
    [
        (lambda f: f.sensitivity(["a"], []), "do not fit 1 modules"),
        (lambda f: f.sensitivity(["a"], [LONG]), "do not fit"),
        (lambda f: f.sensitivity(["a"], [BROKEN]), "sensitivity"),
        (lambda f: f.oscillation(["a"], ["b", "c"], np.zeros(1)), "2 kinds"),
        (lambda f: f.oscillation(["a"], ["b"], np.array([1.5])), "1.5"),
        (lambda f: f.distances(["a"], np.zeros(3)), r"shape \(3,\)"),
        (lambda f: f.distances(["a"], np.full((1, 2), -1.0)), "-1"),
        (lambda f: f.training({}), "as many"),
        (lambda f: f.training({"y": (np.zeros(2), np.zeros(3))}), "as many"),
    ],
)
def test_wrong_arrays_are_refused(draw, message):
    with pytest.raises(checks.UsageError, match=message):
        draw(variation_figures)
