"""The stages of a run: train, test, study, price, report."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import functools
import importlib.metadata
import json
from pathlib import Path
import shutil
import time
from typing import Any, NamedTuple
import warnings

import jax
import numpy as np

from jaxedge import data, hardware, recipes
from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.hardware import digital, energy, sram
from jaxedge.models import arrays
from jaxedge.recipes import settings, steps
from jaxedge.recipes.recipe import Recipe
from jaxedge.run import (
    cells,
    clients,
    exhibits,
    hosts,
    informed,
    ledger,
    loop,
    macros,
    metrics,
    pair_maker,
    reliability,
    report,
    results,
    settle,
    study,
    sweeps,
    synthesis,
    variation,
    workdir,
)
from jaxedge.run.checkpoint import Checkpoints
from jaxedge.run.chips import first_chip, wafer

_PACKAGES = ("jaxedge", "jax", "jaxlib", "flax", "optax", "numpy")
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
        data_root: the folder of data sets, as it was given.
    """

    config: Mapping[str, Any]
    given: Any
    recipe: Recipe
    splits: Mapping[str, data.Source]
    spec: settings.Design
    chips: study.Chips
    swept: tuple[sweeps.Sweep, ...]
    costs: energy.Costs
    key: jax.Array
    data_root: str | None = None

    @property
    def samples(self) -> Any:
        """Training inputs that a chip sets its converters with, [B, ...]."""
        train = self.splits["train"]
        # Of pairs of images only what is given of the first: the rest is blank.
        given = (train.aux or {}).get("has_first", np.ones(len(train.y)))
        return train.x[np.flatnonzero(given)[: self.chips.batch]]


def resolve(config: Any, data_root: str | None) -> Job:
    """Checks a whole config and loads its data; creates nothing.

    Raises:
        UsageError: for anything the user has to mend.
    """
    module = recipes.get(config.recipe)
    sections = getattr(module, "sections", lambda config: ())
    known = {*_OWN, *(sections(config) or module.Settings._fields)}
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
        split: data.load(
            given.data.name, split, data_root, **given.data.options
        )
        for split in data.SPLITS
    }
    rows = len(splits["train"].y)
    if prepares := hasattr(module, "prepare"):
        splits, rows = module.prepare(given, splits)
    if given.train.batch > rows:
        raise checks.UsageError(
            f"train.batch is {given.train.batch}, but the training split of"
            f" {given.data.name} has {rows} examples in an epoch."
        )
    _check_learned_ranges(given)
    key = jax.random.key(config.seed)
    recipe = module.build(
        given,
        splits["train"].x[:1],
        len(splits["train"].classes),
        rows // given.train.batch,
        data_root,
        first_chip(stream(key, "study")),
        **({"splits": splits} if prepares else {}),
    )
    settle.check_lessons(recipe, splits["train"])
    spec = settings.make_plan(given.hardware)
    if unused := settings.unused(given.hardware):
        warnings.warn(
            f"hardware.device is {given.hardware.device!r}, which does not look"
            f" at these fields of config.hardware: {', '.join(unused)}.",
            stacklevel=2,
        )
    chips = _distinct(chips, spec, given)

    def params() -> Any:
        key = jax.random.key(0)
        start = jax.eval_shape(lambda k: recipe.finish(recipe.init(k)), key)
        return start["params"]

    swept = sweeps.parse(
        config.study,
        chips.levels,
        spec,
        lambda: sweeps.layers(params(), spec),
    )
    _check_ranges(swept, params, spec)
    return Job(
        workdir.plain(config),
        given,
        recipe,
        splits,
        spec,
        chips,
        swept,
        costs,
        key,
        data_root,
    )


def _check_learned_ranges(given: Any) -> None:
    """Raises if ranges are to be learned of converters that do not exist."""
    # Recipes without a gradient have no such field.
    learned = getattr(given.train, "input_ranges", False)
    if learned and given.hardware.device in digital.PRESETS:
        raise checks.UsageError(
            f"train.input_ranges is true, but {given.hardware.device} takes its"
            " scales from the inputs of the moment and has no range to learn;"
            " choose false."
        )


def _are_alike(spec: settings.Design, given: Any) -> bool:
    """Whether all chips of a design are one."""
    # By gradient a chip learns its readout from examples that its key draws.
    learns = getattr(given, "learn", None)
    drawn = getattr(learns, "readout", None) == "adam"
    return isinstance(spec, digital.Spec) and not drawn


def _distinct(
    chips: study.Chips, spec: settings.Design, given: Any
) -> study.Chips:
    """No more chips than differ."""
    asked = max(chips.n, chips.sweep)
    if not _are_alike(spec, given) or asked <= 1:
        return chips
    warnings.warn(
        f"config.chips asks for {asked:,} chips, but those of"
        f" {given.hardware.device} are all alike: one is computed.",
        stacklevel=3,
    )
    return chips._replace(n=1, sweep=min(chips.sweep, 1))


