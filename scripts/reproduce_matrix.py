"""Every network on every hardware by every rule; see `scripts/reproduce`.

`matrix` is a smoke: a step of training, a chip, a batch of answers. Networks of
few layers are compiled and run, on all hardware; of the others, which take
minutes to compile, every function is traced, on one hardware of each kind of
leaf: that finds what does not fit together, but no number.
"""

from collections.abc import Mapping, Sequence
import functools
import importlib.util
import json
from pathlib import Path
import time
from typing import Any, NamedTuple
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from reproduce_tables import only
from rich.progress import Progress

from jaxedge import data
from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.recipes import settings
from jaxedge.run import job, loop, main, settle, study, workdir

NAME = "matrix"
ENTRIES = (NAME,)
CONFIG = "configs/matrix.py"
# Networks that compile in seconds; and for the others a hardware of each leaf.
RUN = (
    "mlp", "cnn", "crnn", "resnet8", "vit", "unet", "pointset", "decoder",
    "radiomics_net", "gan",
)  # fmt: skip
LEAVES = ("ideal", "rram", "sram", "fp4", "int8")
# Of a chip; the batches of what is trained are those of the config.
IMAGES = 8


class Words(NamedTuple):
    """One cell: what `configs/matrix.py` is asked for."""

    model: str
    learn: str
    hardware: str

    @property
    def text(self) -> str:
        """As the config reads them."""
        return ",".join(f"{k}={v}" for k, v in self._asdict().items())


class Step(NamedTuple):
    """A network after one step of training.

    Attributes:
        variables: of the network.
        sums: of the step.
    """

    variables: Any
    sums: Any


def reproduce(
    name: str, seeds: int, rest: Sequence[str], folder: Path, stop: loop.Stop
) -> dict[str, Any]:
    """All cells; goes on where it was stopped.

    Args:
        name: `NAME`.
        seeds: not looked at: one step says nothing of a spread.
        rest: `--data_root`, and `--only=WORD,WORD`, which keeps the cells that
            have one of these words.
        folder: where the cells that are done are kept.
        stop: looked at before every cell.

    Returns:
        "cells", a row a cell: its words, whether it was run or traced, what
        went wrong, and seconds.
    """
    del name, seeds
    words, places = only(rest)
    config = _config_module()
    cells = [Words(**c) for c in config.combinations()]
    cells = [c for c in cells if c.model in RUN or c.hardware in LEAVES]
    cells = [c for c in cells if not words or {*words} & {*c}]
    # A network that was trained for no hardware meets all of them.
    learned = functools.lru_cache(1)(functools.partial(_learned, places))
    last = cells[-1].hardware if cells else None
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    with Progress() as progress, warnings.catch_warnings():
        # Of formats all chips are alike, and one is computed: told elsewhere.
        warnings.simplefilter("ignore")
        bar = progress.add_task("cells", total=len(cells))
        for cell in cells:
            path = folder / f"{'-'.join(cell)}.json"
            if _fault_of(path) != "":
                if stop.asked:
                    raise loop.Preempted(f"stopped after {len(rows)} cells")
                own = config.LEARN[cell.learn].chips
                at = cell._replace(hardware=cell.hardware if own else "ideal")
                row = _row(cell, functools.partial(learned, at), places)
                workdir.write_json(path, row)
                if own or cell.hardware == last:
                    # A process may hold so many compiled programs and no more.
                    jax.clear_caches()
            rows.append(json.loads(path.read_text("utf-8")))
            progress.update(bar, advance=1, description=" ".join(cell))
    return {"cells": rows}


def _fault_of(path: Path) -> str | None:
    """What went wrong in a cell, "" if nothing; None for one to come."""
    if not path.exists():
        return None
    return json.loads(path.read_text("utf-8"))["fault"] or ""


def _config_module() -> Any:
    root = Path(__file__).resolve().parent.parent
    spec = importlib.util.spec_from_file_location(NAME, root / CONFIG)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _row(cell: Words, learned: Any, places: Any) -> dict[str, Any]:
    begun, fault, score = time.monotonic(), None, None
    runs = cell.model in RUN
    try:
        resolved, variables = learned()
        on = _hardware(cell, resolved, places)
        if runs:
            score = float(_on_chip(on, variables))
            if not np.isfinite(score):
                raise FloatingPointError(f"the score of the chip is {score}")
        else:
            jax.eval_shape(functools.partial(_score, on), variables, _test(on))
    except checks.UsageError as error:
        fault = str(error)
    except Exception as error:  # noqa: BLE001 - it is what the table tells
        fault = f"{type(error).__name__}: {str(error)[:200]}"
    return {
        **cell._asdict(),
        "level": "run" if runs else "traced",
        "fault": fault,
        "score": score,
        "seconds": round(time.monotonic() - begun, 2),
    }


