"""`jaxedge quantize` and `jaxedge eval`: a network in small numbers, and what
is left of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import json
from pathlib import Path
import shutil
import time
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.models import packed, quantized
from jaxedge.recipes import llm_fp4
from jaxedge.run import quantize_page, workdir
from jaxedge.run.loop import Preempted, Stop
from jaxedge.run.metrics import replace

REPORT, RECORD = "report.html", "layers.json"


def quantize(
    model: str,
    out: str,
    config: Any,
    data_root: str | None = None,
    stop: Stop | None = None,
) -> Path:
    """Quantises a network into a folder.

    Every matrix is kept as soon as it is done, in OUT.partial: the same command
    goes on there. What OUT held stays until all is written.

    Args:
        model: as for `llm_fp4.open_model`.
        out: the folder.
        config: as from `llm_fp4.defaults`.
        data_root: for the texts of the calibration.
        stop: looked at after each matrix.

    Returns:
        The page of the report.

    Raises:
        UsageError: for anything the user has to mend, before long work starts.
        Preempted: when `stop` was asked.
    """
    given = llm_fp4.parse(config)
    folder = Path(out)
    packed.check_target(folder)
    opened = llm_fp4.open_model(model)
    if opened.note:
        raise checks.UsageError(
            f"{model} holds small numbers already; give the network that they"
            " were made of."
        )
    small = llm_fp4.tables(opened, given.quantize.embedding_bits)
    key = jax.random.key(config.seed)
    texts = llm_fp4.calibration(
        opened, given.calibration, data_root, stream(key, "calibration")
    )
    # Raises for a format that does not fit, before the long work.
    finished = llm_fp4.assemble(opened, {}, small, given.quantize.kv)
    plain = workdir.plain(config)
    store = _Store(folder, {"model": str(Path(model)), "config": plain})
    paths = llm_fp4.matrices(opened, given.quantize.layers)
    leaves: dict[str, quantized.Quantized] = {}
    records: dict[str, Any] = {}
    started = time.monotonic()
    with _bar("quantising", len(paths)) as tick:
        for layer in llm_fp4.layers(opened, texts, given, store.get):
            store.put(layer)
            leaves[layer.path] = layer.leaf
            records[layer.path] = layer.record
            tick(len(leaves), f"{layer.path} {layer.record['error']:.2e}")
            if stop is not None and stop.asked:
                raise Preempted(f"stopped after {layer.path}")
    finished = llm_fp4.assemble(opened, leaves, small, given.quantize.kv)
    note = {
        "model": str(model),
        "config": plain,
        "seconds": round(time.monotonic() - started, 1),
        "layers": {
            path: {k: v for k, v in one.items() if k != "channel_most"}
            for path, one in records.items()
        },
    }
    packed.save(
        folder,
        finished.model,
        finished.variables,
        tables=small,
        note=note,
        files=opened.files,
    )
    page = folder / REPORT
    replace(page, quantize_page.document(note, records))
    store.remove()
    return page


def evaluate(
    model: str,
    tasks: Sequence[str],
    *,
    reference: str | None = None,
    data_root: str | None = None,
    length: int = 128,
    most: int | None = None,
    out: str | None = None,
) -> dict[str, Any]:
    """Prints what a network scores, and keeps it.

    Args:
        model: as for `llm_fp4.open_model`.
        tasks: as for `llm_fp4.assess`; () takes those that need no file.
        reference: the network that it was, as `model`; None is what the folder
            says that it was made of, if that is there.
        data_root: for texts and questions.
        length: tokens of a sequence.
        most: sequences or questions of a task.
        out: file for the scores, JSON; None writes none.
    """
    opened = llm_fp4.open_model(model)
    known = llm_fp4.known_tasks(opened.model)
    chosen = tuple(tasks) or known[:1]
    for task in chosen:
        checks.choice("task", task, known)
    was = reference or opened.note.get("model")
    beside = llm_fp4.open_model(was) if was and _is_there(was) else None
    found: dict[str, Any] = {}
    for name, network in (("reference", beside), ("model", opened)):
        if network is None or (name == "reference" and _similar(chosen)):
            continue
        with _tasks(name) as progress:
            found[name] = llm_fp4.assess(
                network,
                chosen,
                data_root,
                reference=beside,
                length=length,
                most=most,
                progress=progress,
            )
    _print(found)
    if out is not None:
        content = {"model": model, "reference": was, "scores": found}
        workdir.write_json(Path(out), content)
    return found


def _is_there(name: str) -> bool:
    return name == llm_fp4.MINILM or Path(name).exists()


def _similar(tasks: Sequence[str]) -> bool:
    """Whether the reference is what is compared with."""
    return llm_fp4.DOCSTRINGS in tasks


class _Store:
    """Matrices that are done, so that a killed run goes on from there."""

    def __init__(self, out: Path, plan: Mapping[str, Any]):
        self._folder = out.with_name(out.name + ".partial")
        text = json.dumps(workdir.jsonable(plan), indent=1, sort_keys=True)
        said = self._folder / "plan.json"
        try:
            if said.exists() and said.read_text(encoding="utf-8") != text:
                shutil.rmtree(self._folder)  # Of another command.
            self._folder.mkdir(parents=True, exist_ok=True)
            replace(said, text)
        except OSError as error:
            raise checks.UsageError(
                f"{self._folder} cannot be written ({error}); choose another"
                " --out."
            ) from error

    def put(self, layer: llm_fp4.Layer) -> None:
        path = self._path(layer.path)
        if not path.exists():
            packed.save_leaf(path, layer.leaf)

    def get(self, path: str) -> quantized.Quantized | None:
        file = self._path(path)
        return packed.load_leaf(file) if file.exists() else None

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, path: str) -> Path:
        return self._folder / (path.replace("/", ".") + ".safetensors")


@contextlib.contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int, str], None]]:
    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns) as progress:
        task = progress.add_task(what, total=total, note="")

        def tick(done: int, note: str) -> None:
            progress.update(task, completed=done, note=note)

        yield tick


@contextlib.contextmanager
def _tasks(name: str) -> Iterator[Callable[[str], llm_fp4.Progress]]:
    """A bar for each task of a network."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:

        def begin(task: str) -> llm_fp4.Progress:
            row = progress.add_task(f"{task} ({name})", total=None)

            def report(done: int, total: int) -> None:
                progress.update(row, completed=done, total=total)

            return report

        yield begin


def _print(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    table = Table("task", "score", *found)
    for task, scores in found["model"].items():
        for score in scores:
            values = [found[name][task][score] for name in found]
            cells = [f"{value:.4f}" for value in np.asarray(values)]
            table.add_row(task, score, *cells)
    Console().print(table)
