"""What `scripts/reproduce` writes, at settings that take seconds."""

import json
from pathlib import Path
import sys

import pytest

from jaxedge.core import checks

pytestmark = pytest.mark.usefixtures("compile_quickly")

ROOT = Path(__file__).resolve().parents[2]
FLAGS = (
    "--seeds=1",
    "--config.model.widths=(8,)",
    "--config.train.epochs=1",
    "--config.chips.n=3",
    "--config.chips.chunk=3",
    "--config.study=",
)


@pytest.fixture
def reproduce(monkeypatch, tmp_path):
    """The module of the script, which writes below a folder of the test."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    monkeypatch.chdir(ROOT)
    import reproduce

    monkeypatch.setattr(reproduce, "ROOT", tmp_path)
    monkeypatch.setattr(reproduce, "RESULTS", tmp_path / "results")
    yield reproduce
    for name in [name for name in sys.modules if name.startswith("reproduce")]:
        del sys.modules[name]


@pytest.mark.slow
def test_a_result_tells_what_its_runs_found(reproduce, tmp_path):
    name = "edge_pruning_digits"
    assert reproduce.console([name, *FLAGS]) == 0
    content = json.loads((tmp_path / "results" / f"{name}.json").read_text())
    mask, weights = content["runs"]
    folder = tmp_path / "runs" / "reproduce" / name / "mask-0"
    found = json.loads((folder / "summary.json").read_text())
    assert mask["chips_mean"] == found["chips"]["score_mean"] > 0.1
    assert mask["test_accuracy"] == found["metrics"]["test_accuracy"]
    assert mask["chips"] == 3 and "chips_mean" not in weights
    said = content["summary"]["mask_below_weights"]["mean"]
    apart = weights["test_accuracy"] - mask["test_accuracy"]
    assert said == pytest.approx(apart, abs=1e-5)
    page = (tmp_path / "results" / f"{name}.md").read_text()
    assert f"| {100 * mask['chips_mean']:.2f} |" in page
    assert f"{100 * apart:.2f}" in page

    # Of the same runs a table tells the same.
    tables = reproduce.reproduce_tables
    config = reproduce.CONFIGS[name]
    weights_of = ("--config.learn.rule=weights",)
    tables.ENTRIES["two"] = tables.Entry(
        {
            "mask": tables.Setting(config),
            "weights": tables.Setting(config, weights_of, on_chips=False),
        },
        differ=("weights", "mask"),
    )
    folder.parent.rename(folder.parent.with_name("two"))
    assert reproduce.console(["two", *FLAGS]) == 0
    content = json.loads((tmp_path / "results" / "two.json").read_text())
    table = content["runs"]
    assert table[0]["chips"] == found["chips"]
    # Not trained again.
    assert table[0]["seconds"]["train"] == found["seconds"]["train"]
    assert table[1]["test"]["accuracy"] == weights["test_accuracy"]
    page = (tmp_path / "results" / "two.md").read_text()
    assert f"| weights above mask | {100 * apart:.2f} |" in page


def test_an_unknown_name_lists_the_known_ones(reproduce, capsys):
    assert reproduce.console(["edge_prunning"]) == 2
    assert "deplm_fashion_mnist" in capsys.readouterr().out


@pytest.mark.slow
def test_a_bench_is_kept_as_it_was_printed(reproduce, tmp_path):
    rows = ("--rows=300", "--features=20", "--repeats=1")
    assert reproduce.console(["bench_readout", *rows]) == 0
    content = json.loads(
        (tmp_path / "results/bench_readout.json").read_text("utf-8")
    )
    page = (tmp_path / "results" / "bench_readout.md").read_text("utf-8")
    assert any("readout" in line for line in content["lines"])
    assert all(line in page for line in content["lines"])
    assert f"target was {'met' if content['target'] else 'missed'}" in page
    assert reproduce.console(["bench_readout", "--rows=none"]) == 2


def test_formats_are_told_beside_float32(reproduce):
    fp4 = reproduce.reproduce_fp4

    rows = [
        {"network": n, "format": f, "accuracy": 0.9 if f == "float32" else 0.85}
        for n in fp4.NETWORKS
        for f in (fp4.FLOAT, *fp4.FORMATS)
    ]
    lines = fp4.page(
        {
            "images": 10_000,
            "published": dict.fromkeys(fp4.NETWORKS, 0.91),
            "sources": dict.fromkeys(fp4.NETWORKS, "there"),
            "rows": rows,
        }
    )
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 4 + len(fp4.FORMATS)
    (row,) = (line for line in table if line.startswith("| nvfp4 | fp8"))
    assert row.count("85.00 (-5.00)") == len(fp4.NETWORKS)
    # 4 bits, and 8 for a block of 16, and 32 for the whole.
    assert "nvfp4 4.50" in "".join(lines)
    with pytest.raises(checks.UsageError, match="is no flag of fp4_resnets"):
        fp4.reproduce(["--images=0"], None, None)


def test_words_that_keep_no_row_replace_no_result(reproduce, tmp_path, capsys):
    kept = tmp_path / "results" / "matrix.json"
    kept.parent.mkdir()
    kept.write_text("{}", encoding="utf-8")
    for name in ("matrix", "hardware_study", "quantized_front", "devices"):
        assert reproduce.console([name, "--only=nothing"]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "--only=nothing" in said
    assert [path.name for path in kept.parent.iterdir()] == ["matrix.json"]
    assert kept.read_text(encoding="utf-8") == "{}"
