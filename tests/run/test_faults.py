"""The script of faults: what it compares, damages and says of inputs."""

import json
from pathlib import Path
import shutil
import sys

import numpy as np
import pytest

from jaxedge.core.checks import UsageError

ROOT = Path(__file__).resolve().parents[2]
MODULES = (
    "reproduce_devices",
    "reproduce_fault_runs",
    "reproduce_faults",
    "reproduce_fuzz",
    "reproduce_fuzz_damage",
    "reproduce_fuzz_readers",
)
ROWS = ({"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25, "seconds": 3.0})


@pytest.fixture
def script(monkeypatch):
    """A function from the name of a script to its module."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    yield __import__
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def whole(tmp_path):
    """What an undisturbed run leaves."""
    folder = tmp_path / "whole"
    (folder / "checkpoints" / "7").mkdir(parents=True)
    np.savez(folder / "network.npz", a=np.arange(4.0), b=np.array([0.0]))
    np.savez(folder / "study.npz", score=np.ones(3, np.float32))
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (folder / "metrics.jsonl").write_text(lines, "utf-8")
    (folder / "checkpoints" / "7" / "state").write_bytes(bytes(200))
    return folder


def changed(whole, name, **arrays):
    at = whole.parent / "run"
    shutil.rmtree(at, ignore_errors=True)
    shutil.copytree(whole, at)
    with np.load(at / name) as file:
        found = {key: file[key] for key in file.files}
    np.savez(at / name, **{**found, **arrays})
    return at


def test_one_changed_bit_is_a_difference(script, whole):
    compare = script("reproduce_fault_runs").differences
    assert compare(whole, whole) == []
    near = np.nextafter(np.arange(4.0), 9)
    at = changed(whole, "network.npz", a=near)
    assert compare(whole, at) == ["network.npz: a"]
    # Minus zero, another type and another shape are other bits.
    for b in (np.array([-0.0]), np.array([0.0], np.float32), np.zeros(())):
        at = changed(whole, "network.npz", b=b)
        assert compare(whole, at) == ["network.npz: b"]
    at = changed(whole, "study.npz", **{"rate/chips": np.ones(1)})
    assert compare(whole, at) == []
    at = changed(whole, "study.npz", more=np.ones(1))
    assert compare(whole, at) == ["study.npz: more"]
    (at / "study.npz").unlink()
    assert "study.npz: score" in compare(whole, at)


def test_rows_of_metrics_are_compared_but_for_their_times(script, whole):
    compare = script("reproduce_fault_runs").differences
    at = changed(whole, "network.npz")
    path = at / "metrics.jsonl"
    text = path.read_text("utf-8")
    path.write_text(text.replace("3.0", "4.0"), "utf-8")
    assert compare(whole, at) == []
    path.write_text(text.replace("0.25", "0.26"), "utf-8")
    assert compare(whole, at) == ["metrics: row 1"]
    path.write_text(text + text, "utf-8")
    assert compare(whole, at) == ["metrics: 4 rows for 2"]


def test_how_far_a_run_came(script, whole, tmp_path):
    runs = script("reproduce_fault_runs")
    assert runs.point(tmp_path / "none") == "start"
    assert runs.point(whole) == "report"
    (whole / "study.npz").unlink()
    assert runs.point(whole) == "test"
    (whole / "network.npz").unlink()
    assert runs.point(whole) == "step 2"
    (whole / "report.html").touch()
    assert runs.point(whole) == "done"


def test_damage_is_that_of_its_numbers(script, whole):
    runs = script("reproduce_fault_runs")
    state = whole / "checkpoints" / "7" / "state"
    found = []
    for number in (0, 0, 1):
        state.write_bytes(bytes(200))
        assert runs.damage(whole, runs.drawn("damage", number))
        found.append(state.read_bytes())
    assert found[0] == found[1] != found[2]
    assert bytes(200) not in found


def test_an_input_is_that_of_its_number(script):
    damage = script("reproduce_fuzz_damage")
    readers = script("reproduce_fuzz_readers")
    sound = [readers._idx(), readers._CUBE, readers._torch()]
    first = [damage.made("idx", i, sound) for i in range(60)]
    assert first == [damage.made("idx", i, sound) for i in range(60)]
    assert first != [damage.made("off", i, sound) for i in range(60)]
    spoilt = [one for one in first if one.content != sound[one.file]]
    # A block may be swapped for an equal one.
    assert len(spoilt) > 50 and {one.file for one in first} == {0, 1, 2}


def test_a_packed_file_is_damaged_inside(script, tmp_path):
    damage = script("reproduce_fuzz_damage")
    np.savez(tmp_path / "a.npz", x=np.arange(50.0))
    sound = [(tmp_path / "a.npz").read_bytes()]
    found = set()
    for number in range(60):
        content = damage.made("archives", number, sound).content
        (tmp_path / "a.npz").write_bytes(content)
        try:
            with np.load(tmp_path / "a.npz") as file:
                found.add(np.array_equal(file["x"], np.arange(50.0)))
        except Exception:  # noqa: BLE001 - numpy raises anything
            found.add(None)
    # Numbers that differ, though a checksum is over all of them.
    assert found >= {False, None}


def test_what_becomes_of_an_input(script):
    fuzz = script("reproduce_fuzz")
    accepted = script("reproduce_fuzz_readers").Accepted

    def raises(error):
        raise error

    def told(error):
        return fuzz.outcome(lambda: raises(error))

    assert fuzz.outcome(lambda: None) == "read"
    assert told(UsageError("a.npz is damaged.")) == "refused"
    assert told(UsageError("two\nlines")).startswith("lines: ")
    assert told(accepted("finite numbers")) == "accepted: finite numbers"
    assert told(KeyError("x")).startswith("KeyError in test_faults.py:raises")

    def endless():
        while True:
            pass

    assert fuzz.outcome(endless, 0.05) == "more than 0.05 s"


def test_pages(script):
    faults, fuzz = script("reproduce_faults"), script("reproduce_fuzz")
    kill = {"recipe": "a", "signal": "SIGKILL", "point": "step 3"}
    kills = [
        {**kill, "outcome": "same"},
        {**kill, "point": "chips", "outcome": "study.npz: score | b"},
    ]
    other = {
        "recipe": "a", "fault": "full disk", "point": "9 bytes",
        "said": "", "clear": False, "outcome": "same",
    }  # fmt: skip
    content = {"kills": kills, "others": [other]}
    page = "\n".join(faults.page("faults", content))
    assert (
        "After 1 of them" in page and "| `a` | 2 | 0 | 0 | 1 | 1 | 1 |" in page
    )
    assert "**unclear**" in page and "score \\| b" in page
    row = {"reader": "idx", "inputs": 9, "refused": 7, "read": 1}
    finding = {"number": 4, "fault": "KeyError", "times": 1}
    rows = [{**row, "findings": [finding]}]
    page = "\n".join(fuzz.page({"readers": rows}))
    assert "| idx | 9 | 7 | 1 | 1 |" in page and "| idx | 4 | 1 |" in page