def _learned(places: Sequence[str], cell: Words) -> tuple[job.Job, Any]:
    """A job, and its network after a step, or the shapes of that."""
    resolved = job.resolve(_config(cell, places), _root(places))
    if cell.model in RUN:
        return resolved, _after_step(resolved).variables
    learn = functools.partial(_learn, resolved)
    return resolved, jax.eval_shape(learn, _first(resolved)).variables


def _hardware(cell: Words, resolved: job.Job, places: Any) -> job.Job:
    """The job with the chips of a cell."""
    section = _config(cell, places).hardware
    given = settings.unpack(settings.Hardware, section, "hardware")
    return resolved._replace(spec=settings.make_plan(given))


def _config(cell: Words, places: Sequence[str]) -> Any:
    text = f"--config={CONFIG}:{cell.text},size=small"
    return main.parse((text, "--workdir=none", *places)).config


def _root(places: Sequence[str]) -> str | None:
    given = [a.partition("=")[2] for a in places if "data_root" in a]
    return given[-1] if given else None


def _after_step(resolved: job.Job) -> Step:
    """A network that has learned from one batch.

    Raises:
        FloatingPointError: for a loss or a parameter that is no number.
    """
    batch = _first(resolved)
    step = jax.jit(functools.partial(_learn, resolved))(batch)
    bad = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(step)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
        and not bool(jnp.isfinite(leaf).all())
    ]
    if bad:
        raise FloatingPointError(f"{bad[0]} is not finite after a step")
    return step


def _learn(resolved: job.Job, batch: Any) -> Step:
    recipe = resolved.recipe
    state = recipe.init(stream(resolved.key, "init"))
    if recipe.begin is not None:
        state = recipe.begin(state, batch)
    state, sums = recipe.update(state, batch)
    return Step(recipe.finish(state), sums)


def _first(resolved: job.Job) -> Any:
    """The first batch, as the loop has it."""
    recipe, source = resolved.recipe, resolved.splits["train"]
    order = stream(resolved.key, "order")
    part = None
    if recipe.subset is not None:
        # A choice needs networks; the first rows stand for it.
        part = np.asarray(recipe.subset.init(source)["rows"])
    if recipe.rounds is not None:
        return next(recipe.rounds.batches(source, order, 0, part))
    size = resolved.given.train.batch
    return next(iter(data.epoch(source, size, order, 0, part)))


def _test(resolved: job.Job) -> study.Frames:
    chips = resolved.chips._replace(images=IMAGES, batch=IMAGES)
    calibrated = settle.calibrated(resolved.spec)
    return study.readings(
        resolved.recipe,
        resolved.splits["test"],
        chips,
        resolved.samples if calibrated else None,
        resolved.splits["train"],
    )


def _on_chip(resolved: job.Job, variables: Any) -> Any:
    score = jax.jit(functools.partial(_score, resolved))
    return score(variables, _test(resolved))


def _score(resolved: job.Job, variables: Any, test: study.Frames) -> Any:
    key = stream(resolved.key, "study")
    one = study.chip_score(resolved.recipe)
    return one(key, variables, test, resolved.spec)


def page(name: str, content: Mapping[str, Any]) -> list[str]:
    """The lines of the result as markdown."""
    del name
    cells = content["cells"]
    models = list(dict.fromkeys(c["model"] for c in cells))
    rules = list(dict.fromkeys(c["learn"] for c in cells))
    hardware = list(dict.fromkeys(c["hardware"] for c in cells))
    wrong = [c for c in cells if c["fault"]]
    lines = [
        f"{len(cells):,} cells, of which {len(wrong)} failed. A cell is a"
        " network, a rule and a hardware of"
        f" {', '.join(hardware)}: a step of training, a chip, a batch of"
        " answers. The table tells on how many hardwares a network ran, or,"
        ' with "t", was traced only, under a rule; "-" is a rule that does'
        " not fit it.",
        "",
        f"| network | {' | '.join(rules)} |",
        f"|---|{'--:|' * len(rules)}",
    ]
    for model in models:
        row = [_told(cells, model, rule) for rule in rules]
        lines.append(f"| {model} | {' | '.join(row)} |")
    if wrong:
        lines += ["", "| what failed | why |", "|---|---|"]
        lines += [
            f"| {c['model']}, {c['hardware']}, {c['learn']} | {c['fault']} |"
            for c in wrong
        ]
    return lines


def _told(cells: Sequence[Mapping[str, Any]], model: str, rule: str) -> str:
    own = [c for c in cells if (c["model"], c["learn"]) == (model, rule)]
    if not own:
        return "-"
    sound = [c for c in own if not c["fault"]]
    traced = " t" if own[0]["level"] == "traced" else ""
    return f"{len(sound)} of {len(own)}{traced}"


__all__ = ["ENTRIES", "page", "reproduce"]
