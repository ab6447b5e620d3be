"""Tests of comparisons: what is read of workdirs, the table, the page."""

import csv
import html.parser
import json

import numpy as np
import pytest

from jaxedge.core import checks
from jaxedge.run import (
    compare,
    compare_figures,
    compare_runs,
    compare_table,
    main,
    metrics,
    pareto,
    search_plan,
)

VOID = {"meta", "img", "br", "hr", "link", "input"}


def config(rate=0.1, seed=0, data="digits", **chips):
    return {
        "recipe": "edge_pruning",
        "seed": seed,
        "data": {"name": data},
        "optimizer": {"learning_rate": rate},
        "train": {"epochs": 2},
        "chips": {"threshold": 0.9, **chips},
    }


def summary(of, test, joules=1e-9, score="accuracy"):
    return {
        "config": of,
        "score": score,
        "metrics": {f"valid_{score}": test - 0.01, f"test_{score}": test},
        "chips": {
            "n": 20, "score_mean": test - 0.1, "score_std": 0.01,
            "score_p05": test - 0.12, "score_p95": test - 0.08,
            "score_min": test - 0.2, "yield": test / 2, "yield_low": 0.1,
            "yield_high": 0.9, "threshold": 0.9, "images": 360,
        },
        "energy": {
            "joules_hardware": joules, "joules_gpu": 1e-7,
            "seconds_hardware": 3e-7 / test,
        },
        "seconds": {"train": 2.5, "chips": 1.25},
        "versions": {"jaxedge": "0.1.0", "jax": "0.10.2"},
    }  # fmt: skip


