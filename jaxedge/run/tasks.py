"""What a study has to compute: its hardware, its chips, where they are kept."""

from collections.abc import Sequence
import hashlib
from typing import NamedTuple

import jax

from jaxedge.recipes.settings import Design
from jaxedge.run import sweeps
from jaxedge.run.checkpoint import digest

# Raised whenever equal settings give other chips, so that none are mixed.
_PHYSICS = 4


class Task(NamedTuple):
    """The first chips on one hardware.

    Attributes:
        hardware: of every layer.
        n: chips.
        point: name of what determines them: network, data, key, hardware.
    """

    hardware: sweeps.Hardware
    n: int
    point: str


class Row(NamedTuple):
    """A sweep, and the task of each of its levels."""

    sweep: sweeps.Sweep
    tasks: tuple[Task, ...]


class Plan(NamedTuple):
    """The tasks of a study.

    Attributes:
        base: at the hardware of the config.
        rows: of the sweeps.
    """

    base: Task
    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        """Tells what is swept, and differs where any chip or level does."""
        names = "-".join(row.sweep.name for row in self.rows) or "chips"
        same = [self.base[1:]] + [
            (row.sweep.name, row.sweep.levels, [task[1:] for task in row.tasks])
            for row in self.rows
        ]
        return f"{names[:40]}-{_hash(str(same))[:8]}"

    def wanted(self) -> dict[str, Task]:
        """By point, in order, the task that wants the most chips."""
        found = {self.base.point: self.base}
        for task in (task for row in self.rows for task in row.tasks):
            known = found.setdefault(task.point, task)
            found[task.point] = max(known, task, key=lambda task: task.n)
        return found


def plan(
    spec: Design,
    swept: Sequence[sweeps.Sweep],
    n: int,
    sweep: int,
    network: str,
) -> Plan:
    """Every task of a study.

    Args:
        spec: hardware of every layer.
        swept: from `sweeps.parse`.
        n: chips at `spec`.
        sweep: chips at each level; 0 sweeps nothing.
        network: tells the network, the data, the key and the score apart.
    """

    def task(hardware: sweeps.Hardware, n: int) -> Task:
        text = f"{_PHYSICS} {network} {digest(hardware)}"
        point = _hash(f"{text} {jax.tree.structure(hardware)}")[:16]
        return Task(hardware, n, point)

    rows = [
        Row(
            one,
            tuple(
                task(sweeps.apply(one, level, spec), sweep)
                for level in one.levels
            ),
        )
        for one in (swept if sweep else ())
    ]
    return Plan(task(sweeps.to_float32(spec), n), tuple(rows))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
