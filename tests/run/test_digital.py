"""A whole run on a digital chip, and what its report says."""

import json
from pathlib import Path
import re

import jax
import numpy as np
import pytest

from jaxedge import hardware
from jaxedge.core import checks
from jaxedge.hardware import digital
from jaxedge.run import cells, estimate, job, settle

pytestmark = pytest.mark.usefixtures("compile_quickly")

ROOT = Path(__file__).resolve().parents[2]
FLAGS = (
    f"--config={ROOT}/configs/edge_pruning.py:quick",
    "--config.model.widths=(16,)",
    "--config.train.epochs=3",
    "--config.train.hardware=fresh_chips",
    "--config.hardware.device=nvfp4",
    "--config.study=layers weights=int8,int2",
)


@pytest.fixture(scope="module")
def resolved(resolve):
    with pytest.warns(UserWarning, match="20 chips, but those of nvfp4 are al"):
        return resolve(*FLAGS)


@pytest.fixture(scope="module")
def folder(resolved, tmp_path_factory):
    """The workdir of a finished run."""
    place = tmp_path_factory.mktemp("digital") / "run"
    job.run(resolved, place)
    return place


@pytest.mark.slow
def test_a_run_on_a_digital_chip(folder):
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    chips = summary["chips"]
    assert chips["n"] == 1 and chips["alike"]
    # Trained on it, the chip is as good as the ideal network.
    ideal = summary["metrics"]["test_accuracy"]
    assert abs(chips["score_mean"] - ideal) < 0.05 and ideal > 0.8
    assert {*summary["sweeps"]} == {"only_layer", "all_but_layer", "weights"}
    rows = summary["numbers"]
    assert rows["Dense_0"]["weights"] == "nvfp4"
    # 4 bits, and 8 for a block of 16 and 32 for the whole.
    bits = 4.5 + 32 / rows["Dense_0"]["count"]
    assert rows["Dense_0"]["bits"] == pytest.approx(bits)
    energy = summary["energy"]
    macs = sum(row["rows"] * row["cols"] for row in energy["layers"])
    price = 300 / 624e12
    assert energy["joules_hardware"] == pytest.approx(2 * macs * price)
    page = (folder / "report.html").read_text("utf-8")
    text = re.sub(r"<[^>]*>", " ", page)
    assert "All chips of this design are alike" in text
    assert "How each layer is stored" in text
    for words in ("Yield", "Mean over", "No conductances were stored"):
        assert words not in text


def test_one_chip_is_studied(resolved):
    assert (resolved.chips.n, resolved.chips.sweep) == (1, 1)
    assert not settle.calibrated(resolved.spec, resolved.swept)


def test_no_range_is_learned(resolve):
    learned = "--config.train.input_ranges=True"
    with pytest.raises(checks.UsageError, match="nvfp4 takes its scales from"):
        resolve(*FLAGS, learned)


def test_no_score_is_linearised_in_numbers():
    with pytest.raises(checks.UsageError, match="digital design is no crossb"):
        estimate.linearise(lambda params: 0.0, {}, digital.get("int4"))  # type: ignore


def test_what_is_stored_is_told():
    w = jax.random.normal(jax.random.key(0), (32, 4))
    mask = (w > 0).astype(w.dtype)
    trained = {
        "a": {"kernel": w, "bias": w[0]},
        "b": {"kernel": hardware.MaskedRandom(w, mask)},
    }
    chip = hardware.deploy(
        jax.random.key(0), trained, digital.get("int4_w4a16")
    )
    rows = cells.stored(trained, chip)
    for name, values in (("a", w), ("b", w * mask)):
        values = np.asarray(values, np.float64)
        step = np.abs(values).max(0) / 7
        off = np.round(values / step) * step - values
        error = np.sqrt(np.mean(off**2) / np.mean(values**2))
        assert rows[name] == {
            "weights": "int4",
            "inputs": None,
            "count": 128,
            "bits": 5.0,  # A scale of 32 bits for 32 weights.
            "error": pytest.approx(error, rel=1e-4),
        }
    said = cells.section(rows)
    assert "as they are" in said and f"{100 * rows['a']['error']:.2f}" in said
    assert cells.section({}) == ""
    assert cells.stored({"a": w}, {"a": w}) == {}