def make(folder, of, found=None, epochs=2):
    """A workdir, finished if there is a summary."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(of), encoding="utf-8")
    writer = metrics.Jsonl(folder / "metrics.jsonl")
    for epoch in range(1, epochs + 1):
        at = {"epoch": epoch, "loss": 1 / epoch, "accuracy": 1 - 0.5 / epoch}
        writer.write(epoch, {"phase": "train", **at})
        writer.write(epoch, {"phase": "valid", **at})
    writer.close()
    if found is not None:
        path = folder / "summary.json"
        path.write_text(json.dumps(found), encoding="utf-8")
    return folder


@pytest.fixture
def mixed(tmp_path):
    """Two settings with two seeds, another data set, and some unfinished."""
    for number, (rate, seed, test, joules) in enumerate(
        [(0.1, 0, 0.9, 1e-9), (0.1, 1, 0.94, 1e-9), (0.5, 0, 0.8, 2e-9),
         (0.5, 1, 0.82, 5e-10)]
    ):  # fmt: skip
        of = config(rate, seed)
        make(tmp_path / f"run{number}", of, summary(of, test, joules))
    of = config(data="plates")
    make(tmp_path / "other", of, summary(of, 0.7, score="balanced_accuracy"))
    make(tmp_path / "half", config(0.3), epochs=1)
    make(tmp_path / "trained", config(0.4))
    broken = make(tmp_path / "broken", config(0.6))
    (broken / "summary.json").write_text("{", encoding="utf-8")
    return tmp_path


def test_numbers_are_those_of_the_hardware_that_was_studied(tmp_path):
    # `jaxedge chips` studies other chips than config.json tells of.
    of, studied = config(), config(threshold=0.5)
    make(tmp_path / "run", of, summary(studied, 0.9))
    (entry,) = compare_runs.find([tmp_path / "run"])
    assert entry.fields["chips.threshold"] == 0.5
    (tmp_path / "foreign").mkdir()
    path = tmp_path / "foreign" / "config.json"
    path.write_text('{"model_type": "bert"}', encoding="utf-8")
    (entry,) = compare_runs.find([path.parent])
    assert entry.state == "damaged" and "not that of a run" in entry.note


def test_the_front_is_that_of_all_pairs():
    cost_NxK = np.random.default_rng(0).integers(0, 6, (60, 3)).astype(float)
    cost_NxK[7, 1] = np.nan

    def beats(a, b):
        return all(x <= y for x, y in zip(a, b, strict=True)) and any(
            x < y for x, y in zip(a, b, strict=True)
        )

    expected = [
        not np.isnan(b).any() and not any(beats(a, b) for a in cost_NxK)
        for b in cost_NxK
    ]
    assert 0 < sum(expected) < 30
    assert pareto.efficient(cost_NxK).tolist() == expected
    # Equal ones do not dominate each other.
    assert pareto.efficient(np.ones((2, 2))).tolist() == [True, True]
    assert pareto.efficient(np.zeros((0, 2))).tolist() == []
    with pytest.raises(checks.UsageError, match="shape"):
        pareto.efficient(np.ones(3))


def test_runs_are_found_in_any_folder(mixed):
    entries = compare_runs.find([mixed / "half", mixed, mixed / "run0"])
    assert len(entries) == 8  # Each once, the first first.
    states = {entry.name: (entry.state, entry.note) for entry in entries}
    assert list(states)[0] == "half"
    assert states["half"] == ("unfinished", "at epoch 1 of 2")
    assert states["trained"][0] == "unfinished"
    assert "chips are not studied" in states["trained"][1]
    assert states["broken"] == (
        "damaged",
        "its summary.json is not that of a run",
    )
    assert states["run1"] == ("finished", "")
    with pytest.raises(checks.UsageError, match="no run and no sweep"):
        compare_runs.find([mixed / "none"])


def test_a_sweep_counts_as_all_its_runs(tmp_path):
    points = [{"optimizer.learning_rate": str(rate)} for rate in (1, 2, 3, 4)]
    runs = search_plan.name(points, None, 0)
    search_plan.write(tmp_path / "sweep", "x.py", config(), runs)
    of = config(1)
    make(tmp_path / "sweep" / runs[0].name, of, summary(of, 0.5))
    make(tmp_path / "sweep" / runs[1].name, config(2), epochs=1)
    for run, words in (
        (runs[1], "\x1b[31mjaxedge: error: the loss is nan\x1b[0m\n\n"),
        (runs[2], "training\rMemoryError: none left\n"),
    ):
        log = search_plan.log(tmp_path / "sweep", run.name)
        log.write_text(words, encoding="utf-8")
    make(tmp_path / "more" / runs[0].name, config(9), summary(config(9), 0.5))
    entries = compare_runs.find([tmp_path / "sweep", tmp_path / "more"])
    assert [(entry.state, entry.note) for entry in entries] == [
        ("finished", ""),
        ("failed", "the loss is nan"),
        ("failed", "MemoryError: none left"),
        ("not started", ""),
        ("finished", ""),
    ]
    # Folders of one name are told apart.
    assert entries[0].name == f"sweep/{runs[0].name}"
    assert entries[4].name == f"more/{runs[0].name}"
    assert entries[1].name == runs[1].name


def test_the_table_holds_what_the_summaries_hold(mixed, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    compare.write([mixed], tmp_path / "out")
    text = (tmp_path / "out" / "results.csv").read_text(encoding="utf-8")
    rows = {row["run"]: row for row in csv.DictReader(text.splitlines())}
    assert len(rows) == 8
    said = json.loads((mixed / "run2" / "summary.json").read_text())
    row = rows["run2"]
    for name, value in {
        "optimizer.learning_rate": 0.5,
        "seed": 0,
        "valid": said["metrics"]["valid_accuracy"],
        "test": said["metrics"]["test_accuracy"],
        "chips": 20,
        "chip_mean": said["chips"]["score_mean"],
        "chip_std": said["chips"]["score_std"],
        "chip_p05": said["chips"]["score_p05"],
        "yield": said["chips"]["yield"],
        "joules": said["energy"]["joules_hardware"],
        "latency_seconds": said["energy"]["seconds_hardware"],
        "seconds": 3.75,
    }.items():
        assert float(row[name]) == value, name
    assert (row["score"], row["data.name"]) == ("accuracy", "digits")
    assert (row["jaxedge"], row["jax"]) == ("0.1.0", "0.10.2")
    assert "train.epochs" not in row  # It does not differ.
    assert (rows["half"]["state"], rows["half"]["test"]) == ("unfinished", "")
    table = parquet.read_table(tmp_path / "out" / "results.parquet")
    assert table.column_names == list(row)
    for found in table.to_pylist():
        for name, value in found.items():
            told = rows[found["run"]][name]
            assert told == ("" if value is None else str(value)), name
    assert str(table.schema.field("test").type) == "double"
    assert str(table.schema.field("chips").type) == "int64"


def test_columns_of_several_types_are_text(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [
        {"a": 1, "b": None, "c": [1, 2], "d": True, "e": 1},
        {"a": 0.5, "b": None, "c": None, "d": False, "e": "x"},
    ]
    assert compare_table.write(tmp_path, rows)
    found = parquet.read_table(tmp_path / "results.parquet").to_pylist()
    assert found == [
        {"a": 1.0, "b": None, "c": "[1, 2]", "d": True, "e": "1"},
        {"a": 0.5, "b": None, "c": None, "d": False, "e": "x"},
    ]


def test_without_pyarrow_there_is_a_csv(mixed, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    compare.write([mixed], out)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    compare.write([mixed], out)
    assert "jaxedge[sweeps]" in capsys.readouterr().out
    # An old one would no longer be the table's.
    assert not (out / "results.parquet").exists()
    assert (out / "results.csv").exists()


class Balance(html.parser.HTMLParser):
    """Raises unless every tag closes in its turn."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.told = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.told.append(data)


