"""What a sweep shows while it runs: a line for each run that is at work."""

import contextlib
import json
from pathlib import Path

from rich import markup
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)


class Board:
    """Lines of runs; those that have ended stay above, those at work move.

    Args:
        total: runs of the sweep.
    """

    def __init__(self, total: int):
        console = Console()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,  # Then only lines that stay.
        )
        self._tasks: dict[str, TaskID] = {}
        self._epochs: dict[str, int] = {}
        self._all = self._progress.add_task("runs", total=total, note="")

    def __enter__(self) -> "Board":
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def begin(self, name: str, epochs: int) -> None:
        """A run of so many epochs starts."""
        self._epochs[name] = epochs
        self._tasks[name] = self._progress.add_task(
            markup.escape(name), total=epochs or None, note=""
        )

    def look(self, name: str, folder: Path) -> None:
        """Moves the line of a run to what its workdir tells."""
        done, total = epoch(folder / "metrics.jsonl"), self._epochs[name]
        trained = done >= total
        note = "chips" if trained else f"epoch {done} of {total}"
        if not (folder / "config.json").exists():
            note = "starting"
        self._progress.update(self._tasks[name], completed=done, note=note)

    def end(self, name: str, words: str) -> None:
        """Replaces the line of a run by what became of it."""
        self._progress.remove_task(self._tasks.pop(name))
        self._progress.advance(self._all)
        self.say(f"{name}: {words}")

    def say(self, words: str) -> None:
        """A line that stays."""
        self._progress.console.print(
            markup.escape(words), highlight=False, soft_wrap=True
        )


def epoch(path: Path) -> int:
    """The last epoch that a file of metrics tells of; 0 before the first."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(file.tell() - 65536, 0))
        for line in reversed(file.read().splitlines()):
            with contextlib.suppress(ValueError, TypeError, AttributeError):
                return int(json.loads(line).get("epoch", 0))
    return 0
