"""Tests of the engines of others, each with its executor of this machine."""

from pathlib import Path
import sys
import time

import pytest

from jaxedge.core import checks
from jaxedge.run import search_remote, search_tasks

SCRIPT = """
import os, pathlib, signal, sys, time
def stop(number, frame):
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("began", os.environ.get("ASKED"), flush=True)
if sys.argv[1] == "fail":
    sys.exit(3)
time.sleep(float(sys.argv[1]))
print("ended", flush=True)
"""


@pytest.fixture(params=["submitit", "ray"])
def engine(request, tmp_path):
    """An engine of two tasks at once, which ends with the test."""
    pytest.importorskip(request.param)
    (tmp_path / "logs").mkdir()
    stop = tmp_path / "logs" / "stop"
    if request.param == "submitit":
        how = {"cluster": "local", "timeout_min": 5}
        made = search_remote.Submitit(tmp_path, how, stop)
    else:
        try:
            made = search_remote.Ray(2, {"num_cpus": 1}, stop)
        except checks.UsageError as error:  # On a machine that is too busy.
            pytest.skip(str(error))
    yield made
    made.close()


def task(folder, name, how):
    return search_tasks.Task(
        folder / name,
        [sys.executable, "-c", SCRIPT, how],
        folder,
        folder / "logs" / f"{name}.log",
        {"ASKED": "yes"},
        folder / "logs" / "stop",
    )


def wait(look, seconds=100):
    limit = time.monotonic() + seconds
    while (found := look()) is None or found is False:
        assert time.monotonic() < limit
        time.sleep(0.05)
    return found


def read(of: search_tasks.Task) -> str:
    return of.log.read_text(encoding="utf-8") if of.log.exists() else ""


@pytest.mark.slow
def test_tasks_run_fail_and_stop(engine, tmp_path: Path):
    """Statuses come back; a stop reaches what is at work and what waits."""
    ends, fails, long = (
        task(tmp_path, name, how)
        for name, how in (("a", "0.01"), ("b", "fail"), ("c", "60"))
    )
    first, second = engine.start(ends), engine.start(fails)
    assert wait(first.poll) is not None
    assert (first.poll(), wait(second.poll)) == (0, 3)
    assert read(ends) == "began yes\nended\n"
    third = engine.start(long)
    wait(lambda: "began" in read(long))
    engine.stop()
    assert wait(third.poll) == 0
    assert read(long) == "began yes\nsaved\n"
    late = task(tmp_path, "d", "60")
    assert wait(engine.start(late).poll) == 0
    assert read(late) == ""  # It never began.


def test_options_are_numbers_or_words():
    text = "timeout_min=60;slurm_partition=gpu;a=(1,2);b='x;y'"
    assert search_remote.options(text) == {
        "timeout_min": 60,
        "slurm_partition": "gpu",
        "a": (1, 2),
        "b": "x;y",
    }
    assert search_remote.options("") == {}


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ({"cluster": "lcoal"}, "lcoal"),
        ({"cluster": "local", "timeout": 5}, "timeout"),
        ({"cluster": "local", "timeout_min": "long"}, "timeout_min"),
    ],
)
def test_a_parameter_that_submitit_refuses_is_named(tmp_path, how, word):
    pytest.importorskip("submitit")
    with pytest.raises(checks.UsageError, match=word) as error:
        search_remote.Submitit(tmp_path, how, tmp_path / "stop")
    assert "\n" not in str(error.value)


def test_an_option_that_ray_refuses_is_named(tmp_path):
    pytest.importorskip("ray")
    with pytest.raises(checks.UsageError, match="num_cpu"):
        search_remote.Ray(1, {"num_cpu": 1}, tmp_path / "stop")


@pytest.mark.parametrize("name", ["submitit", "ray"])
def test_a_missing_engine_names_its_extra(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(checks.UsageError, match=rf"jaxedge\[{name}\]"):
        if name == "ray":
            search_remote.Ray(1, {}, tmp_path / "stop")
        else:
            search_remote.Submitit(tmp_path, {}, tmp_path / "stop")
