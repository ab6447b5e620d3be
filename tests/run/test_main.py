"""Tests of the command line: what it does, and one line for every mistake."""

import json
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest

from jaxedge.run import hosts, job, loop, main

ROOT = Path(__file__).resolve().parents[2]
CONFIG = f"{ROOT}/configs/edge_pruning.py"
QUICK = f"--config={CONFIG}:quick"
NEW = "--workdir=new"


def run(*flags):
    """A `jaxedge run` of the quick config with these flags."""
    return ["run", QUICK, NEW, *flags]


def field(text):
    return run(f"--config.{text}")


# Arguments, and what the one line has to hold.
MISTAKES = {
    # Names.
    "command": (["rnu"], "'rnu'", "Did you mean 'run'", "report"),
    "flag": (run("--wrokdir=x"), "wrokdir", "workdir"),
    "stray": (run("stray"), "'stray' is no flag"),
    "field": (field("train.epoch=3"), "'train.epoch'", "'train.epochs'"),
    "section": (field("trian.epochs=3"), "'trian.epochs'", "'train.epochs'"),
    "override": (
        field("hardware.overrides.reed_noise=0.1"),
        "reed_noise",
        "Did you mean 'hardware.overrides.read_noise'",
    ),
    "preset": (
        field("hardware.device=rram_40nm_set_rest"),
        "'rram_40nm_set_rest'",
        "Did you mean 'rram_40nm_set_reset'",
    ),
    "data set": (field("data.name=digit"), "Did you mean 'digits'"),
    "recipe": (field("recipe=edge_prunning"), "Did you mean 'edge_pruning'"),
    "model": (field("model.name=cmn"), "'cmn'", "Did you mean 'cnn'"),
    "variant": (
        ["run", f"--config={CONFIG}:quik", NEW],
        "'quik'",
        "Did you mean 'quick'",
    ),
    "rule": (field("learn.rule=masks"), "learn.rule", "Did you mean 'mask'"),
    "split": (field("train.select_on=vald"), "Did you mean 'valid'"),
    "family": (field("hardware.overrides.family=normla"), "'normal'"),
    "mode": (field("chips.mode=vmpa"), "Did you mean 'vmap'"),
    # Types.
    "word": (field("train.epochs=two"), "train.epochs=two"),
    "fraction": (field("train.epochs=2.5"), "train.epochs=2.5"),
    "study": (field("study=tine"), "'tine'", "Did you mean 'time'", "layers"),
    "swept field": (
        field("study=adc_bit=4"),
        "'adc_bit'",
        "Did you mean 'adc_bits'",
    ),
    "level": (field("study=adc_bits=4,99"), "adc_bits at 99", "[2, 24]"),
    "level of a study": (
        run("--config.study=array", "--config.chips.array=(64,1)"),
        "array at 1",
        "columns is 1",
    ),
    "layer": (
        field("study=only_layer=Dense_9"),
        "layer 'Dense_9'",
        "Dense_0/kernel",
    ),
    "none of a study": (field("study=None"), "config.study is None"),
    "yes": (field("hardware.bit_serial=maybe"), "bit_serial", "maybe"),
    "text in tuple": (field("chips.faults=(0.1,'a')"), "chips.faults"),
    "none": (field("train.epochs=None"), "train.epochs"),
    "none of a section": (field("train=none"), "config.train is a section"),
    "none of a typo": (field("model.bist=None"), "'model.bits'"),
    "section as value": (
        field("train=3"),
        "config.train is a section",
        "--config.train.FIELD=VALUE",
        "epochs",
    ),
    # Ranges.
    "epochs": (field("train.epochs=-1"), "train.epochs is -1", "[0, inf]"),
    "keep": (field("learn.keep=1.5"), "learn.keep is 1.5", "[0, 1]"),
    "nan": (field("learn.keep=nan"), "learn.keep is nan"),
    "rate": (field("optimizer.learning_rate=0"), "learning_rate is 0"),
    "noise": (field("hardware.overrides.read_noise=-0.1"), "read_noise is -0"),
    "stuck": (
        run(
            "--config.hardware.overrides.stuck_on=0.6",
            "--config.hardware.overrides.stuck_off=0.6",
        ),
        "stuck_on + stuck_off + unformed is 1.2",
    ),
    "faults": (field("chips.faults=(0.1,1.5)"), "chips.faults is 1.5"),
    "threshold": (field("chips.threshold=95"), "chips.threshold is 95"),
    "chips": (field("chips.n=0"), "chips.n is 0"),
    "band": (
        field("learn.dead_band_stop=0.1"),
        "learn.dead_band_stop is 0.1",
        "[0, 0.0]",
    ),
    "seed": (field("seed=-1"), "seed is -1"),
    "adc": (field("hardware.adc_bits=0"), "config.hardware: adc_bits is 0"),
    "bits": (field("model.bits=99"), "model.bits is 99"),
    "width": (field("model.widths=(16,0)"), "model.widths is 0"),
    "cnn widths": (field("model.name=cnn"), "model.widths", "takes 3"),
    "planes": (field("hardware.bit_serial=True"), "input_bits is None"),
    "volts": (field("energy.read_volts=-1"), "config.energy: read_volts is -1"),
    "batch": (field("train.batch=2000"), "train.batch is 2000", "1257"),
    "field before config": (
        ["run", "--config.train.epochs=3", QUICK, NEW],
        "--config.train.epochs=3",
        "before",
    ),
    # Files and folders.
    "no config": (["run", NEW], "no --config", "configs/edge_pruning.py"),
    "no config file": (["run", "--config=no.py", NEW], "no.py"),
    "config is a folder": (["run", f"--config={ROOT}/configs", NEW], "config"),
    "no workdir": (["run", QUICK], "no --workdir", "--workdir=runs/digits"),
    "empty workdir": (["run", QUICK, "--workdir="], "no --workdir"),
    "workdir is a file": (
        ["run", QUICK, "--workdir=a_file"],
        "a_file is not a folder",
    ),
    "workdir in a file": (
        ["run", QUICK, "--workdir=a_file/new"],
        "a_file is a file",
    ),
    "no data root": (
        ["run", f"--config={CONFIG}:fashion_mnist", NEW],
        "needs a data root",
        "--data_root=DIR",
        "JAXEDGE_DATA",
    ),
    "data root is none": (
        ["run", f"--config={CONFIG}:fashion_mnist", NEW, "--data_root=nope"],
        "'nope'",
        "not a folder",
    ),
    "data root is empty": (
        ["run", f"--config={CONFIG}:fashion_mnist", NEW, "--data_root=."],
        "fashion_mnist",
    ),
    "distributed report": (
        ["report", "--workdir=runs/x", "--distributed=auto"],
        "'report', which one process draws",
    ),
    "distributed": (
        ["chips", QUICK, NEW, "--distributed=localhost:1,2,2"],
        "'localhost:1,2,2'",
        "host:port,process,processes",
    ),
    # Commands without a run.
    "report without workdir": (["report"], "no --workdir"),
    "report with a field": (
        ["report", NEW, "--config.train.epochs=None"],
        "config",
    ),
    "report of nothing": (["report", NEW], "summary.json", "jaxedge run"),
    "chips of nothing": (["chips", QUICK, NEW], "holds no run"),
    "chips without config": (["chips", NEW], "no --config"),
    "radiomics of nothing": (["radiomics"], "0 files", "IMAGE and MASK"),
    "radiomics without out": (
        ["radiomics", "a.nrrd", "b.nrrd"],
        "--out is None",
        "--out=features.csv",
    ),
}


