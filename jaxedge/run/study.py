"""A network on a thousand chips: accuracy, yield, noise and fault sweeps."""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import functools
from pathlib import Path
import time
from typing import Any, NamedTuple
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import Progress

from jaxedge import data, hardware
from jaxedge.core import checks
from jaxedge.core.keys import chip_keys, stream
from jaxedge.hardware import crossbar, devices
from jaxedge.recipes.recipe import Recipe
from jaxedge.run.checkpoint import digest
from jaxedge.run.chips import MODES, chip_map, replicate
from jaxedge.run.loop import Preempted, Stop

_RATE = "rate/chips"  # Beside the chunks in the file of a study.
# Raised whenever equal settings give other chips, so that none are mixed.
_PHYSICS = 2


class Chips(NamedTuple):
    """What to study.

    Attributes:
        n: chips at the hardware of the config.
        threshold: accuracy at which a chip is good.
        sweep: chips at each level of a sweep; 0 sweeps nothing.
        read_noise: levels of relative read noise.
        faults: shares of stuck cells, half of them on and half off.
        images: test examples that every chip reads, the first of the split;
            None reads all.
        batch: test examples read in one frame.
        chunk: chips between two saves.
        mode: as in `chip_map`.
        block: as in `chip_map`; None chooses.
    """

    n: int
    threshold: float
    sweep: int
    read_noise: tuple[float, ...]
    faults: tuple[float, ...]
    images: int | None
    batch: int
    chunk: int
    mode: str
    block: int | None

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        for name in ("n", "batch", "chunk"):
            checks.whole(f"chips.{name}", getattr(self, name), 1)
        checks.whole("chips.sweep", self.sweep)
        checks.in_range("chips.threshold", self.threshold, 0, 1)
        checks.in_range("chips.read_noise", np.array(self.read_noise), 0)
        checks.in_range("chips.faults", np.array(self.faults), 0, 1)
        checks.choice("chips.mode", self.mode, MODES)
        for name in ("images", "block"):
            if getattr(self, name) is not None:
                checks.whole(f"chips.{name}", getattr(self, name), 1)


class Frames(NamedTuple):
    """A test set as frames of one size: x [F, B, ...], y and weight [F, B]."""

    x: jax.Array
    y: jax.Array
    weight: jax.Array


def frames(source: data.Source, batch: int) -> Frames:
    """Stacks a source into frames; padding weighs 0."""
    size = min(batch, len(source.y))
    parts = list(data.in_order(source, size))
    return Frames(*(jnp.asarray(np.stack(a)) for a in zip(*parts, strict=True)))


@functools.cache
def chip_accuracy(recipe: Recipe) -> Callable[..., jax.Array]:
    """A function (key, variables, frames, spec) -> accuracy of one chip.

    The chip is programmed once from the key's stream "chip"; frame i is read
    with its stream "read", i.
    """

    def accuracy(key, variables, test: Frames, spec) -> jax.Array:
        params = hardware.deploy(stream(key, "chip"), variables["params"], spec)
        chip = {**variables, "params": params}

        def read(carry, frame):
            i, batch = frame
            sums = recipe.evaluate(chip, batch, key=stream(key, "read", i))
            right, count = carry
            return (right + sums["accuracy"], count + sums["count"]), None

        zero = jnp.zeros((), jnp.float32)
        steps = (jnp.arange(len(test.x)), test)
        (right, count), _ = jax.lax.scan(read, (zero, zero), steps)
        return right / count

    return accuracy


class Study(NamedTuple):
    """Results of a study.

    Attributes:
        arrays: "accuracy" [C]; for each sweep "<name>_levels" [L] and
            "<name>_accuracy" [L, sweep].
        chips_per_second: after compilation, as last measured.
        computed: whether this call computed any chip.
    """

    arrays: dict[str, np.ndarray]
    chips_per_second: float
    computed: bool = True


class _Task(NamedTuple):
    """One array cell of the study: a hardware level and its chips."""

    name: str
    level: int
    spec: crossbar.Spec
    n: int


def run(
    recipe: Recipe,
    variables: Any,
    source: data.Source,
    spec: crossbar.Spec,
    chips: Chips,
    key: jax.Array,
    path: Path,
    stop: Stop | None = None,
) -> Study:
    """Measures every chip, saving as it goes; a second call goes on.

    Args:
        recipe: how the network is evaluated.
        variables: from `recipe.finish`.
        source: test set.
        spec: hardware of every layer.
        chips: what to study.
        key: chips are a prefix of its stream "chips", the same at every level
            of a sweep.
        path: npz file of the results; beside it a partial file.
        stop: looked at between chunks.

    Raises:
        Preempted: when `stop` was asked; what is done is saved.
    """
    spec = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), spec)
    tasks = list(_tasks(spec, chips))
    rows = slice(chips.images)
    read = source._replace(x=source.x[rows], y=source.y[rows])
    test = frames(read, chips.batch)
    identity = _identity(variables, test, spec, chips, key)
    partial = path.with_suffix(".partial.npz")
    done = _load(path, identity) or _load(partial, identity) or {}
    f = chip_accuracy(recipe)
    variables, test = replicate((variables, test))
    total = sum(task.n for task in tasks)
    clock = _Clock()
    with Progress() as progress:
        bar = progress.add_task("chips", total=total)
        for task in tasks:
            keys = chip_keys(stream(key, "chips"), task.n)
            for start in range(0, task.n, chips.chunk):
                name = f"{task.name}/{task.level}/{start}"
                count = min(chips.chunk, task.n - start)
                if name not in done:
                    if stop is not None and stop.asked:
                        _save(partial, done, identity)
                        raise Preempted(f"stopped after {len(done)} chunks")
                    with clock.timing(count):
                        done[name] = _chunk(
                            f, keys, start, (variables, test, task.spec), chips
                        )
                    if clock.due():
                        _save(partial, done, identity)
                progress.advance(bar, count)
    arrays = _assemble(done, tasks, chips)
    if clock.ran:  # A call that computes nothing keeps what was measured.
        done[_RATE] = np.array(clock.rate())
    _save(path, {**done, **arrays}, identity)
    partial.unlink(missing_ok=True)
    return Study(arrays, float(done.get(_RATE, np.nan)), clock.ran)


