"""Tests of the sentences and units of a report."""

import numpy as np
import pytest

from jaxedge.run import text


@pytest.mark.parametrize(
    ("joules", "expected"),
    [(2.5e-9, (1e9, "n")), (1.0, (1, "")), (1e-12, (1e12, "p")), (0, (1, ""))],
)
def test_prefix(joules, expected):
    assert text.prefix(joules) == pytest.approx(expected)


def plain(sentence):
    return sentence.replace("\u00a0", " ")


@pytest.mark.parametrize("write", [text.percent, text.joules])
@pytest.mark.parametrize("value", [None, np.nan, np.inf])
def test_a_number_that_does_not_exist_is_a_dash(write, value):
    assert write(value) == "–"


def test_units():
    assert plain(text.percent(0.8551)) == "85.5 %"
    assert plain(text.joules(7.6e-9)) == "7.6 nJ"
    assert plain(text.joules(0.0)) == "0 J"


def test_metrics_in_words():
    assert text.metric("accuracy") == "accuracy"
    assert text.metric("roc_auc") == "area under the ROC curve"
    assert text.metric_title("some_rate") == "Some rate"
    title = text.metric_title("instance_iou")
    assert title == "Mean IoU over instances"


def test_any_entry_in_one_line():
    entry = {"value": 1e-7, "source": None, "levels": [1, 0.25]}
    assert text.flat(entry) == "1e-07, source: unknown, levels: 1, 0.25"


def test_flips_with_and_without_the_initial_pruning():
    # 1000 weights, half of them pruned at the start: (30 + 20) / 1000 flips
    # a weight while learning, (30 + 20 + 500) / 1000 in all.
    counts = dict(sets=30, resets=20, initial_resets=500, flips_per_weight=0.05)
    said = text.programmed(counts)
    assert "reinstated 30 weights and pruned 20" in said
    assert "0.05 flips per weight, or 0.55 with the 500 pruned" in said


def test_a_mask_that_never_moved():
    counts = dict(sets=0, resets=0, initial_resets=500, flips_per_weight=0.0)
    said = text.programmed(counts)
    assert "0 flips per weight, not counting the 500 pruned" in said


def test_programming_without_a_price_has_no_joules():
    said = text.priced(None)
    assert "unpriced: the energy of SET and RESET is unknown" in said
    assert plain(text.priced(2.5e-6)) == "All of it cost 2.5 µJ."


def test_a_study_is_told_by_the_hardware_that_differs():
    here = {
        "device": "a",
        "rows": 512,
        "overrides": {"read_noise": None},
        "macro": {"rows": None, "fold": None},
    }
    there = {**here, "rows": 64, "overrides": {"read_noise": 0.1}}
    said = text.differing("noise", there, here)
    assert said == "noise (read_noise 0.1, rows 64)"
    there = {**here, "macro": {"rows": 32, "fold": None}}
    assert text.differing("", there, here) == "chips (macro.rows 32)"
    assert "the same hardware" in text.differing("", here, dict(here))