def assert_one_line(capsys, *parts):
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("jaxedge: error: ")
    assert err.endswith("\n") and err.count("\n") == 1
    assert "Traceback" not in err
    for part in parts:
        assert part in err


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder with one file, and no data root."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JAXEDGE_DATA", raising=False)
    (tmp_path / "a_file").write_text("")
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.rglob("*"))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_creates_nothing(here, capsys, mistake):
    arguments, *parts = MISTAKES[mistake]
    assert main.console(arguments) == 2
    assert_one_line(capsys, *parts)
    assert names(here) == ["a_file"]


HEAD = f"""
import importlib.util
spec = importlib.util.spec_from_file_location("base", {CONFIG!r})
base = importlib.util.module_from_spec(spec)
spec.loader.exec_module(base)
def get_config():
    c = base.get_config("quick")
"""

# Bodies of `get_config`, and what the one line has to hold.
CONFIGS = {
    "no config": ("return {'seed': 0}", "dict", "ConfigDict"),
    "nothing": ("pass", "NoneType", "ConfigDict"),
    "section missing": ("del c.train; return c", "lacks the section 'train'"),
    "field missing": ("del c.train.epochs; return c", "train", "'epochs'"),
    "section unknown": (
        "c.optimiser = c.optimizer; return c",
        "'optimiser'",
        "Did you mean 'optimizer'",
    ),
    "field unknown": (
        "c.train.epoch = 3; return c",
        "'epoch'",
        "Did you mean 'epochs'",
    ),
    "no section": ("del c.train; c.train = 3; return c", "train is 3"),
    "text": (
        "del c.train.epochs; c.train.epochs = '3'; return c",
        "train.epochs",
        "'3'",
    ),
    "fraction": (
        "del c.train.epochs; c.train.epochs = 2.5; return c",
        "train.epochs",
        "2.5",
    ),
    "flag": (
        "del c.chips.n; c.chips.n = True; return c",
        "chips.n",
        "True",
    ),
    "own error": ("raise ValueError('my words')", "my words"),
    "bug": ("return 1 / 0", "division by zero"),
    "type": ("c.train.epochs = 'x'; return c", "epochs"),
}


