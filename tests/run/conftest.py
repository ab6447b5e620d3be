"""Fixtures of the run's tests: a small job, trained once."""

from collections.abc import Callable, Sequence
import functools
from pathlib import Path
import shutil

import pytest

from jaxedge.run import job, main

ROOT = Path(__file__).resolve().parents[2]
QUICK = f"--config={ROOT}/configs/edge_pruning.py:quick"
SMALL = (
    QUICK,
    "--config.model.widths=(16,)",
    "--config.train.epochs=3",
    "--config.chips.n=12",
    "--config.chips.sweep=4",
    "--config.chips.chunk=5",
    "--config.chips.threshold=0.8",
    "--config.chips.read_noise=(0.0,0.02,0.4)",
    "--config.chips.faults=(0.002,0.2)",
)


class StopAt:
    """Asks to stop when it is looked at for the n-th time, as a SIGTERM may."""

    def __init__(self, looks: int):
        self.looks = looks

    @property
    def asked(self) -> bool:
        self.looks -= 1
        return self.looks < 0


@pytest.fixture(scope="session")
def stop_at() -> type[StopAt]:
    """The class of a stop that is asked after some looks."""
    return StopAt


@pytest.fixture(scope="session")
def small() -> Sequence[str]:
    """Flags of a job that takes seconds, without a workdir."""
    return SMALL


@pytest.fixture(scope="session")
def resolve() -> Callable[..., job.Job]:
    """A function from flags to a checked job.

    The same flags are the same job, whose programs are compiled once.
    """

    @functools.cache
    def resolve(*flags: str) -> job.Job:
        options = main.parse([*flags, "--workdir=unused"])
        return job.resolve(options.config, options.data_root)

    return resolve


@pytest.fixture(scope="session")
def trained(tmp_path_factory, resolve) -> Path:
    """The workdir of the small job, finished; do not write here."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    job.run(resolve(*SMALL), folder)
    return folder


@pytest.fixture
def workdir(trained, tmp_path) -> Path:
    """A copy of `trained`."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"
