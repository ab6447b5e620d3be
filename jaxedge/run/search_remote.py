"""Runs of a sweep through engines that others maintain: submitit and Ray.

Their machines must see the folder of the sweep at the same path, and have
jaxedge. They are told to stop by a file in it: each engine has its own way to
end a process, of which not all leave time to save.
"""

import ast
from collections.abc import Mapping
import contextlib
from pathlib import Path
from typing import Any
import warnings

from jaxedge.core import checks
from jaxedge.run import search_points, search_tasks
from jaxedge.run.search_tasks import Task

_OPTIONS = "--options='timeout_min=60;slurm_partition=gpu'"
# Of a task of submitit, whose own default is minutes; a labelled default.
_MINUTES = 24 * 60


def options(text: str) -> dict[str, Any]:
    """Reads "name=value;name=value"; a value that is no number is text.

    Raises:
        UsageError: for text that is none.
    """
    if not text:
        return {}
    found = search_points.fields(text, "--options", _OPTIONS)
    return {name: _value(value) for name, value in found.items()}


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


class Submitit:
    """Jobs of a SLURM cluster, or of submitit's own processes.

    Args:
        folder: of the sweep.
        how: parameters of `submitit.AutoExecutor`; "cluster" chooses it.
        stop: the file that tells tasks to end.

    Raises:
        UsageError: without submitit, or for a parameter that it refuses.
    """

    def __init__(self, folder: Path, how: Mapping[str, Any], stop: Path):
        try:
            import submitit
        except ImportError as error:
            raise checks.UsageError(
                f"--engine=submitit cannot be imported ({error}); pip install"
                " 'jaxedge[submitit]'."
            ) from error
        how = dict(how)
        cluster = how.pop("cluster", None)
        parameters = {"timeout_min": _MINUTES, "name": "jaxedge", **how}
        try:
            self._executor = submitit.AutoExecutor(
                folder / "submitit", cluster=cluster
            )
            self._executor.update_parameters(**parameters)
        except (
            AssertionError, NameError, RuntimeError, TypeError, ValueError,
        ) as error:  # fmt: skip
            raise checks.UsageError(
                f"submitit refuses --options: {' '.join(str(error).split())}"
            ) from error
        self._stop, self._jobs = stop, []

    def start(self, task: Task) -> search_tasks.Handle:
        """Submits a task."""
        job = self._executor.submit(search_tasks.execute, task)
        self._jobs.append(job)
        return _Job(job, task)

    def stop(self) -> None:
        """Makes the file, and cancels what waits for a machine."""
        self._stop.touch()
        for job in self._jobs:
            if job.state == "PENDING":
                job.cancel(check=False)

    def close(self) -> None:
        """Tells what is left to save and end."""
        if not all(job.done() for job in self._jobs):
            self.stop()


class _Job:
    def __init__(self, job: Any, task: Task):
        self._job, self._task = job, task

    def poll(self) -> int | None:
        """Its exit status; 1, with a line in the log, if it has none."""
        if not self._job.done():
            return None
        try:
            return int(self._job.result())
        except Exception as error:  # noqa: BLE001 - of any machine
            return _lost(self._task, "submitit", error)


class Ray:
    """Tasks of a Ray cluster, or of one that is started here.

    Args:
        jobs: at once, on a cluster that is started here.
        how: options of a task ("num_cpus", "num_gpus", ...); "address" is that
            of a cluster.
        stop: the file that tells tasks to end.

    Raises:
        UsageError: without Ray, or for an option that it refuses.
    """

    def __init__(self, jobs: int, how: Mapping[str, Any], stop: Path):
        try:
            import ray
        except ImportError as error:
            raise checks.UsageError(
                f"--engine=ray cannot be imported ({error}); pip install"
                " 'jaxedge[ray]'."
            ) from error
        how = dict(how)
        address = how.pop("address", None)
        self._ray, self._stop = ray, stop
        self._began = not ray.is_initialized()
        try:
            self._cpus = max(int(how.get("num_cpus", 1)), 1)
            self._task = ray.remote(search_tasks.execute).options(
                **{"num_cpus": 1, "max_retries": 0, **how}
            )
        except (TypeError, ValueError) as error:
            raise checks.UsageError(
                f"Ray refuses --options: {' '.join(str(error).split())}"
            ) from error
        if self._began:
            self._begin(address, jobs * self._cpus)

    def _begin(self, address: str | None, cpus: int) -> None:
        try:
            with warnings.catch_warnings():
                # Tips of Ray on its own future.
                warnings.simplefilter("ignore", FutureWarning)
                self._ray.init(
                    address,
                    num_cpus=None if address else cpus,
                    include_dashboard=False,
                    log_to_driver=False,
                )
        except Exception as error:  # noqa: BLE001 - it has no class for it
            raise checks.UsageError(
                f"Ray at {address or 'this machine'} does not start or answer:"
                f" {' '.join(str(error).split())}"
            ) from error

    def start(self, task: Task) -> search_tasks.Handle:
        """Submits a task, which uses as many cores as it asks for."""
        env = {"JAX_NUM_CPU_DEVICES": str(self._cpus), **task.env}
        return _Reference(
            self._ray, self._task.remote(task._replace(env=env)), task
        )

    def stop(self) -> None:
        """Makes the file that ends tasks, and those that have not begun."""
        self._stop.touch()

    def close(self) -> None:
        """Leaves the cluster; one that was started here ends."""
        if self._began:
            self._ray.shutdown()


class _Reference:
    def __init__(self, ray: Any, reference: Any, task: Task):
        self._ray, self._reference, self._task = ray, reference, task

    def poll(self) -> int | None:
        """Its exit status; 1, with a line in the log, if it has none."""
        ready, _ = self._ray.wait([self._reference], timeout=0)
        if not ready:
            return None
        try:
            return int(self._ray.get(self._reference))
        except Exception as error:  # noqa: BLE001 - of any machine
            return _lost(self._task, "Ray", error)


def _lost(task: Task, engine: str, error: Exception) -> int:
    """Writes into the log why an engine lost a task, unless it was told to."""
    if task.stop.exists():
        return 0
    words = (str(error).strip() or type(error).__name__).splitlines()[-1]
    with contextlib.suppress(OSError):
        with task.log.open("a", encoding="utf-8") as log:
            log.write(f"\n{engine} lost the run: {words.strip()}\n")
    return 1