@pytest.mark.parametrize("mistake", CONFIGS)
def test_a_config_file_with_a_mistake_is_one_line(here, capsys, mistake):
    body, *parts = CONFIGS[mistake]
    (here / "mine.py").write_text(f"{HEAD}    {body}\n")
    assert main.console(["run", "--config=mine.py", NEW]) == 2
    assert_one_line(capsys, *parts)
    assert not (here / "new").exists()


def test_a_config_file_that_is_no_python_is_one_line(here, capsys):
    (here / "mine.py").write_text("def get_config(:\n")
    assert main.console(["run", "--config=mine.py", NEW]) == 2
    assert_one_line(capsys, "invalid syntax", "mine.py")


def test_a_mistake_in_a_process_is_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "jaxedge", *field("trian.epochs=3")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("jaxedge: error: unknown config field")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# Ways to write a command.


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["help"],
        ["--help"],
        ["-h"],
        ["run", "--help"],
        ["chips", QUICK, "-h"],
        ["report", "--help"],
    ],
)
def test_help_tells_the_commands(here, capsys, arguments):
    assert main.console(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for word in ("jaxedge run", "jaxedge chips", "jaxedge report"):
        assert word in out
    assert "--workdir=DIR" in out and "--config.field=value" in out
    assert names(here) == ["a_file"]


@pytest.mark.parametrize(
    "arguments",
    [
        [QUICK, NEW, "--config.train.epochs=7"],
        ["--config", f"{CONFIG}:quick", "--workdir", "new",
         "--config.train.epochs", "7"],
        [f"-config={CONFIG}:quick", "-workdir=new", "-config.train.epochs=7"],
    ],
)  # fmt: skip
def test_flags_may_be_written_as_usual(here, arguments):
    values = main.parse(arguments)
    assert values.workdir == "new" and values.data_root is None
    assert values.config.train.epochs == 7
    assert values.config.chips.n == 20
    assert names(here) == ["a_file"]


def test_tuples_and_empty_fields_can_be_set(here):
    values = main.parse(
        [
            QUICK,
            NEW,
            "--config.model.widths=(8,4)",
            "--config.hardware.adc_bits=6",
            "--config.hardware.overrides.lrs_mean=2e-5",
            "--data_root=somewhere",
        ]
    )
    assert values.config.model.widths == (8, 4)
    assert values.config.hardware.adc_bits == 6
    assert values.config.hardware.overrides.lrs_mean == 2e-5
    assert values.config.hardware.overrides.hrs_std is None
    assert values.data_root == "somewhere"


def test_none_empties_a_field(here):
    values = main.parse(
        [
            QUICK,
            NEW,
            "--config.model.bits=None",
            "--config.hardware.device=ideal",
            "--config.hardware.overrides.stuck_on=none",
            "--config.hardware.overrides.stuck_off=none",
        ]
    )
    assert values.config.model.bits is None
    resolved = job.resolve(values.config, None)
    assert resolved.given.model.bits is None
    assert not hasattr(resolved.spec.device, "stuck_on")


def test_parsing_leaves_sys_argv_alone(here, monkeypatch):
    argv = ["mine", "--config.train.epochs=1"]
    monkeypatch.setattr(sys, "argv", argv)
    assert main.parse([QUICK, NEW]).config.train.epochs == 3
    assert sys.argv is argv


def test_the_process_takes_its_own_arguments(here, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["jaxedge", "rnu"])
    assert main.console() == 2
    assert_one_line(capsys, "'rnu'")


# How a run may end.


@pytest.mark.parametrize(
    ("raised", "status", "word"),
    [
        (
            loop.DivergedError("the loss is nan after step 3; lower it"),
            1,
            "nan",
        ),
        (loop.Preempted("stopped at step 3"), 0, "the same command goes on"),
    ],
)
def test_an_end_before_the_end(here, monkeypatch, capsys, raised, status, word):
    def end(*arguments):
        raise raised

    monkeypatch.setattr(job, "run", end)
    assert main.console(run()) == status
    out, err = capsys.readouterr()
    text, silent = (out, err) if status == 0 else (err, out)
    assert silent == "" and text.count("\n") == 1
    assert str(raised) in text and word in text
    assert status == 0 or text.startswith("jaxedge: error: ")


def test_one_of_several_that_is_stopped_is_not_finished(here, monkeypatch):
    def end(*arguments):
        raise loop.Preempted("stopped at step 3")

    monkeypatch.setattr(job, "run", end)
    monkeypatch.setattr(hosts, "connect", lambda how: None)
    flag = "--distributed=localhost:1,0,2"
    assert main.console(run(flag)) == main.UNFINISHED == 75


def test_a_diverging_run_says_so(here, capsys, small):
    flags = (
        "--config.learn.rule=weights",
        "--config.optimizer.learning_rate=1e30",
    )
    assert main.console(["run", *small, NEW, *flags]) == 1
    err = capsys.readouterr().err
    assert err.startswith("jaxedge: error: the loss is")
    assert "learning_rate" in err and err.count("\n") == 1


# Commands on a trained workdir.


def summary(workdir):
    return json.loads((workdir / "summary.json").read_text())


def test_report_draws_the_page_anew(workdir, capsys):
    page = (workdir / "report.html").read_bytes()
    (workdir / "report.html").unlink()
    assert main.console(["report", f"--workdir={workdir}"]) == 0
    assert str(workdir / "report.html") in capsys.readouterr().out
    assert (workdir / "report.html").stat().st_size > 0.5 * len(page)


def test_chips_studies_other_hardware(workdir, small, capsys):
    before = summary(workdir)
    checkpoints = names(workdir / "checkpoints")
    flags = (
        "--config.hardware.overrides.read_noise=0.4",
        "--config.chips.n=6",
        "--config.energy.read_volts=0.3",
    )
    arguments = [*small, f"--workdir={workdir}", *flags]
    assert main.console(["chips", *arguments]) == 0
    after = summary(workdir)
    assert after["chips"]["n"] == 6
    # The first chips under .4 noise, which the sweep of before knew too.
    assert after["chips"]["score_mean"] < before["chips"]["score_mean"]
    assert after["config"]["hardware"]["overrides"]["read_noise"] == 0.4
    joules = [s["energy"]["layers"][0]["joules_array"] for s in (before, after)]
    assert joules[1] > 2 * joules[0]
    # The same network: nothing was trained.
    for name in ("test_accuracy", "test_loss", "valid_accuracy"):
        assert after["metrics"][name] == before["metrics"][name]
    assert names(workdir / "checkpoints") == checkpoints


def test_chips_runs_the_study_that_is_named(workdir, small, capsys):
    before = summary(workdir)
    arguments = [*small, f"--workdir={workdir}"]
    assert main.console(["chips", *arguments, "--config.study=layers"]) == 0
    after = summary(workdir)
    layers = ["Dense_0/kernel", "Dense_1/kernel"]
    for name in ("only_layer", "all_but_layer"):
        assert after["sweeps"][name]["levels"] == layers
    # Of two layers, one alone is all but the other.
    only, but = (
        after["sweeps"][name]["score_mean"]
        for name in ("only_layer", "all_but_layer")
    )
    assert only == but[::-1]
    # The chips of the config's hardware are those of before.
    times = {"chips_per_second": None}
    assert after["chips"] | times == before["chips"] | times
    page = (workdir / "report.html").read_text(encoding="utf-8")
    for text in (
        "alone on hardware",
        "Other studies",
        "noise faults (the same",
    ):
        assert text in page
    # And back: nothing is computed twice.
    with np.load(workdir / "study.npz") as file:
        assert "only_layer_score" in file.files
    assert main.console(["chips", *arguments]) == 0
    assert summary(workdir)["sweeps"] == before["sweeps"]


def test_none_may_be_a_level(here):
    values = main.parse([QUICK, NEW, "--config.study=adc_bits=none"])
    assert values.config.study == "adc_bits=none"


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.train.epochs=4", "train.epochs: 3 there, 4 now"),
        ("--config.seed=1", "seed: 0 there, 1 now"),
        ("--config.model.bits=3", "model.bits: 4 there, 3 now"),
        ("--config.learn.keep=0.4", "learn.keep: 0.5 there, 0.4 now"),
    ],
)
@pytest.mark.parametrize("command", ["run", "chips"])
def test_another_training_is_refused(
    workdir, small, capsys, command, flag, message
):
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    arguments = [command, *small, f"--workdir={workdir}", flag]
    assert main.console(arguments) == 2
    assert_one_line(capsys, message, str(workdir), "another --workdir")
    assert before == {p: p.stat().st_mtime_ns for p in workdir.rglob("*")}


def test_run_refuses_other_hardware(workdir, small, capsys):
    flag = "--config.hardware.rows=64"
    assert main.console(["run", *small, f"--workdir={workdir}", flag]) == 2
    assert_one_line(capsys, "hardware.rows: 512 there, 64 now")
