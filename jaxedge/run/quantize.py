"""`jaxedge quantize` and `jaxedge eval`: a network in small numbers, and what
is left of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import json
from pathlib import Path
import shutil
import time
from typing import Any
import zlib

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
from jaxedge.recipes import assessment, llm_fp4, networks
from jaxedge.run import harness, quantize_page, workdir
from jaxedge.run.loop import Preempted, Stop
from jaxedge.run.metrics import replace

REPORT = "report.html"


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
        model: as for `networks.open_model`.
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
    folder = Path(out).resolve()
    packed.check_target(folder)
    opened = networks.open_model(model)
    paths = llm_fp4.matrices(opened, given.quantize.layers)
    # Raises for keys of an encoder, before the long work.
    llm_fp4.assemble(opened, {}, {}, given.quantize.kv)
    small = llm_fp4.tables(opened, given.quantize.embedding_bits)
    key = jax.random.key(config.seed)
    texts = llm_fp4.calibration(
        opened, given.calibration, data_root, stream(key, "calibration")
    )
    plain = workdir.plain(config)
    numbers = _digest(opened.variables, texts)
    store = _Store(folder, {"config": plain, "numbers": numbers})
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
        "model": _whole(model),
        "config": plain,
        "seconds": round(time.monotonic() - started, 1),
        "layers": {
            path: {k: v for k, v in one.items() if k != "channel_most"}
            for path, one in records.items()
        },
    }
    page = store.write(REPORT, quantize_page.document(note, records))
    packed.save(
        folder,
        finished.model,
        finished.variables,
        tables=small,
        note=note,
        files={**opened.files, REPORT: page},
    )
    store.remove()
    return folder / REPORT


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
        model: as for `networks.open_model`.
        tasks: as for `assessment.assess`, and those of lm-evaluation-harness
            with `harness.PREFIX`; () takes those that need no file.
        reference: the network that it was, as `model`; None is what the folder
            says that it was made of, if that is there.
        data_root: for texts and questions.
        length: tokens of a sequence.
        most: sequences or questions of a task.
        out: file for the scores, JSON; None writes none.

    Returns:
        By network, "reference" and "model", scores by task and name.

    Raises:
        UsageError: for anything the user has to mend, before long work starts.
    """
    foreign = tuple(t for t in tasks if t.startswith(harness.PREFIX))
    own = tuple(task for task in tasks if task not in foreign)
    for task in own:
        checks.choice("task", task, assessment.TASKS)
    harness.check(foreign)
    if out is not None:
        _check_file(Path(out))
    opened = networks.open_model(model)
    known = assessment.known_tasks(opened.model)
    chosen = own if tasks else known[:1]
    for task in chosen:
        checks.choice("task", task, known)
    if foreign:  # Raises for an encoder, before the long work.
        harness.adapter(opened)
    was = reference or opened.note.get("model")
    # One that was asked for must be there.
    beside = None
    if was and (was == reference or _is_there(was)):
        beside = networks.open_model(was)
    found: dict[str, Any] = {}
    for name, network in (("reference", beside), ("model", opened)):
        if network is None or (name == "reference" and _similar(chosen)):
            continue
        with _tasks(name) as progress:
            found[name] = assessment.assess(
                network,
                chosen,
                data_root,
                reference=beside,
                length=length,
                most=most,
                progress=progress,
            )
        if foreign:
            found[name] |= harness.scores(
                network, foreign, most=most, length=length
            )
    _print(found)
    if out is not None:
        content = {"model": model, "reference": was, "scores": found}
        try:
            workdir.write_json(Path(out), content)
        except OSError as error:
            raise checks.UsageError(
                f"{out} cannot be written ({error}); make room. The scores are"
                " those above."
            ) from error
    return found


def _is_there(name: str) -> bool:
    return name == networks.MINILM or Path(name).exists()


def _whole(model: str) -> str:
    """A name that is the same from any folder."""
    return model if model == networks.MINILM else str(Path(model).resolve())


def _check_file(path: Path) -> None:
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise checks.UsageError(
            f"{path} cannot be written, as it is a folder or in none; give"
            " --out=FILE in a folder that exists."
        )


def _digest(*trees: Any) -> int:
    """Of all numbers: a network or a text that has changed is another."""
    total = 0
    for leaf in jax.tree.leaves(trees):
        total = zlib.crc32(np.asarray(leaf).tobytes(), total)
    return total


def _similar(tasks: Sequence[str]) -> bool:
    """Whether the reference is what is compared with."""
    return assessment.DOCSTRINGS in tasks


class _Store:
    """Matrices that are done, so that a killed run goes on from there.

    They are of one config, one network and one text; those of another are
    thrown away.
    """

    def __init__(self, out: Path, plan: Mapping[str, Any]):
        self._folder = out.with_name(out.name + ".partial")
        text = json.dumps(workdir.jsonable(plan), indent=1, sort_keys=True)
        said = self._folder / "plan.json"
        if self._folder.is_dir() and not said.is_file():
            if any(self._folder.iterdir()):
                raise checks.UsageError(
                    f"{self._folder} holds something else, but what is done"
                    " would be kept there; choose another --out."
                )
        try:
            if said.exists() and said.read_text(encoding="utf-8") != text:
                shutil.rmtree(self._folder)
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise checks.UsageError(
                f"{self._folder} cannot be written ({error}); choose another"
                " --out."
            ) from error
        self.write("plan.json", text)

    def put(self, layer: llm_fp4.Layer) -> None:
        path = self._path(layer.path)
        if not path.exists():
            packed.save_leaf(path, layer.leaf)

    def get(self, path: str) -> quantized.Quantized | None:
        file = self._path(path)
        leaf = packed.load_leaf(file) if file.exists() else None
        if leaf is None:  # A damaged one makes room.
            file.unlink(missing_ok=True)
        return leaf

    def write(self, name: str, text: str) -> Path:
        path = self._folder / name
        try:
            replace(path, text)
        except OSError as error:
            raise checks.UsageError(
                f"{path} cannot be written ({error}); make room: the same"
                " command goes on from there."
            ) from error
        return path

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
def _tasks(name: str) -> Iterator[Callable[[str], assessment.Progress]]:
    """A bar for each task of a network."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:

        def begin(task: str) -> assessment.Progress:
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