def read(path):
    page = Balance()
    page.feed(path.read_text(encoding="utf-8"))
    assert not page.open
    return " ".join(" ".join(page.told).split()), page.seen


def test_the_page_of_mixed_runs(mixed, tmp_path, capsys):
    out = tmp_path / "comparison"
    assert main.console(["compare", str(mixed), f"--out={out}"]) == 0
    assert capsys.readouterr().out == f"report: {out / 'report.html'}\n"
    told, seen = read(out / "report.html")
    assert "5 of 8" in told
    assert "Not comparable" in told
    assert "digits by accuracy (4 runs)" in told
    assert "plates by balanced accuracy (1 run)" in told
    assert "Not finished" in told and "at epoch 1 of 2" in told
    assert "its summary.json is not that of a run" in told
    # Means over seeds: 0.9 and 0.94, standard deviation 0.04 / sqrt(2).
    assert "92.0 % ± 2.8" in told.replace("\u00a0", " ")
    # Energy, latency, yield, curves and a field of the one kind; of the other
    # the curves.
    assert seen.count("img") == 6
    first = (out / "report.html").read_bytes()
    compare.write([mixed], out)
    assert (out / "report.html").read_bytes() == first


def test_comparable_runs_need_no_warning(mixed, tmp_path):
    runs = [mixed / f"run{number}" for number in range(4)]
    told, seen = read(compare.write(runs, tmp_path / "out"))
    assert "4 of 4" in told and seen.count("img") == 5
    for word in ("Not comparable", "Not finished", "Read with care"):
        assert word not in told
    assert "Best test accuracy 94.0 % run1" in told.replace("\u00a0", " ")
    assert "Least energy for one input 500 pJ run3" in told.replace(
        "\u00a0", " "
    )


def test_what_to_mind_is_told():
    here, there = config(), config(threshold=0.5)
    there["energy"] = {"read_volts": 1.0}
    there["data"]["crop"] = 4
    said = summary(there, 0.5)
    said["chips"]["images"] = 40
    said["versions"]["jax"] = "0.12"
    entries = [
        compare_runs.Entry(name, None, "finished", "", flat, found, [])
        for name, flat, found in (
            ("a", compare_runs.workdir.flat(here), summary(here, 0.5)),
            ("b", compare_runs.workdir.flat(there), said),
        )
    ]
    told = " ".join(compare_runs.cautions(entries))
    for word in (
        "data.crop", "examples: 360, 40", "different thresholds",
        "energy.read_volts", "jax: 0.10.2, 0.12",
    ):  # fmt: skip
        assert word in told
    assert compare_runs.cautions(entries[:1]) == []


def test_a_page_never_takes_the_place_of_a_report(mixed, capsys):
    out = mixed / "run0"
    assert main.console(["compare", str(mixed), f"--out={out}"]) == 2
    assert "holds a run" in capsys.readouterr().err
    assert not (out / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--out=x"], "no workdirs"),
        (["a"], "no --out"),
        (["a", "--uot=x"], "uot"),
        (["nothing", "--out=x"], "no run and no sweep"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, monkeypatch, capsys, arguments, word):
    monkeypatch.chdir(tmp_path)
    assert main.console(["compare", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and word in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_runs_that_lack_numbers_leave_the_others(tmp_path):
    of = config(0.2)
    bare = {**summary(of, 0.5), "chips": None, "energy": None, "seconds": {}}
    make(tmp_path / "bare", of, bare)
    make(tmp_path / "whole", config(0.1), summary(config(0.1), 0.6))
    told, seen = read(compare.write([tmp_path], tmp_path / "out"))
    assert "2 of 2" in told and seen.count("img") == 2  # Curves, the rate.


def test_the_front_of_a_picture():
    x_N = np.array([1.0, 2.0, 3.0, np.nan])
    y_N = np.array([5.0, 4.0, 6.0, 9.0])
    labels = ["1", "2", "3", "4"]
    (ax,) = compare_figures.front(x_N, y_N, labels, ("x", "y")).axes
    grey, best = ax.get_lines()
    assert grey.get_xydata().tolist() == [[2, 4]]
    assert best.get_xydata().tolist() == [[1, 5], [3, 6]]
    (ax,) = compare_figures.front(x_N, y_N, labels, ("x", "y"), True).axes
    assert ax.get_lines()[1].get_xydata().tolist() == [[3, 6]]


def test_a_field_of_words_keeps_numbers_in_order():
    values = [10, None, 9, 10]
    y_N = np.array([1.0, 2.0, 3.0, 5.0])
    (ax,) = compare_figures.field(values, y_N, "bits", "score").axes
    named = [label.get_text() for label in ax.get_xticklabels()]
    assert named == ["9", "10", "none"]
    _, means = ax.get_lines()
    assert means.get_xydata().tolist() == [[0, 3], [1, 3], [2, 2]]
