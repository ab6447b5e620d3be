"""A network on a thousand chips: score, yield, sweeps of the hardware."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import functools
from pathlib import Path
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import Progress

from jaxedge import data, hardware
from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.recipes.recipe import Recipe, add
from jaxedge.recipes.settings import Design
from jaxedge.run import hosts, results, settle, statistics, sweeps, tasks
from jaxedge.run.checkpoint import digest
from jaxedge.run.chips import MODES, chip_map, programming, replicate, wafer
from jaxedge.run.frames import Frames as Frames
from jaxedge.run.frames import frames as frames
from jaxedge.run.frames import prepared
from jaxedge.run.loop import Preempted, Stop

_RATE = "rate/chips"  # Beside the arrays of a finished study.


class Chips(NamedTuple):
    """What to study.

    Attributes:
        n: chips at the hardware of the config.
        threshold: score at which a chip is good.
        sweep: chips at each level of a sweep; 0 sweeps nothing.
        read_noise: levels of relative read noise.
        faults: shares of stuck cells, half of them on and half off.
        images: test examples that every chip reads, the first of the split;
            None reads all.
        seconds: times since programming, s.
        adc_bits: resolutions of the ADC; None is exact.
        array: rows and columns of a square tile.
        r_wire: resistances of one segment of wire, ohm.
        batch: test examples read in one frame.
        chunk: chips between two saves.
        mode: as in `chip_map`.
        block: as in `chip_map`; None chooses.
        sigma: multiples of all spreads and noises of an in-SRAM macro.
    """

    n: int
    threshold: float
    sweep: int
    read_noise: tuple[float, ...]
    faults: tuple[float, ...]
    images: int | None
    seconds: tuple[float, ...]
    adc_bits: tuple[int | None, ...]
    array: tuple[int, ...]
    r_wire: tuple[float, ...]
    batch: int
    chunk: int
    mode: str
    block: int | None
    sigma: tuple[float, ...] = ()

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        for name in ("n", "batch", "chunk"):
            checks.whole(f"chips.{name}", getattr(self, name), 1)
        checks.whole("chips.sweep", self.sweep)
        checks.in_range("chips.threshold", self.threshold, 0, 1)
        checks.in_range("chips.read_noise", np.array(self.read_noise), 0)
        checks.in_range("chips.sigma", np.array(self.sigma), 0)
        checks.in_range("chips.faults", np.array(self.faults), 0, 1)
        checks.choice("chips.mode", self.mode, MODES)
        for name in ("images", "block"):
            if getattr(self, name) is not None:
                checks.whole(f"chips.{name}", getattr(self, name), 1)

    @property
    def levels(self) -> dict[str, sweeps.Levels]:
        """The levels of each sweep of `sweeps.STUDIES`, by its name."""
        return {
            "read_noise": self.read_noise,
            "sigma": self.sigma,
            "fault": self.faults,
            "seconds": self.seconds,
            "adc_bits": self.adc_bits,
            "array": self.array,
            "r_wire": self.r_wire,
        }


@functools.cache
def chip_score(recipe: Recipe) -> Callable[..., jax.Array]:
    """A function (key, variables, frames, hardware) -> score of one chip.

    The chip is programmed once from the key's stream "chip", and sets the
    ranges of its converters if there are samples to do so; frame i is read with
    its stream "read", i.
    """

    def score(key, variables, test: Frames, plan) -> jax.Array:
        params = hardware.deploy(programming(key), variables["params"], plan)
        chip = settle.settled(
            recipe, key, {**variables, "params": params}, test
        )
        test = Frames(*test[:3], aux=test.aux)

        def evaluate(i, batch) -> Any:
            return recipe.evaluate(chip, batch, key=stream(key, "read", i))

        def read(total, frame):
            return add(total, evaluate(*frame)), None

        steps = (jnp.arange(len(test.y)), test)
        shapes = jax.eval_shape(evaluate, *jax.tree.map(lambda a: a[0], steps))
        zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        total, _ = jax.lax.scan(read, zero, steps)
        return recipe.measure(total)[recipe.score]

    return score


class Study(NamedTuple):
    """Results of a study.

    Attributes:
        arrays: "score" [C]; for each sweep "<name>_levels" [L] and
            "<name>_score" [L, sweep].
        chips_per_second: after compilation, as last measured.
        computed: whether this call computed any chip.
        name: of the study; equal for equal questions to an equal network.
    """

    arrays: Mapping[str, np.ndarray]
    chips_per_second: float
    computed: bool = True
    name: str = ""


def run(
    recipe: Recipe,
    variables: Any,
    source: data.Source,
    spec: Design,
    chips: Chips,
    swept: Sequence[sweeps.Sweep],
    key: jax.Array,
    folder: Path,
    stop: Stop | None = None,
    samples: Any = None,
    lessons: data.Source | None = None,
) -> Study:
    """Measures every chip, saving as it goes; a second call goes on.

    Each hardware has a stream of its own in the folder, named by what
    determines its chips. So studies lie beside each other, share the chips
    that they have in common, and a study of more chips computes only those.

    Under `jax.distributed` every process calls this with equal arguments: the
    chips are spread over all of them, and the first one writes.

    Args:
        recipe: how the network is evaluated.
        variables: from `recipe.finish`.
        source: test set.
        spec: hardware of every layer.
        chips: how many chips, and how they are computed.
        swept: from `sweeps.parse`.
        key: chips are a prefix of its stream "chips", the same at every level
            of a sweep.
        folder: of the finished study (`<name>.npz`) and of the streams
            (`chips/<point>.jsonl`); made if missing.
        stop: looked at between chunks.
        samples: inputs [B, ...] to set converters with; needed where the
            hardware has percentiles to set them by.
        lessons: what chips learn from, the first of them as many as the recipe
            asks for.

    Raises:
        Preempted: when `stop` was asked; what is done is saved.
    """
    if not settle.calibrated(spec, swept):
        samples = None
    elif samples is None:
        raise checks.UsageError(
            "the hardware has a percentile to set its converters by, but there"
            " are no samples; give some inputs of the network."
        )
    test = readings(recipe, source, chips, samples, lessons)
    known = (variables, test, jax.random.key_data(key))
    network = f"{recipe.score} {digest(jax.device_get(known))}"
    plan = tasks.plan(spec, swept, chips.n, chips.sweep, network)
    if hosts.leads():
        (folder / "chips").mkdir(parents=True, exist_ok=True)
    clock = _compute(
        recipe,
        (variables, prepared(recipe, test)),
        chips,
        key,
        plan.wanted(),
        folder,
        stop,
    )
    path = folder / f"{plan.name}.npz"
    rate = clock.rate() if clock.ran else _rate_before(path)
    if hosts.leads():
        results.write(path, {**_arrays(plan, folder), _RATE: np.array(rate)})
    return Study(_shared(plan, path), rate, clock.ran, plan.name)


def readings(
    recipe: Recipe,
    source: data.Source,
    chips: Chips,
    samples: Any = None,
    lessons: data.Source | None = None,
) -> Frames:
    """What every chip of a study reads; the arguments are those of `run`."""
    test = frames(_first(source, chips.images), chips.batch)
    if samples is not None:
        test = test._replace(samples=jnp.asarray(samples))
    settle.check_lessons(recipe, lessons)
    if recipe.adapt is not None and lessons is not None:
        given = _first(lessons, recipe.lessons)
        test = test._replace(lessons=frames(given, chips.batch))
    return test


def _first(source: data.Source, n: int | None) -> data.Source:
    known = source.aux and {k: v[:n] for k, v in source.aux.items()}
    return source._replace(x=source.x[:n], y=source.y[:n], aux=known)


def summary(
    study: Study, threshold: float, trained: bool = False
) -> dict[str, float | int]:
    """The figures of the chips; of the first too if it was `trained` for."""
    score = study.arrays["score"]
    first = {"trained_chip": float(score[0])} if trained else {}
    return {
        **first,
        "n": int(score.size),
        **statistics.describe(score, threshold),
        "threshold": threshold,
        "confidence": statistics.CONFIDENCE,
        "chips_per_second": study.chips_per_second,
    }


def swept_summary(
    study: Study, threshold: float
) -> dict[str, dict[str, list[Any]]]:
    """By sweep: the levels, and lists of figures with one entry a level."""
    found = {}
    for name in study.arrays:
        if not name.endswith("_levels"):
            continue
        sweep = name.removesuffix("_levels")
        rows = [
            statistics.describe(row, threshold)
            for row in study.arrays[f"{sweep}_score"]
        ]
        columns = {k: [row[k] for row in rows] for k in rows[0]}
        found[sweep] = {"levels": study.arrays[name].tolist(), **columns}
    return found


def _compute(
    recipe: Recipe,
    args: tuple[Any, Frames],
    chips: Chips,
    key: jax.Array,
    wanted: Mapping[str, tasks.Task],
    folder: Path,
    stop: Stop | None,
) -> "_Clock":
    """Brings every stream to its length, chunk by chunk."""
    f, args = chip_score(recipe), replicate(args)
    streams = {point: _stream(folder, point) for point in wanted}
    done = [streams[point].mend() if hosts.leads() else 0 for point in wanted]
    done = hosts.agree(np.array(done, np.int64)).tolist()
    counts = [task.n for task in wanted.values()]
    keys, total = wafer(key, max(counts)), sum(counts)
    finished = sum(map(min, done, counts))
    clock = _Clock()
    with Progress(disable=not hosts.leads()) as progress:
        bar = progress.add_task("chips", total=total, completed=finished)
        for (point, task), start in zip(wanted.items(), done, strict=True):
            for first in range(start, task.n, chips.chunk):
                if hosts.any_of(stop is not None and stop.asked):
                    raise Preempted(
                        f"stopped after {finished} of {total} chips"
                    )
                count = min(chips.chunk, task.n - first)
                with clock.timing(count):
                    row = _chunk(f, keys, first, (*args, task.hardware), chips)
                if hosts.leads():
                    streams[point].append(row[:count])
                finished += count
                progress.advance(bar, count)
    return clock


def _chunk(f, keys, start, args, chips: Chips) -> np.ndarray:
    """Chips [start, start + chunk), in a program that all chunks share."""
    size = min(chips.chunk, max(chips.n, chips.sweep))
    index = np.minimum(np.arange(start, start + size), keys.size - 1)
    out = chip_map(
        f, keys[index], args=args, mode=chips.mode, block=chips.block
    )
    return np.asarray(out)


def _arrays(
    plan: tasks.Plan, folder: Path
) -> dict[str, np.ndarray | results.Rows]:
    """What the archive of a study holds, read from its streams."""

    def read(task: tasks.Task) -> np.ndarray:
        return _stream(folder, task.point).read(task.n)

    arrays: dict[str, Any] = {"score": read(plan.base)}
    for sweep, row in plan.rows:
        shape = (len(row), row[0].n)
        arrays[f"{sweep.name}_levels"] = sweeps.as_array(sweep.levels)
        arrays[f"{sweep.name}_score"] = results.Rows(shape, map(read, row))
    return arrays


def _shared(plan: tasks.Plan, path: Path) -> Mapping[str, np.ndarray]:
    """The arrays of a finished study, on every process."""
    stored = results.Archive(path, hide=(_RATE,))
    if jax.process_count() == 1:
        return stored

    def share(name: str, *shape: int) -> np.ndarray:
        own = stored[name] if hosts.leads() else np.zeros(shape, np.float32)
        return np.asarray(hosts.agree(own))

    arrays = {"score": share("score", plan.base.n)}
    for sweep, row in plan.rows:
        name = f"{sweep.name}_score"
        arrays[f"{sweep.name}_levels"] = sweeps.as_array(sweep.levels)
        arrays[name] = share(name, len(row), row[0].n)
    return arrays


def _stream(folder: Path, point: str) -> results.Stream:
    return results.Stream(folder / "chips" / f"{point}.jsonl")


def _rate_before(path: Path) -> float:
    """Chips a second that an earlier call measured, NaN if none did."""
    try:
        return float(results.Archive(path)[_RATE])
    except (checks.UsageError, KeyError):  # It is written anew.
        return float("nan")


class _Clock:
    """Times chunks."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, float]] = []

    @contextlib.contextmanager
    def timing(self, count: int) -> Iterator[None]:
        """Adds the time that `count` chips take in a `with` block."""
        start = time.monotonic()
        yield
        self._rows.append((count, time.monotonic() - start))

    @property
    def ran(self) -> bool:
        """Whether any chunk was timed."""
        return bool(self._rows)

    def rate(self) -> float:
        """Chips a second without the first chunk, which compiles."""
        rows = self._rows[1:] or self._rows
        seconds = sum(s for _, s in rows)
        return sum(n for n, _ in rows) / seconds if seconds else float("nan")
