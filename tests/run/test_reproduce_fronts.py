"""What `scripts/reproduce quantized_front` tells of its runs."""

import json
from pathlib import Path
import sys

import numpy as np
import pytest

from jaxedge.run import job

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
NAME = "quantized_front"


@pytest.fixture
def part(monkeypatch):
    """The module of the entry."""
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.chdir(SCRIPTS.parent)
    import reproduce_fronts  # type: ignore

    yield reproduce_fronts
    for name in ("reproduce_fronts", "reproduce_tables"):
        sys.modules.pop(name, None)


def summary(folder, bits, accuracy):
    """What a run leaves, with numbers of its own."""
    content = {
        "metrics": {"test_accuracy": accuracy + 0.05},
        "chips": {
            "n": 20, "score_mean": accuracy, "score_std": 0.01,
            "score_min": accuracy - 0.1,
        },
        "energy": {"joules_hardware": 1e-11 * bits, "joules_gpu": 1e-9},
        "seconds": {"train": 5.0},
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def content(part, monkeypatch, tmp_path):
    """Of two seeds and four rows, whose runs are not made."""
    seen = []
    monkeypatch.setattr(
        job, "resolve", lambda config, root: seen.append(config) or config
    )

    def run(config, folder, stop):
        bits, seed = config.quantize.weights, config.seed
        summary(folder, bits, 0.6 + 0.04 * bits + 0.02 * seed)

    monkeypatch.setattr(job, "run", run)
    flags = ["--only=W2A2,W4A4 SRAM"]
    found = part.reproduce(NAME, 2, flags, tmp_path, None)
    # Whatever is there is not run again.
    monkeypatch.setattr(job, "run", None)
    assert part.reproduce(NAME, 2, flags, tmp_path, None) == found
    for config in seen:
        quantize = config.quantize
        assert quantize.weights == quantize.inputs == quantize.edges
        assert config.model.widths == (32,) and config.chips.images is None
    return found


def test_rows_are_those_of_summaries(part, content):
    rows = {(row["row"], row["seed"]): row for row in content["runs"]}
    assert len(rows) == len(content["runs"]) == 8
    digital = rows["W2A2 digital", 1]
    assert digital["accuracy"] == pytest.approx(0.6 + 0.08 + 0.02 + 0.05)
    assert digital["joules"] == 1e-9 and "chips" not in digital
    macro = rows["W4A4 SRAM macro", 0]
    assert macro["accuracy"] == pytest.approx(0.76) and macro["chips"] == 20
    assert macro["joules"] == pytest.approx(4e-11)
    points = {p["row"]: p for p in part.points(content)}
    assert points["W2A2 crossbar"]["accuracy"] == {"mean": 0.69, "sd": 0.01414}
    front = {row for row, point in points.items() if point["front"]}
    # Digital is dearer than the macro, and not as good.
    both = {"W2A2 crossbar", "W2A2 crossbar, 8-bit ADC"}
    assert front == both | {"W4A4 SRAM macro"}


def test_the_page_and_the_picture_have_every_row(part, content, tmp_path):
    lines = part.page(NAME, content)
    table = [line for line in lines if line.startswith("| W")]
    assert len(table) == 4 and table[0].startswith("| W2A2 crossbar")
    (macro,) = (line for line in table if "SRAM" in line)
    assert "77.00 (1.41)" in macro and "40\u00a0pJ" in macro and "yes" in macro
    part.draw(NAME, content, tmp_path / "front.svg")
    drawn = (tmp_path / "front.svg").read_text(encoding="utf-8")
    assert drawn.count("<svg") == 1


def test_fronts_against_all_pairs(part):
    rng = np.random.default_rng(0)
    pairs = [tuple(p) for p in rng.integers(0, 8, (40, 2)).tolist()]
    for own, kept in zip(pairs, part.front(pairs), strict=True):
        beaten = [
            (c < own[0] and g >= own[1]) or (c <= own[0] and g > own[1])
            for c, g in pairs
        ]
        assert kept == (not any(beaten))
