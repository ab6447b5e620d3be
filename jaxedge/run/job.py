"""The stages of a run: train, test, study, price, report."""

from collections.abc import Iterator, Mapping
import contextlib
import functools
import importlib.metadata
import json
from pathlib import Path
import shutil
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxedge import data, hardware, recipes
from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.hardware import crossbar, energy
from jaxedge.recipes import settings
from jaxedge.recipes.recipe import Recipe
from jaxedge.run import hosts, loop, metrics, report, study, sweeps, workdir
from jaxedge.run.checkpoint import Checkpoints
from jaxedge.run.chips import first_chip

_PACKAGES = ("jaxedge", "jax", "jaxlib", "flax", "optax", "numpy")
_UNKNOWN = "not published; labelled default"
_SOURCES = {
    "read_volts": "MNSIM 2.0; unknown for the 40 nm macro",
    "read_seconds": _UNKNOWN,
    "adc_bits": _UNKNOWN,
    "dac_joules": _UNKNOWN,
    "op_joules": "300 W / 624 TOPS",
}

# Parts of a config that are no recipe's.
_OWN = ("recipe", "seed", "study", "chips", "energy")


class Job(NamedTuple):
    """A config, resolved: every field checked, every file read.

    Attributes:
        config: plain, for the record.
        given: the recipe's settings.
        recipe: what is trained.
        splits: "train", "valid", "test".
        spec: the hardware of the study.
        chips: how many chips are studied.
        swept: the sweeps of the study.
        costs: prices of the energy ledger.
        key: of the run.
    """

    config: Mapping[str, Any]
    given: Any
    recipe: Recipe
    splits: Mapping[str, data.Source]
    spec: crossbar.Spec
    chips: study.Chips
    swept: tuple[sweeps.Sweep, ...]
    costs: energy.Costs
    key: jax.Array

    @property
    def samples(self) -> Any:
        """Training inputs that a chip sets its converters with, [B, ...]."""
        return self.splits["train"].x[: self.chips.batch]


def resolve(config: Any, data_root: str | None) -> Job:
    """Checks a whole config and loads its data; creates nothing.

    Raises:
        UsageError: for anything the user has to mend.
    """
    module = recipes.get(config.recipe)
    known = {*_OWN, *module.Settings._fields}
    for name in config:
        if name not in known:
            raise checks.unknown("config section", name, known)
    checks.in_range("seed", config.seed, 0, 2**31 - 1)
    if not isinstance(config.study, str):
        raise checks.UsageError(
            f"config.study is {config.study!r}, but must be text, such as"
            " 'noise faults', or '' for no sweep."
        )
    given = module.parse(config)
    chips = settings.unpack(study.Chips, config.chips, "chips")
    costs = settings.unpack(energy.Costs, config.energy, "energy")
    splits = {
        split: data.load(given.data.name, split, data_root)
        for split in data.SPLITS
    }
    rows = len(splits["train"].y)
    if given.train.batch > rows:
        raise checks.UsageError(
            f"train.batch is {given.train.batch}, but the training split of"
            f" {given.data.name} has {rows} examples."
        )
    key = jax.random.key(config.seed)
    recipe = module.build(
        given,
        splits["train"].x[:1],
        len(splits["train"].classes),
        rows // given.train.batch,
        data_root,
        first_chip(stream(key, "study")),
    )
    study.check_lessons(recipe, splits["train"])
    spec = settings.make_plan(given.hardware)

    def layers() -> tuple[str, ...]:
        key = jax.random.key(0)
        start = jax.eval_shape(lambda k: recipe.finish(recipe.init(k)), key)
        return sweeps.layers(start["params"], spec)

    return Job(
        workdir.plain(config),
        given,
        recipe,
        splits,
        spec,
        chips,
        sweeps.parse(config.study, chips.levels, spec, layers),
        costs,
        key,
    )


def run(job: Job, folder: Path, stop: loop.Stop | None = None) -> Path:
    """All stages; goes on where an earlier call was stopped.

    Returns:
        The path of the report.
    """
    workdir.check(folder, job.config, study=False)
    workdir.create(folder, job.config)
    return _stages(job, folder, stop)


def restudy(job: Job, folder: Path, stop: loop.Stop | None = None) -> Path:
    """The study alone, of the network that was trained in the folder."""
    workdir.check(folder, job.config, study=True)
    _check_finished(job, folder)
    return _stages(job, folder, stop)