def _check_ranges(
    swept: Sequence[sweeps.Sweep],
    params: Callable[[], Any],
    spec: settings.Design,
) -> None:
    """Raises if a study sweeps what the hardware sets by itself."""
    for name in ("fold", "lsb_units"):
        given = getattr(spec, "clip_rate", None) is not None
        if given and any(sweep.field == name for sweep in swept):
            raise checks.UsageError(
                f"the study sweeps {name}, but every layer chooses its own"
                " (hardware.macro.clip_rate); add"
                " --config.hardware.macro.clip_rate=None."
            )
    if not any(sweep.field == "input_percentile" for sweep in swept):
        return
    leaves = jax.tree.leaves(params(), is_leaf=hardware.is_weight)
    if any(isinstance(leaf, hardware.Ranged) for leaf in leaves):
        raise checks.UsageError(
            "the study sweeps input_percentile, but every layer learns its"
            " input range (train.input_ranges); leave the sweep out."
        )


def run(job: Job, folder: Path, stop: loop.Stop | None = None) -> Path:
    """All stages; goes on where an earlier call was stopped.

    Processes of `jax.distributed` call it alike, with a folder that all of
    them see: they train together (`train.devices` "all"), or each the same,
    and share the chips.

    Returns:
        The path of the report.
    """
    workdir.check(folder, job.config, study=False)
    if hosts.leads():
        workdir.create(folder, job.config)
    hosts.wait()  # For a folder that all of them see.
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
    per_epoch = loop.steps_per_epoch(
        job.recipe, job.splits["train"], given.batch
    )
    return given.epochs * per_epoch


def _stages(job: Job, folder: Path, stop: loop.Stop | None) -> Path:
    seconds: dict[str, float] = {}
    before = _before(folder)
    steps = (folder / "checkpoints").glob(str(_total(job)))
    done = {"train"} if any(steps) else set()
    with _timing(seconds, "train"):
        state = train(job, folder, stop)
    variables = jax.jit(job.recipe.finish)(state)
    if hosts.leads():
        arrays.save(folder / arrays.FILE, variables)
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
        first = {**variables, "params": chip}
        layers = macros.layers(job.recipe, first, job.samples)
        priced = ledger.count(
            job.recipe,
            first,
            job.splits["test"].x[:1],
            job.costs,
            macros.drops(layers),
        )
        priced["joules_programming"] = (
            energy.programming_joules(
                counts["sets"],
                counts["resets"] + counts["initial_resets"],
                job.costs,
            )
            if "sets" in counts
            else None
        )
    numbers = cells.stored(variables["params"], chip)
    with _timing(seconds, "pictures"):
        pictures(job, variables, chip, folder / "pictures.npz", state)
    made = synthesis.numbers(results.Archive(folder / "pictures.npz"))
    content = {
        "config": job.config,
        "metrics": {**tested, **counts},
        **{part: found[part] for part in ("study", "score", "sweeps")},
        "chips": {
            **found["chips"],
            "images": len(job.splits["test"].y[: job.chips.images]),
        },
        "energy": priced,
        **({"macros": layers} if layers else {}),
        **({"numbers": numbers} if numbers else {}),
        **({"synthesis": made} if made else {}),
        "seconds": seconds,
        "versions": {
            name: importlib.metadata.version(name) for name in _PACKAGES
        },
    }
    workdir.write_json(folder / "summary.json", content)
    with _timing(seconds, "report"):
        page = report.write(folder)
    workdir.write_json(folder / "summary.json", content)
    return page


def _found(job: Job, result: study.Study) -> dict[str, Any]:
    """What a study says, for the record that lies beside its arrays."""
    threshold = job.chips.threshold
    # Recipes without a gradient have no such field.
    trained = getattr(job.given.train, "hardware", None) == "one_chip"
    alike = {"alike": True} if _are_alike(job.spec, job.given) else {}
    return {
        "study": result.name,
        "words": job.config["study"],
        "hardware": job.config["hardware"],
        "score": job.recipe.score,
        "chips": {**study.summary(result, threshold, trained), **alike},
        "sweeps": study.swept_summary(result, threshold),
    }


def _keep(folder: Path, found: Mapping[str, Any]) -> None:
    """Notes a finished study, and makes its arrays those of the run."""
    path = folder / "studies" / f"{found['study']}.npz"
    workdir.write_json(path.with_suffix(".json"), found)
    temporary = folder / ".study.npz.tmp"
    shutil.copyfile(path, temporary)
    temporary.replace(folder / "study.npz")