def summary(study: Study, threshold: float) -> dict[str, float | int]:
    """The figures of the chips at the config's hardware."""
    accuracy = study.arrays["accuracy"]
    return {
        "n": int(accuracy.size),
        "accuracy_mean": float(accuracy.mean()),
        "accuracy_std": float(accuracy.std()),
        "accuracy_p05": float(np.percentile(accuracy, 5)),
        "accuracy_min": float(accuracy.min()),
        "yield": float((accuracy >= threshold).mean()),
        "threshold": threshold,
        "chips_per_second": study.chips_per_second,
    }


def _tasks(spec: crossbar.Spec, chips: Chips) -> Iterable[_Task]:
    yield _Task("accuracy", 0, spec, chips.n)
    if not chips.sweep:
        return
    for i, level in enumerate(chips.read_noise):
        changed = {"read_noise": level}
        yield _Task("read_noise", i, _with(spec, changed), chips.sweep)
    if not hasattr(spec.device, "stuck_on"):
        faulty = devices.Faulty(spec.device, jnp.float32(0), jnp.float32(0))
        spec = dataclasses.replace(spec, device=faulty)
    for i, level in enumerate(chips.faults):
        changed = {"stuck_on": level / 2, "stuck_off": level / 2}
        yield _Task("fault", i, _with(spec, changed), chips.sweep)


def _with(spec: crossbar.Spec, changed: Mapping[str, float]) -> crossbar.Spec:
    fields = {name: jnp.float32(value) for name, value in changed.items()}
    return dataclasses.replace(spec, device=spec.device.replace(**fields))


def _chunk(f, keys, start, args, chips: Chips) -> np.ndarray:
    """Chips [start, start + chunk), in a program that all chunks share."""
    size = min(chips.chunk, max(chips.n, chips.sweep))
    index = np.minimum(np.arange(start, start + size), keys.size - 1)
    out = chip_map(
        f, keys[index], args=args, mode=chips.mode, block=chips.block
    )
    return np.asarray(out)[: keys.size - start]


def _assemble(
    done: Mapping[str, np.ndarray], tasks: list[_Task], chips: Chips
) -> dict[str, np.ndarray]:
    rows = {
        (task.name, task.level): np.concatenate(
            [
                done[f"{task.name}/{task.level}/{start}"]
                for start in range(0, task.n, chips.chunk)
            ]
        )
        for task in tasks
    }
    arrays = {"accuracy": rows.pop(("accuracy", 0))}
    for name, levels in (
        ("read_noise", chips.read_noise),
        ("fault", chips.faults),
    ):
        found = [row for (task, _), row in rows.items() if task == name]
        if found:
            arrays[f"{name}_levels"] = np.array(levels)
            arrays[f"{name}_accuracy"] = np.stack(found)
    return arrays


def _identity(variables, test, spec, chips: Chips, key) -> int:
    """Tells whether saved chips are those that would be computed now."""
    tree = (variables, test, spec, jax.random.key_data(key))
    # The examples themselves are in `test`.
    same = chips._replace(mode="", block=None, threshold=0.0, images=None)
    text = f"{_PHYSICS}{jax.tree.structure(spec)}{same}"
    return zlib.crc32(text.encode(), digest(jax.device_get(tree)))


def _load(path: Path, identity: int) -> dict[str, np.ndarray] | None:
    """Chunks saved by an equal study; damaged files count as none."""
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            if int(file["identity"]) != identity:
                return None
            return {k: file[k] for k in file.files if "/" in k}
    except Exception:  # noqa: BLE001 - whatever is wrong, it is recomputed
        return None


def _save(path: Path, arrays: Mapping[str, Any], identity: int) -> None:
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, identity=identity, **arrays)
    temporary.replace(path)


class _Clock:
    """Times chunks and says when a save is due (every 2 s at most)."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, float]] = []
        self._saved = time.monotonic()

    def timing(self, count: int) -> "_Timed":
        return _Timed(self._rows, count)

    def due(self) -> bool:
        if time.monotonic() - self._saved < 2:
            return False
        self._saved = time.monotonic()
        return True

    @property
    def ran(self) -> bool:
        """Whether any chunk was timed."""
        return bool(self._rows)

    def rate(self) -> float:
        """Chips a second without the first chunk, which compiles."""
        rows = self._rows[1:] or self._rows
        seconds = sum(s for _, s in rows)
        return sum(n for n, _ in rows) / seconds if seconds else float("nan")


class _Timed:
    """Adds the time of a `with` block to a list."""

    def __init__(self, rows: list[tuple[int, float]], count: int) -> None:
        self._rows, self._count = rows, count

    def __enter__(self) -> None:
        self._start = time.monotonic()

    def __exit__(self, *error: object) -> None:
        self._rows.append((self._count, time.monotonic() - self._start))
