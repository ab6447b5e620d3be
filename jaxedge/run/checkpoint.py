"""Checkpoints on orbax: latest and best kept, corrupt ones passed over."""

from collections.abc import Iterator, Mapping
import json
import logging
from pathlib import Path
import shutil
from typing import Any
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxedge.core import checks
from jaxedge.core.trees import path_name
from jaxedge.run import hosts

_LOG = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run.

    Keeps the two latest, so that one may be lost, and the best by `metric`.
    Saving is asynchronous. A checkpoint carries a digest of its arrays; one
    that cannot be read, or whose digest differs, is passed over with a
    warning and the one before it used.

    Args:
        folder: created if missing.
        metric: name of the metric whose largest value is best.
        clean: removes what a killed process left half-written; for the one
            process that writes here.
    """

    def __init__(self, folder: str | Path, metric: str, clean: bool = False):
        policy = ocp.checkpoint_managers

        def value(metrics: Mapping[str, float] | None) -> float:
            return (metrics or {metric: -np.inf})[metric]

        self._metric = metric
        # orbax refuses relative paths with pages of traceback.
        self._folder = Path(folder).resolve()
        self._drop_unreadable_metrics()
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policy.AnyPreservationPolicy(
                    [
                        policy.LatestN(2),
                        policy.BestN(get_metric_fn=value, n=1),
                    ]
                ),
                # Without a best_fn orbax does not put metrics on disk.
                best_fn=value,
                create=True,
                cleanup_tmp_directories=clean,
            ),
        )

    def save(
        self, step: int, tree: Any, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Saves `tree` as `step` in the background.

        Args:
            step: steps done; a step that is on disk already is left alone.
            tree: pytree of arrays and keys.
            metrics: what the best is chosen by; None or NaN is never it.
        """
        if step in self._manager.all_steps():
            return
        host = jax.device_get(_plain(tree))
        value = float(metrics[self._metric]) if metrics else -np.inf
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(host),
                digest=ocp.args.JsonSave(
                    {"crc32": digest(host), "layout": layout(host)}
                ),
            ),
            # NaN has no rank.
            metrics={self._metric: -np.inf if np.isnan(value) else value},
        )

    def newest_step(self) -> int | None:
        """The newest step on disk, sound or not."""
        return self._manager.latest_step()

    def latest(self, like: Any) -> tuple[int, Any] | None:
        """The newest sound checkpoint as (step, tree), None if there is none.

        Unsound ones are set aside, so that their steps can be saved again.

        Args:
            like: pytree of arrays or `jax.ShapeDtypeStruct`, for structure.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        return next(self._sound(steps, like, remove=True), None)

    def best(self, like: Any) -> tuple[int, Any] | None:
        """The sound checkpoint with the largest metric, the latest of ties.

        Returns:
            (step, tree), or None if there is none.
        """
        ranked = sorted(
            self._manager.all_steps(), key=lambda s: (-self._value(s), -s)
        )
        return next(self._sound(ranked, like, remove=False), None)

    def close(self) -> None:
        """Waits for saves under way."""
        self._manager.wait_until_finished()
        self._manager.close()

    def wait(self) -> None:
        """Waits until every save is on disk."""
        self._manager.wait_until_finished()

    def _drop_unreadable_metrics(self) -> None:
        """Removes steps whose metrics are damaged: orbax fails to open them."""
        for path in self._folder.glob("*/metrics/metrics"):
            step = path.parents[1]
            try:
                float(json.loads(path.read_bytes())[self._metric])
            except Exception as error:  # noqa: BLE001 - any damage will do
                if step.name.isdigit():
                    self._warn(step.name, error)
                    self._set_aside(step.name)

    def _value(self, step: int) -> float:
        try:
            return float(self._manager.metrics(step)[self._metric])  # type: ignore
        except Exception as error:  # noqa: BLE001 - damage means: not the best
            self._warn(step, error)
            return -np.inf

    def _warn(self, step: int | str, error: Exception) -> None:
        reason = str(error).strip().split("\n")[0][:200]
        _LOG.warning(
            "checkpoint %s of %s is damaged (%s: %s); trying the one before"
            " it.",
            step,
            self._folder,
            type(error).__name__,
            reason,
        )

    def _sound(
        self, steps: list[int], like: Any, remove: bool
    ) -> Iterator[tuple[int, Any]]:
        for step in steps:
            found, error = None, None
            try:
                found = self._load(step, like)
            except checks.UsageError:
                raise
            except Exception as raised:  # noqa: BLE001 - orbax raises anything
                error = raised
                self._warn(step, error)
            # What one process cannot read, none of them takes.
            if not hosts.any_of(error is not None):
                yield step, found
            elif remove:
                self._set_aside(str(step))
                hosts.wait()
                self._manager.reload()

    def _set_aside(self, step: str) -> None:
        """Moves a damaged checkpoint away, so that nothing is lost."""
        if not hosts.leads():
            return
        aside = self._folder.with_name(f"{self._folder.name}-damaged")
        aside.mkdir(exist_ok=True)
        number = sum(1 for _ in aside.iterdir())
        shutil.move(self._folder / step, aside / f"{step}-{number}")

    def _load(self, step: int, like: Any) -> Any:
        shapes = jax.eval_shape(_plain, like)
        target = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)
        only = ocp.args.Composite(digest=ocp.args.JsonRestore())
        note = self._manager.restore(step, args=only)["digest"]
        if note["layout"] != layout(target):
            raise checks.UsageError(
                f"checkpoint {step} of {self._folder} holds another state than"
                " this program's: it was written by another version of jaxedge"
                " or of its optimiser. Use that version, or choose another"
                " --workdir."
            )
        found = self._manager.restore(
            step,
            args=ocp.args.Composite(state=ocp.args.StandardRestore(target)),
        )
        if digest(found["state"]) != note["crc32"]:
            raise ValueError("its arrays differ from their digest")
        return _restored(like, found["state"])


def digest(tree: Any) -> int:
    """CRC-32 over the bytes, shapes and types of all leaves, in order."""
    crc = 0
    for leaf in jax.tree.leaves(tree):
        array = np.ascontiguousarray(leaf)
        crc = zlib.crc32(f"{array.dtype}{array.shape}".encode(), crc)
        crc = zlib.crc32(array.tobytes(), crc)
    return crc


def layout(tree: Any) -> int:
    """CRC-32 over the paths, shapes and types of all leaves."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    lines = [f"{path_name(p)} {a.shape} {a.dtype}" for p, a in leaves]
    return zlib.crc32("\n".join(lines).encode())


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(tree: Any) -> Any:
    """Typed keys as their numbers, so that every leaf is an array."""
    return jax.tree.map(
        lambda a: jax.random.key_data(a) if _is_key(a) else a, tree
    )


def _restored(like: Any, plain: Any) -> Any:
    """`plain` with the keys and dtypes of `like`, on the device."""

    def one(old: Any, new: Any) -> jax.Array:
        array = jnp.asarray(new)
        return jax.random.wrap_key_data(array) if _is_key(old) else array

    return jax.tree.map(one, like, plain)