def train(job: Job, folder: Path, stop: loop.Stop | None = None) -> Any:
    """Trains, or restores what was trained; returns the best state."""
    checkpoints = _checkpoints(job, folder)

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
    # Recipes without a gradient have no such field.
    watches = getattr(given, "watch", False)
    try:
        return loop.train(
            job.recipe,
            {
                "train": job.splits["train"],
                "select": job.splits[given.select_on],
                **({"watch": job.splits["test"]} if watches else {}),
            },
            loop.Plan(
                given.epochs,
                given.batch,
                given.evaluate_every,
                given.checkpoint_every,
                devices=getattr(given, "devices", "one"),
            ),
            stream(job.key, "train"),
            checkpoints,
            writers,
            stop,
            functools.partial(_record, folder),
        )
    finally:
        checkpoints.close()


def _checkpoints(job: Job, folder: Path) -> Checkpoints:
    """Where states are kept, and beside them what the report shows of them."""
    clean, path = hosts.leads(), folder / "checkpoints"
    if not (clean and _makes_pairs(job)):
        return Checkpoints(path, job.recipe.score, clean=clean)
    maker = pair_maker.network(job.given, job.splits)
    finish = jax.jit(job.recipe.finish)
    return pair_maker.Kept(
        path, job.recipe.score, clean, maker, finish, folder / "pairs"
    )


def _makes_pairs(job: Job) -> bool:
    return recipes.get(job.config["recipe"]) is recipes.sequential_gan


def _record(folder: Path, epoch: int, memory: Mapping[str, Any]) -> None:
    """Keeps which examples of the training split an epoch began to see."""
    if hosts.leads():
        clients.keep(folder / "chosen", epoch, memory)


def test(job: Job, variables: Any) -> dict[str, float]:
    """Ideal hardware: the metrics on the validation and test splits."""
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


def pictures(
    job: Job, variables: Any, chip: Any, path: Path, state: Any
) -> None:
    """Writes what the report draws of the network and of its first chip.

    Args:
        job: the job.
        variables: on ideal hardware.
        chip: parameters, from `one_chip`.
        path: of the npz file.
        state: that training left.
    """
    key, splits = wafer(stream(job.key, "study"), 1)[0], job.splits
    samples = job.samples if settle.calibrated(job.spec) else None
    test = study.readings(
        job.recipe, splits["test"], job.chips, samples, splits["train"]
    )
    finish = jax.jit(functools.partial(settle.settled, job.recipe))
    settled = finish(key, {**variables, "params": chip}, test)
    drawn = cells.collect(variables["params"], chip)
    if isinstance(job.spec, sram.Spec):
        config = job.spec.config
        drawn |= macros.collect(config, stream(job.key, "converters"))
    pair = exhibits.Pair(variables, settled)
    classes = splits["test"].classes
    drawn |= exhibits.collect(job.recipe, pair, test, classes, key)
    drawn |= reliability.collect(job.recipe, pair, test, len(classes), key)
    drawn |= _clients(job, path.parent / "chosen")
    drawn |= _informed(job, pair, test, key)
    drawn |= _synthesis(job, pair, path.parent / "pairs", key)
    drawn |= _variation(job, variables, state)
    np.savez_compressed(path, **drawn)  # type: ignore[arg-type]


def _clients(job: Job, folder: Path) -> dict[str, np.ndarray]:
    """What the report shows of clients; nothing where there are none."""
    module = recipes.get(job.config["recipe"])
    if not hasattr(module, "names"):
        return {}
    chosen = None if job.recipe.subset is None else folder
    return clients.collect(module.names(job.given), job.splits, chosen)


def _informed(
    job: Job, pair: exhibits.Pair, test: study.Frames, key: jax.Array
) -> dict[str, np.ndarray]:
    """What the report shows of radiomics; nothing where there are none."""
    if recipes.get(job.config["recipe"]) is not recipes.ridl:
        return {}
    networks = informed.Networks(_start(job), *pair)
    return informed.collect(job.recipe, networks, test, job.splits, key)


def _synthesis(
    job: Job, pair: exhibits.Pair, kept: Path, key: jax.Array
) -> dict[str, np.ndarray]:
    """What the report shows of made pairs; nothing where there are none."""
    if not _makes_pairs(job):
        return {}
    networks = synthesis.Networks(_start(job), *pair)
    return synthesis.collect(
        job.given, networks, job.splits, kept, key, job.data_root
    )


def _variation(job: Job, variables: Any, state: Any) -> dict[str, np.ndarray]:
    """What the report shows of learned grids; nothing where there are none."""
    module = recipes.get(job.config["recipe"])
    if module is not recipes.quantization_aware:
        return {}
    trackers = steps.trackers(state.memory)
    return variation.collect(
        job.recipe, variables, trackers, job.splits["valid"]
    )


def _start(job: Job) -> Any:
    """The network that training began with."""
    begin = jax.jit(job.recipe.init)(stream(stream(job.key, "train"), "init"))
    return jax.jit(job.recipe.finish)(begin)


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