def _check_finished(job: Job, folder: Path) -> None:
    """Raises unless training is over: a study must not go on with it."""
    checkpoints = Checkpoints(folder / "checkpoints", job.recipe.score)
    done = checkpoints.newest_step() or 0
    checkpoints.close()
    total = _total(job)
    if done < total:
        raise checks.UsageError(
            f"the run in {folder} is at step {done} of {total}; finish it with"
            " `jaxedge run` first."
        )


def _total(job: Job) -> int:
    """Steps of the whole training."""
    given = job.given.train
    return given.epochs * (len(job.splits["train"].y) // given.batch)


def _stages(job: Job, folder: Path, stop: loop.Stop | None) -> Path:
    seconds: dict[str, float] = {}
    before = _before(folder)
    steps = (folder / "checkpoints").glob(str(_total(job)))
    done = {"train"} if any(steps) else set()
    with _timing(seconds, "train"):
        state = train(job, folder, stop)
    variables = jax.jit(job.recipe.finish)(state)
    with _timing(seconds, "test"):
        tested = test(job, variables)
        counts = jax.device_get(job.recipe.summary(state))
    with _timing(seconds, "chips"):
        result = study.run(
            job.recipe,
            variables,
            job.splits["test"],
            job.spec,
            job.chips,
            job.swept,
            stream(job.key, "study"),
            folder / "studies",
            stop,
            job.samples,
            job.splits["train"],
        )
    if not hosts.leads():  # One process writes what follows.
        return folder / "report.html"
    if not result.computed and before["study"] == result.name:
        done.add("chips")
    found = _found(job, result)
    _keep(folder, found)
    # A stage that only restores does not hide what it took.
    took = before["seconds"]
    seconds |= {stage: took[stage] for stage in done & took.keys()}
    with _timing(seconds, "energy"):
        chip = one_chip(job, variables)
        priced = ledger(job, {**variables, "params": chip})
        priced["joules_programming"] = (
            energy.programming_joules(
                counts["sets"],
                counts["resets"] + counts["initial_resets"],
                job.costs,
            )
            if "sets" in counts
            else None
        )
        _pictures(folder / "pictures.npz", variables, chip)
    content = {
        "config": job.config,
        "metrics": {**tested, **counts},
        **{part: found[part] for part in ("study", "sweeps")},
        "chips": {
            **found["chips"],
            "images": len(job.splits["test"].y[: job.chips.images]),
        },
        "energy": priced,
        "seconds": seconds,
        "versions": {
            name: importlib.metadata.version(name) for name in _PACKAGES
        },
    }
    workdir.write_json(folder / "summary.json", _json(content))
    with _timing(seconds, "report"):
        page = report.write(folder)
    workdir.write_json(folder / "summary.json", _json(content))
    return page


def _found(job: Job, result: study.Study) -> dict[str, Any]:
    """What a study says, for the record that lies beside its arrays."""
    threshold = job.chips.threshold
    # Recipes without a gradient have no such field.
    trained = getattr(job.given.train, "hardware", None) == "one_chip"
    return {
        "study": result.name,
        "words": job.config["study"],
        "hardware": job.config["hardware"],
        "chips": study.summary(result, threshold, trained),
        "sweeps": study.swept_summary(result, threshold),
    }


def _keep(folder: Path, found: Mapping[str, Any]) -> None:
    """Notes a finished study, and makes its arrays those of the run."""
    path = folder / "studies" / f"{found['study']}.npz"
    workdir.write_json(path.with_suffix(".json"), _json(found))
    temporary = folder / ".study.npz.tmp"
    shutil.copyfile(path, temporary)
    temporary.replace(folder / "study.npz")


def train(job: Job, folder: Path, stop: loop.Stop | None = None) -> Any:
    """Trains, or restores what was trained; returns the best state."""
    clean = hosts.leads()
    checkpoints = Checkpoints(
        folder / "checkpoints", job.recipe.score, clean=clean
    )

    def writers(step: int) -> metrics.Writer:
        if not hosts.leads():
            return metrics.Several([])
        return metrics.Several(
            [
                metrics.Jsonl(folder / "metrics.jsonl", step),
                metrics.TensorBoard(folder / "tensorboard", step),
            ]
        )

    given = job.given.train
    try:
        return loop.train(
            job.recipe,
            {**job.splits, "select": job.splits[given.select_on]},
            loop.Plan(
                given.epochs,
                given.batch,
                given.evaluate_every,
                given.checkpoint_every,
            ),
            stream(job.key, "train"),
            checkpoints,
            writers,
            stop,
        )
    finally:
        checkpoints.close()


def test(job: Job, variables: Any) -> dict[str, float]:
    """Ideal hardware: loss and accuracy on the validation and test splits."""
    evaluate = loop.evaluator(job.recipe, 500)
    return {
        f"{split}_{name}": value
        for split in ("valid", "test")
        for name, value in evaluate(variables, job.splits[split]).items()
    }


def one_chip(job: Job, variables: Any) -> Any:
    """The parameters on the first chip of the study."""
    key = first_chip(stream(job.key, "study"))
    # Compiled: one program, not hundreds.
    return jax.jit(hardware.deploy)(key, variables["params"], job.spec)


def ledger(job: Job, variables: Any) -> dict[str, Any]:
    """The energy of one example, layer by layer, beside a digital device."""
    example = job.splits["test"].x[:1]
    forward = functools.partial(job.recipe.forward, mutable=["counts"])
    _, changed = jax.jit(forward)(variables, example)
    leaves, _ = jax.tree_util.tree_flatten_with_path(
        variables["params"], is_leaf=hardware.is_weight
    )
    rows = []
    for path, leaf in leaves:
        if not hardware.is_weight(leaf):  # Digital, such as a bias.
            continue
        counts = changed["counts"]
        for part in path[:-1]:
            counts = counts[part.key]
        name = "/".join(part.key for part in path[:-1])
        vectors = int(sum(int(v) for v in counts["vectors"]))
        rows.append(energy.layer(name, leaf, vectors, job.costs))
    priced = job.costs._asdict()
    return {
        "layers": [{**r._asdict(), "joules": r.joules} for r in rows],
        "joules_digital": sum(r.joules_digital for r in rows),
        **energy.compare(rows, job.costs)._asdict(),
        "assumptions": {
            name: {"value": value, "source": _SOURCES.get(name, "unknown")}
            for name, value in priced.items()
        },
    }


def _pictures(path: Path, variables: Any, chip: Any) -> None:
    """What the report draws: conductance maps and the mask's density."""
    arrays: dict[str, Any] = {}
    names, kept = [], []
    for (way, leaf), (_, trained) in zip(
        _named(chip), _named(variables["params"]), strict=True
    ):
        if not hardware.is_weight(leaf):  # Digital, such as a bias.
            continue
        g = interleave(leaf.conductance())
        arrays[f"conductance/{way}"] = np.asarray(g, np.float32)
        if isinstance(trained, hardware.MaskedRandom):
            names.append(way)
            kept.append(float(trained.mask.mean()))
    arrays["sparsity_names"] = np.array(names, dtype=str)
    arrays["sparsity_kept"] = np.array(kept)
    np.savez_compressed(path, **arrays)


def interleave(pairs: Any) -> np.ndarray:
    """Pairs side by side, as they lie in the array: [2, I, O] to [I, 2 O]."""
    pairs = np.reshape(pairs, (-1, *np.shape(pairs)[-2:]))  # Slices too.
    return np.moveaxis(pairs, 0, -1).reshape(pairs.shape[1], -1)


def _named(params: Any) -> list[tuple[str, Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(
        params, is_leaf=hardware.is_weight
    )
    return [("/".join(p.key for p in path[:-1]), leaf) for path, leaf in leaves]


@contextlib.contextmanager
def _timing(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[stage] = round(time.monotonic() - start, 3)


def _before(folder: Path) -> dict[str, Any]:
    """Study, and seconds by stage, of an earlier call that came to its end."""
    try:
        summary = json.loads((folder / "summary.json").read_text())
        rows = summary["seconds"].items()
        seconds = {str(stage): float(value) for stage, value in rows}
        return {"study": summary["study"], "seconds": seconds}
    except Exception:  # noqa: BLE001 - none, or damaged: it is written anew
        return {"study": None, "seconds": {}}


def _json(value: Any) -> Any:
    """Arrays as numbers, NaN as null, for a file that any reader takes."""
    if isinstance(value, Mapping):
        return {key: _json(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(entry) for entry in value]
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
