"""`jaxedge sweep`: runs of many points of a config, a process each."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
import contextlib
import json
import os
from pathlib import Path
import signal
import sys
import threading
import time
from typing import Any, NamedTuple

import jax

from jaxedge.core import checks
from jaxedge.run import (
    compare,
    job,
    loop,
    main,
    search_local,
    search_plan,
    search_points,
    search_remote,
    text,
    workdir,
)
from jaxedge.run.search_board import Board
from jaxedge.run.search_plan import Run
from jaxedge.run.search_tasks import Engine, Handle, Task
from jaxedge.run.sweep_flags import Asked

# Seconds between two looks at the runs.
_LOOK = 0.2


class Sweep(NamedTuple):
    """A sweep whose every point is checked.

    Attributes:
        folder: of the sweep.
        config: plain, without the points.
        runs: all of them.
        configs: of each run by name, plain.
    """

    folder: Path
    config: Mapping[str, Any]
    runs: Sequence[Run]
    configs: Mapping[str, Mapping[str, Any]]

    def unfinished(self) -> list[Run]:
        """Runs that have not come to their end."""
        return [
            run
            for run in self.runs
            if not search_plan.finished(self.folder / run.name)
        ]


def run(asked: Asked) -> int:
    """Makes the points, checks them, runs them and compares them.

    Returns:
        The exit status: 1 if a run failed.

    Raises:
        UsageError: for anything the user has to mend; then nothing has begun.
    """
    _compute_on_cpu()
    failed: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        # Ray forks, which nothing may do once JAX computes.
        early = _opened(asked, stack) if asked.engine == "ray" else None
        sweep = resolve(asked)
        search_plan.write(sweep.folder, asked.source, sweep.config, sweep.runs)
        stop = stack.enter_context(listening())
        if sweep.unfinished():
            engine = early or _opened(asked, stack)
            failed = drive(sweep, engine, _jobs(asked, sweep), asked, stop)
    left = [run.name for run in sweep.unfinished() if run.name not in failed]
    if left:
        print(
            f"jaxedge: stopped; {len(left)} of {len(sweep.runs)} runs are left;"
            " the same command goes on from there."
        )
    if not stop.asked:
        print(f"report: {compare.write([sweep.folder], sweep.folder)}")
    for name, words in failed.items():
        print(f"jaxedge: run {name} failed: {words}", file=sys.stderr)
    if failed:
        print(
            f"jaxedge: {len(failed)} of {len(sweep.runs)} runs failed; the same"
            " command tries them again.",
            file=sys.stderr,
        )
    return 1 if failed else 0


def resolve(asked: Asked) -> Sweep:
    """The runs of a sweep, each checked as `jaxedge run` does.

    Creates nothing.

    Raises:
        UsageError: naming the run whose config is at fault.
    """
    base = main.parse([*asked.passed, f"--workdir={asked.workdir}"])
    config, given = workdir.plain(base.config), _names(asked.passed)
    runs = search_plan.name(_points(asked), asked.seeds, base.config.seed)
    if asked.seeds is not None:
        given.discard("seed")  # That is the first of them.
    for field in sorted({field for run in runs for field in run.point} & given):
        raise checks.UsageError(
            f"--config.{field} sets a field that the sweep sets too; leave one"
            " out."
        )
    search_plan.check(asked.workdir, config, runs)
    configs: dict[str, Mapping[str, Any]] = {}
    same: dict[str, str] = {}
    for run in runs:
        try:
            configs[run.name] = _check(asked, run)
        except checks.UsageError as error:
            raise checks.UsageError(f"run {run.name}: {error}") from error
        twin = same.setdefault(json.dumps(configs[run.name]), run.name)
        if twin != run.name:
            raise checks.UsageError(
                f"the runs {twin} and {run.name} are the same; leave one out."
            )
    return Sweep(asked.workdir, config, runs, configs)


def _points(asked: Asked) -> list[search_points.Point]:
    if asked.grid:
        return search_points.grid(asked.grid)
    if asked.random is not None:
        where = search_points.ranges(asked.ranges)
        return search_points.draw(where, asked.random, asked.sweep_seed)
    try:
        return search_points.configured(asked.source)
    except search_points.NoSweepError:
        if asked.seeds is None:
            raise
        return [{}]  # Seeds alone are a sweep too.


def _check(asked: Asked, run: Run) -> dict[str, Any]:
    """The plain config of a run that may begin, or go on."""
    folder = asked.workdir / run.name
    options = main.parse([*asked.passed, *run.flags, f"--workdir={folder}"])
    plain = workdir.plain(options.config)
    workdir.check(folder, plain, study=False)
    if not search_plan.finished(folder):
        job.resolve(options.config, options.data_root)
    return plain


def _names(arguments: Sequence[str]) -> set[str]:
    """Fields that are set by flags."""
    names = [a.lstrip("-").partition("=")[0] for a in arguments]
    return {
        name.removeprefix("config.")
        for name in names
        if name.startswith("config.")
    }


def drive(
    sweep: Sweep, engine: Engine, jobs: int, asked: Asked, stop: loop.Stop
) -> dict[str, str]:
    """Runs what is not finished, `jobs` at once, until all of it has ended.

    Args:
        sweep: checked.
        engine: that runs tasks.
        jobs: at once.
        asked: what every run is given.
        stop: told by a signal; then runs save, and no other begins.

    Returns:
        The last line of every run that failed, by name.
    """
    waiting = deque(sweep.unfinished())
    ended = len(sweep.runs) - len(waiting)
    active: dict[str, tuple[Run, Handle]] = {}
    failed: dict[str, str] = {}
    told = False
    with Board(len(waiting)) as board:
        if ended:
            board.say(f"{ended} of {len(sweep.runs)} runs are finished already")
        while waiting or active:
            if stop.asked and not told:
                waiting.clear()
                engine.stop()
                told = True
                board.say(f"stopping: {len(active)} runs save where they are")
            while waiting and len(active) < jobs and not stop.asked:
                run = waiting.popleft()
                task = _task(sweep, run, asked)
                active[run.name] = run, engine.start(task)
                board.begin(run.name, _epochs(sweep.configs[run.name]))
            for run, handle in list(active.values()):
                status = handle.poll()
                if status is None:
                    board.look(run.name, sweep.folder / run.name)
                    continue
                del active[run.name]
                words = _told(sweep, run, status, told)
                board.end(run.name, words)
                if status and not told:
                    failed[run.name] = words.removeprefix("failed: ")
            time.sleep(_LOOK if active else 0)
    return failed


def _epochs(of: Mapping[str, Any]) -> int:
    """Of the training of a config; 0 where there is none."""
    found = workdir.flat(of).get("train.epochs")
    return found if isinstance(found, int) else 0


def _told(sweep: Sweep, run: Run, status: int, stopped: bool) -> str:
    """What became of a run."""
    folder = sweep.folder / run.name
    if search_plan.finished(folder) and not status:
        summary = json.loads((folder / "summary.json").read_bytes())
        score = summary["score"]
        reached = text.percent(summary["metrics"].get(f"test_{score}"))
        return f"test {text.metric(score)} {reached}"
    if status and not stopped:
        line = search_plan.last_line(search_plan.log(sweep.folder, run.name))
        line = line.removeprefix("jaxedge: error: ")
        killed = f" (signal {-status})" if status < 0 else ""
        return f"failed: {line or 'it said nothing'}{killed}"
    return "stopped; the same command goes on from there"


def _task(sweep: Sweep, run: Run, asked: Asked) -> Task:
    folder = sweep.folder.resolve() / run.name
    command = (
        sys.executable, "-m", "jaxedge", "run", *asked.passed, *run.flags,
        f"--workdir={folder}",
    )  # fmt: skip
    # Elsewhere a process does not have the variables of this one.
    env = {
        name: value
        for name, value in os.environ.items()
        if asked.engine != "local" and name.startswith(("JAX", "XLA"))
    }
    log = search_plan.log(sweep.folder.resolve(), run.name)
    return Task(folder, command, Path.cwd(), log, env, _stop_file(asked))


def _stop_file(asked: Asked) -> Path:
    """Of this process: what an earlier one submitted has another."""
    return asked.workdir.resolve() / "logs" / f"stop-{os.getpid()}"


def _opened(asked: Asked, stack: contextlib.ExitStack) -> Engine:
    """An engine that is closed with the stack."""
    engine = _engine(asked)
    stack.callback(engine.close)
    return engine


def _engine(asked: Asked) -> Engine:
    folder, stop = asked.workdir.resolve(), _stop_file(asked)
    stop.unlink(missing_ok=True)
    if asked.engine == "local":
        return search_local.Local(asked.jobs or 1)
    how = search_remote.options(asked.options)
    if asked.engine == "submitit":
        return search_remote.Submitit(folder, how, stop)
    return search_remote.Ray(asked.jobs or os.cpu_count() or 1, how, stop)


def _jobs(asked: Asked, sweep: Sweep) -> int:
    """Tasks that are given to the engine at once."""
    alone = 1 if asked.engine == "local" else max(len(sweep.runs), 1)
    return asked.jobs or alone


def _compute_on_cpu() -> None:
    """This process only checks: accelerators are for the runs."""
    jax.config.update("jax_platforms", "cpu")


@contextlib.contextmanager
def listening() -> Iterator[loop.Stop]:
    """Takes SIGTERM, and Ctrl-C once, as a request to stop."""
    with loop.Stop().listening() as stop:
        if threading.current_thread() is not threading.main_thread():
            yield stop
            return
        before = signal.getsignal(signal.SIGINT)

        def ask(number: int, frame: Any) -> None:
            del number, frame
            stop.asked = True
            # The second one ends the sweep; its runs save by themselves.
            signal.signal(signal.SIGINT, before)

        signal.signal(signal.SIGINT, ask)
        try:
            yield stop
        finally:
            signal.signal(signal.SIGINT, before)
