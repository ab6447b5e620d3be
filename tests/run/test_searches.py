"""Tests of `jaxedge sweep`: what it refuses, how it runs, stops and goes on."""

import csv
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest

from jaxedge.core import checks
from jaxedge.run import (
    loop,
    main,
    search_board,
    search_local,
    search_plan,
    search_tasks,
    searches,
    sweep_flags,
    workdir,
)

ROOT = Path(__file__).resolve().parents[2]
CONFIG = f"--config={ROOT}/configs/edge_pruning.py:quick"
NEW = "--workdir=new"
TWO = "--grid=learn.keep=0.4,0.5"


def sweep(*flags):
    return ["sweep", CONFIG, NEW, *flags]


MISTAKES = {
    "no points": (sweep(), "defines no sweep(variant)", "--grid"),
    "field": (sweep("--grid=learn.kep=1,2"), "'learn.kep'", "'learn.keep'"),
    "value": (
        sweep("--grid=learn.keep=0.5,1.5"),
        "run 001-keep-1.5: learn.keep is 1.5",
    ),
    "type": (
        sweep("--grid=train.epochs=1,2.5"),
        "001-epochs-2.5",
        "epochs=2.5",
    ),
    "fixed too": (sweep(TWO, "--config.learn.keep=0.1"), "leave one out"),
    "the same": (
        sweep("--grid=learn.keep=0.1,1e-1"),
        "000-keep-0.1 and 001-keep-1e-1 are the same",
    ),
    "seed twice": (sweep("--grid=seed=1,2", "--seeds=2"), "so does --seeds"),
    "large seed": (
        sweep(TWO, "--seeds=2", f"--config.seed={2**31 - 1}"),
        "seed is 2147483648",
    ),
    "two ways": (sweep(TWO, "--random=3", "--ranges=a=log:1:2"), "give one"),
    "no ranges": (sweep("--random=3"), "--random needs --ranges"),
    "no random": (sweep("--ranges=a=log:1:2"), "--random needs --ranges"),
    "range": (sweep("--random=2", "--ranges=a=1"), "unknown kind of range"),
    "jobs": (sweep(TWO, "--jobs=0"), "jobs"),
    "engine": (sweep(TWO, "--engine=slurm"), "engine", "submitit"),
    "options": (sweep(TWO, "--options=a=1"), "--engine=submitit"),
    "distributed": (sweep(TWO, "--distributed=auto"), "--jobs"),
    "flag": (sweep(TWO, "--jbos=2"), "jbos"),
    "stray": (sweep(TWO, "stray"), "'stray' is no flag"),
    "no config": (["sweep", NEW, TWO], "no --config"),
    "no workdir": (["sweep", CONFIG, TWO], "no --workdir"),
    "in a file": (
        ["sweep", CONFIG, TWO, "--workdir=a_file"],
        "is not a folder",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_starts_nothing(
    tmp_path, monkeypatch, capsys, mistake
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").write_text("", encoding="utf-8")
    arguments, *parts = MISTAKES[mistake]
    assert main.console(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("jaxedge: error: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err
    assert [path.name for path in tmp_path.iterdir()] == ["a_file"]


def test_flags_of_runs_are_passed_on():
    asked = sweep_flags.parse(
        [CONFIG, "--workdir", "there", TWO, "--config.train.epochs", "7",
         "--seeds=3", "--data_root=d", "--jobs", "2"]
    )  # fmt: skip
    assert asked == sweep_flags.Asked(
        source=CONFIG.removeprefix("--config="),
        workdir=Path("there"),
        passed=(CONFIG, "--config.train.epochs", "7", "--data_root=d"),
        grid="learn.keep=0.4,0.5",
        seeds=3,
        jobs=2,
    )


def plan(folder, *flags):
    """A checked sweep, and its folder made."""
    asked = sweep_flags.parse([CONFIG, f"--workdir={folder}", *flags])
    made = searches.resolve(asked)
    search_plan.write(folder, asked.source, made.config, made.runs)
    return asked, made


def test_points_become_configs(tmp_path):
    _, made = plan(
        tmp_path / "sweep",
        "--config.chips.n=3",
        "--grid=model.widths=(16,),(8,4);model.bits=None,2",
        "--seeds=1",
    )
    found = [
        (of["model"]["widths"], of["model"]["bits"], of["chips"]["n"])
        for of in made.configs.values()
    ]
    assert found == [
        ([16], None, 3), ([16], 2, 3), ([8, 4], None, 3), ([8, 4], 2, 3)
    ]  # fmt: skip
    assert made.config["model"]["widths"] == [256, 128]


def test_seeds_alone_are_a_sweep(tmp_path):
    _, made = plan(tmp_path / "sweep", "--seeds=2", "--config.seed=4")
    assert [of["seed"] for of in made.configs.values()] == [4, 5]


def test_a_config_may_sweep_itself(tmp_path):
    text = (ROOT / "configs" / "edge_pruning.py").read_text(encoding="utf-8")
    path = tmp_path / "mine.py"
    path.write_text(
        f"{text}\n\ndef sweep(variant):\n"
        "    for keep in (0.2, 0.7):\n"
        "        yield {'learn.keep': keep, 'data.name': 'digits'}\n",
        encoding="utf-8",
    )
    asked = sweep_flags.parse([f"--config={path}:quick", NEW])
    made = searches.resolve(asked)
    assert [of["learn"]["keep"] for of in made.configs.values()] == [0.2, 0.7]
    assert {of["train"]["epochs"] for of in made.configs.values()} == {3}


def test_another_sweep_in_the_folder_is_refused(tmp_path):
    folder = tmp_path / "sweep"
    plan(folder, TWO, "--seeds=2")
    plan(folder, TWO, "--seeds=2")  # The same one.
    for flags, word in (
        ((TWO, "--seeds=1"), "000-keep-0.4-seed1 is none of this sweep"),
        (("--grid=learn.keep=0.5,0.4", "--seeds=2"), "000-keep-0.4-seed0"),
        ((TWO, "--seeds=2", "--config.train.epochs=9"), "3 there, 9 now"),
    ):
        with pytest.raises(checks.UsageError, match="another sweep") as error:
            plan(folder, *flags)
        assert word in str(error.value)
    plan(folder, TWO, "--seeds=3")  # More seeds change none of it.
    (folder / search_plan.FILE).write_text("{}", encoding="utf-8")
    with pytest.raises(checks.UsageError, match="cannot be read"):
        plan(folder, TWO)
    workdir.write_json(folder / "config.json", {})
    with pytest.raises(checks.UsageError, match="holds a run, not a sweep"):
        plan(folder, TWO)


def test_a_workdir_of_another_run_is_refused_before_any_starts(tmp_path):
    folder = tmp_path / "sweep"
    _, made = plan(folder, TWO)
    last = made.runs[1].name
    other = {**made.configs[last], "seed": 3}
    workdir.create(folder / last, other)
    with pytest.raises(checks.UsageError, match=f"run {last}.*seed: 3 there"):
        plan(folder, TWO)


# Processes, of scripts that do what a run does and take no time.

SCRIPT = """
import json, pathlib, signal, sys, time
folder, how = pathlib.Path(sys.argv[1]), sys.argv[2]
def stop(number, frame):
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
folder.mkdir(parents=True, exist_ok=True)
(folder / "began").write_text(str(time.monotonic()))
if how == "fail":
    print("jaxedge: error: the loss is nan", file=sys.stderr)
    sys.exit(1)
if how == "kill":
    import os
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(float(how))
(folder / "ended").write_text(str(time.monotonic()))
summary = {"score": "accuracy", "metrics": {"test_accuracy": 0.5}}
(folder / "summary.json").write_text(json.dumps(summary))
(folder / "report.html").write_text("")
"""


@pytest.fixture
def scripted(tmp_path, monkeypatch):
    """A function: makes a sweep of scripts and drives it."""

    def task(folder, run, stop):
        log = search_plan.log(folder, run.name)
        argv = [sys.executable, "-c", SCRIPT, str(folder / run.name)]
        how = dict(run.point)["how"]
        return search_tasks.Task(
            folder / run.name, [*argv, how], folder, log, {}, stop
        )

    monkeypatch.setattr(
        searches,
        "_task",
        lambda made, run, asked: task(made.folder, run, asked),
    )

    def start(*hows, jobs=2, engine=None, stop=None, file=tmp_path / "stop"):
        runs = search_plan.name([{"how": how} for how in hows], None, 0)
        search_plan.write(tmp_path, "", {}, runs)
        made = searches.Sweep(
            tmp_path, {}, runs, {run.name: {} for run in runs}
        )
        engine = engine or search_local.Local(jobs)
        stop = stop or loop.Stop()
        failed = searches.drive(made, engine, jobs, file, stop)
        left = [run.name for run in made.unfinished()]
        return failed, left

    start.task = task
    return start


def test_a_failed_run_stops_no_other(scripted, capsys):
    failed, left = scripted("fail", "0.01", "kill", "0.02")
    assert failed == {
        "000-how-fail": "the loss is nan",
        "002-how-kill": "it said nothing (signal 9)",
    }
    assert left == ["000-how-fail", "002-how-kill"]
    out = capsys.readouterr().out
    assert "000-how-fail: failed: the loss is nan" in out
    assert "001-how-0.01: test accuracy 50.0" in out


def test_so_many_run_at_once(scripted, tmp_path):
    scripted("0.3", "0.31", "0.32", "0.33", jobs=2)

    def times(name):
        paths = sorted(tmp_path.glob(f"*/{name}"))
        return [float(path.read_text(encoding="utf-8")) for path in paths]

    began, ended = times("began"), times("ended")
    assert len(began) == 4
    for moment in began:
        at_work = sum(
            a <= moment < b for a, b in zip(began, ended, strict=True)
        )
        assert 1 <= at_work <= 2


def test_what_is_finished_is_not_run_again(scripted, tmp_path, capsys):
    scripted("0.01", "fail")
    before = (tmp_path / "000-how-0.01" / "began").stat().st_mtime_ns
    tried = (tmp_path / "001-how-fail" / "began").stat().st_mtime_ns
    failed, _ = scripted("0.01", "fail")
    assert "1 of 2 runs are finished already" in capsys.readouterr().out
    assert (tmp_path / "000-how-0.01" / "began").stat().st_mtime_ns == before
    assert (tmp_path / "001-how-fail" / "began").stat().st_mtime_ns > tried
    assert list(failed) == ["001-how-fail"]


class WhenBegun:
    """Asks to stop once a run is at work."""

    def __init__(self, folder, name):
        self._path = folder / name / "began"

    @property
    def asked(self):
        return self._path.exists()


def test_a_stop_is_passed_on_and_nothing_else_begins(scripted, tmp_path):
    stop = WhenBegun(tmp_path, "000-how-60")
    failed, left = scripted("60", "61", jobs=1, stop=stop)
    assert failed == {} and len(left) == 2
    log = search_plan.log(tmp_path, "000-how-60")
    assert log.read_text(encoding="utf-8") == "saved\n"
    assert not (tmp_path / "001-how-61").exists()


def test_a_run_of_a_killed_sweep_is_waited_for(scripted, tmp_path):
    """Its process lives on: a second one would write into the same folder."""
    (tmp_path / "logs").mkdir()
    run = search_plan.Run("000-how-0.8", {"how": "0.8"})
    task = scripted.task(tmp_path, run, tmp_path / "stop")
    lock = search_tasks.take(task)
    assert lock is not None
    with lock:
        process = search_tasks.launch(task, lock)
    assert search_tasks.holder(task) == process.pid
    wait_for(task.folder / "began")
    began = (task.folder / "began").stat().st_mtime_ns
    assert scripted("0.8") == ({}, [])
    assert process.wait(10) == 0
    assert (task.folder / "began").stat().st_mtime_ns == began


def test_a_run_that_others_left_unfinished_goes_on(scripted, tmp_path):
    (tmp_path / "logs").mkdir()
    run = search_plan.Run("000-how-0.01", {"how": "0.01"})
    task = scripted.task(tmp_path, run, tmp_path / "stop")
    lock = search_tasks.take(task)
    assert lock is not None
    with lock:
        slow = [*task.argv[:-1], "60"]
        process = search_tasks.launch(task._replace(argv=slow), lock)
    engine = search_local.Local(1)
    handle = engine.start(task)
    assert handle.poll() is None
    process.kill()
    process.wait()
    limit = time.monotonic() + 20
    while (status := handle.poll()) is None and time.monotonic() < limit:
        time.sleep(0.02)
    assert status == 0 and search_plan.finished(task.folder)


def test_executing_elsewhere_stops_by_a_file(scripted, tmp_path):
    (tmp_path / "logs").mkdir()
    run = search_plan.Run("000-how-60", {"how": "60"})
    task = scripted.task(tmp_path, run, tmp_path / "stop")
    # What another machine would do, in a process that is not waited for here.
    code = (
        "import sys, pathlib; from jaxedge.run import search_tasks as s;"
        f"t = s.Task(pathlib.Path({str(task.folder)!r}), {task.argv!r},"
        f" pathlib.Path({str(tmp_path)!r}), pathlib.Path({str(task.log)!r}),"
        f" {{}}, pathlib.Path({str(task.stop)!r})); sys.exit(s.execute(t))"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        wait_for(task.folder / "began")
        task.stop.touch()
        assert process.wait(30) == 0
    assert task.log.read_text(encoding="utf-8") == "saved\n"
    assert search_tasks.execute(task) == 0  # The file is there: it is not run.


@pytest.fixture
def interruptible():
    """As in a terminal: a process in the background may ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_asks_once_and_ends_the_second_time(interruptible):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        with searches.listening() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.asked
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
    assert signal.getsignal(signal.SIGINT) is before


def test_cores_are_shared_out():
    known = [0, 1, 2, 3, 8]
    shares = [search_local.cores(slot, 2, known) for slot in range(2)]
    assert sorted(sum(shares, [])) == known
    assert {len(share) for share in shares} == {2, 3}
    assert [search_local.cores(s, 7, known) for s in (0, 4, 5)] == [
        [0],
        [8],
        [0],
    ]


def test_accelerators_are_shared_out():
    def share(slot, jobs, **known):
        return search_local.surroundings(slot, jobs, known)

    assert share(0, 1) == {}
    assert share(1, 2, CUDA_VISIBLE_DEVICES="4,5,6") == {
        "CUDA_VISIBLE_DEVICES": "5"
    }
    assert share(0, 2, CUDA_VISIBLE_DEVICES="4,5,6") == {
        "CUDA_VISIBLE_DEVICES": "4,6"
    }
    name = "XLA_PYTHON_CLIENT_MEM_FRACTION"
    assert share(1, 3, CUDA_VISIBLE_DEVICES="0") == {name: "0.250"}
    assert share(1, 3, **{name: "0.1"}) == {}


def test_the_board_tells_how_far_a_run_is(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert search_board.epoch(path) == 0
    path.write_text('{"step": 1, "epoch": 4}\n{"step": 2, "ep', "utf-8")
    assert search_board.epoch(path) == 4


# The whole command.


def wait_for(path, process=None, seconds=200):
    limit = time.monotonic() + seconds
    while not path.exists():
        assert process is None or process.poll() is None
        assert time.monotonic() < limit, path
        time.sleep(0.02)


def mtimes(folder):
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


REAL = (
    "--config.model.widths=(8,)",
    "--config.learn.rule=weights",
    "--config.train.epochs=1",
    "--config.chips.n=4",
    "--config.study=",
    "--grid=optimizer.learning_rate=0.1,0.05,1e30",
)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sweep_stopped_half_way_goes_on_and_tells_what_failed(
    tmp_path, capsys
):
    """Three runs of digits: one before the stop, one in it, one diverges."""
    folder = tmp_path / "sweep"
    arguments = ["sweep", CONFIG, *REAL, f"--workdir={folder}"]
    first, second, third = (
        folder / f"{n:03d}-learning_rate-{rate}"
        for n, rate in enumerate(("0.1", "0.05", "1e30"))
    )
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jaxedge", *arguments],
            cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )  # fmt: skip
    try:
        wait_for(second / "config.json", process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(100) == 0
    finally:
        process.kill()
    told = (tmp_path / "log").read_text(encoding="utf-8", errors="replace")
    assert "2 of 3 runs are left; the same command goes on" in told
    assert search_plan.finished(first) and not third.exists()
    assert not search_plan.finished(second)
    before = mtimes(first)

    assert main.console(arguments) == 1
    out, err = capsys.readouterr()
    assert mtimes(first) == before  # It was not run again.
    assert search_plan.finished(second) and not search_plan.finished(third)
    assert f"report: {folder / 'report.html'}" in out
    assert f"run {third.name} failed: " in err and "learning_rate" in err
    assert "1 of 3 runs failed" in err

    rows = list(csv.DictReader((folder / "results.csv").open(encoding="utf-8")))
    assert [row["state"] for row in rows] == ["finished", "finished", "failed"]
    rates = [float(row["optimizer.learning_rate"]) for row in rows]
    assert rates == [0.1, 0.05, 1e30]
    for row, done in zip(rows, (first, second), strict=False):
        said = json.loads((done / "summary.json").read_bytes())
        assert float(row["test"]) == said["metrics"]["test_accuracy"]
        assert float(row["chip_mean"]) == said["chips"]["score_mean"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Not finished" in page and third.name in page
