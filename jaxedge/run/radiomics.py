"""`jaxedge radiomics`: features of images and masks, as one table."""

from collections.abc import Callable, Iterator
import contextlib
import logging
from pathlib import Path
import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from jaxedge.core import checks
from jaxedge.data import volumes
from jaxedge.run import (
    radiomics_case,
    radiomics_maps,
    radiomics_parameters,
    radiomics_prepare,
    radiomics_table,
)
from jaxedge.run.loop import Preempted, Stop
from jaxedge.run.radiomics_flags import Job
from jaxedge.run.radiomics_parameters import Parameters
from jaxedge.run.radiomics_table import Case, Table

# Of a case: its own faults, and what libraries make of files that are odd.
_FAULTS = (checks.UsageError, RuntimeError, ValueError, OSError, MemoryError)

_log = logging.getLogger(__name__)


def run(job: Job, stop: Stop | None = None) -> int:
    """Computes what is asked for; rows that are there are kept.

    Args:
        job: from the command line.
        stop: looked at after each case.

    Returns:
        How many cases failed. Each of them is told on the console.

    Raises:
        UsageError: for anything wrong with the job itself, or with its only
            case.
        Preempted: when `stop` was asked.
    """
    parameters = _parameters(job)
    radii = job.radius or (parameters.voxels["kernelRadius"],)
    cases = _cases(job)
    table = Table(
        job.out,
        {
            **parameters._asdict(),
            "definitions": job.definitions,
            "maps": job.maps,
            "radius": radii if job.maps else (),
        },
    )
    waiting = [case for case in cases if not table.kept(case)]
    single = job.mask is not None
    failed = {}
    try:
        with _bar(len(cases), len(cases) - len(waiting), not single) as tick:
            for case in waiting:
                try:
                    _one(case, parameters, job, radii, table)
                except _FAULTS as error:
                    if single:
                        raise
                    failed[case.name] = _told(error)
                    table.fail(case, _told(error))
                tick(case.name)
                if stop is not None and stop.asked and case != waiting[-1]:
                    raise Preempted(f"stopped after {case.name}")
    finally:
        if waiting and (not single or table.kept(cases[0])):
            table.write(cases)
    for name, error in failed.items():
        print(f"jaxedge: {name} failed: {error}", file=sys.stderr)
    done, before = len(cases) - len(failed), len(cases) - len(waiting)
    text = f"{done} of {len(cases)} cases, {before} of them from before"
    Console(stderr=True).print(text, highlight=False)
    return len(failed)


def _told(error: Exception) -> str:
    """In one line, with its type where it is not of the user's making."""
    text = " ".join(str(error).split())
    if isinstance(error, checks.UsageError):
        return text
    return f"{type(error).__name__}: {text}"


def _parameters(job: Job) -> Parameters:
    if job.param is None:
        parameters = radiomics_parameters.parse({})
    else:
        parameters = radiomics_parameters.read(job.param)
    if job.label is not None:
        parameters = parameters.changed(label=job.label)
    if job.resample_mask:
        parameters = parameters.changed(correctMask=True)
    radiomics_case.check_definitions(parameters, job.definitions)
    radiomics_case.check_maps(job.maps)
    return parameters


def _cases(job: Job) -> list[Case]:
    if job.mask is None:
        return radiomics_table.cases(job.image)
    columns = {"Image": str(job.image), "Mask": str(job.mask)}
    if job.label is not None:
        columns["Label"] = str(job.label)
    name = job.image.name.split(".")[0] or "case"
    return [Case(columns, job.image, job.mask, job.label, name=name)]


def _one(
    case: Case,
    parameters: Parameters,
    job: Job,
    radii: tuple[int, ...],
    table: Table,
) -> None:
    """Features and maps of a case, into the table and beside it."""
    if case.fault:
        raise checks.UsageError(case.fault)
    own = {"label": case.label, "label_channel": case.channel}
    parameters = parameters.changed(
        **{name: value for name, value in own.items() if value is not None}
    )
    begun = time.monotonic()
    with _heard() as warnings:
        prepared = radiomics_prepare.read(case.image, case.mask, parameters)
        found = radiomics_case.features(prepared, parameters, job.definitions)
        if job.maps:
            _maps(case, prepared, parameters, job, radii)
    note: dict[str, Any] = {"seconds": round(time.monotonic() - begun, 3)}
    if parameters.setting["additionalInfo"]:
        note |= radiomics_case.facts(prepared)
    table.put(case, found, warnings=warnings, **note)


def _maps(
    case: Case,
    prepared: radiomics_prepare.Prepared,
    parameters: Parameters,
    job: Job,
    radii: tuple[int, ...],
) -> None:
    made = []
    for one in radiomics_case.maps(prepared, parameters, job.maps, radii):
        volumes.write(
            _beside(job, case, f"{one.name}_radius{one.radius}.nrrd"),
            one.volume,
        )
        made.append(one)
    if len(made) > radiomics_maps.MOST:
        shown = radiomics_maps.MOST
        _log.warning("the sheet shows %d of %d maps", shown, len(made))
    radiomics_maps.save(_beside(job, case, "maps.png"), prepared, made)


def _beside(job: Job, case: Case, name: str) -> Path:
    return job.out.with_name(f"{job.out.stem}_{case.name}_{name}")


@contextlib.contextmanager
def _heard() -> Iterator[list[str]]:
    """What is warned of, for the note of a case."""
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("jaxedge")
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)


@contextlib.contextmanager
def _bar(total: int, done: int, shown: bool) -> Iterator[Callable[[str], None]]:
    """A bar that moves by a case."""
    columns = (
        TextColumn("cases"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not shown) as progress:
        task = progress.add_task("cases", total=total, completed=done, note="")

        def tick(note: str) -> None:
            progress.update(task, advance=1, note=note)

        yield tick
