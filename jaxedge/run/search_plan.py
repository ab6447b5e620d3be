"""The folder of a sweep: its runs, their names, and whose folder it is."""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
import re
from typing import Any, NamedTuple

from jaxedge.core import checks
from jaxedge.run import workdir
from jaxedge.run.search_points import Point

FILE = "sweep.json"
# Letters of a name that come from a point.
_LETTERS = 60


class Run(NamedTuple):
    """One run of a sweep.

    Attributes:
        name: of its workdir in the folder of the sweep.
        point: fields that it sets, as text.
    """

    name: str
    point: Mapping[str, str]

    @property
    def flags(self) -> list[str]:
        """The flags that set its fields."""
        return [f"--config.{name}={text}" for name, text in self.point.items()]


def name(points: Sequence[Point], seeds: int | None, first: int) -> list[Run]:
    """Runs of points, with names that more seeds do not change.

    Args:
        points: without seeds.
        seeds: of each point, counted from `first`; None leaves the seed alone.
        first: the seed of the config.

    Raises:
        UsageError: if a point has a seed beside `seeds`.
    """
    if seeds is not None:
        checks.whole("--seeds", seeds, 1)
        if any("seed" in point for point in points):
            raise checks.UsageError(
                "the sweep sets seed, and so does --seeds; leave one out."
            )
    words = _words({field for point in points for field in point})
    runs = []
    for number, point in enumerate(points):
        told = "-".join(
            f"{words[field]}-{_plain(text)}" for field, text in point.items()
        )[:_LETTERS].strip("_.-")
        stem = f"{number:03d}-{told}".strip("-")
        if seeds is None:
            runs.append(Run(stem, point))
            continue
        for seed in range(first, first + seeds):
            runs.append(Run(f"{stem}-seed{seed}", {**point, "seed": str(seed)}))
    return runs


def check(folder: Path, config: Mapping[str, Any], runs: Sequence[Run]) -> None:
    """Raises unless the folder is new, or of this sweep or the start of it.

    Args:
        folder: may not exist.
        config: the plain config that all points change.
        runs: of the sweep; more than were there before are welcome.

    Raises:
        UsageError: naming what differs.
    """
    if (folder / "config.json").is_file():
        raise checks.UsageError(
            f"the workdir {folder} holds a run, not a sweep; choose another"
            " --workdir."
        )
    before = read(folder)
    if before is None:
        return
    there, here = workdir.flat(before["config"]), workdir.flat(config)
    differ = [
        f"{field}: {there.get(field, 'absent')!r} there,"
        f" {here.get(field, 'absent')!r} now"
        for field in sorted(there | here)
        if there.get(field, "absent") != here.get(field, "absent")
    ]
    now = {run.name: dict(run.point) for run in runs}
    differ += [
        f"its run {run.name} is none of this sweep"
        for run in before["runs"]
        if now.get(run.name) != run.point
    ]
    if differ:
        raise checks.UsageError(
            f"the workdir {folder} holds another sweep"
            f" ({'; '.join(differ[:3])}{'; ...' if differ[3:] else ''}); choose"
            " another --workdir."
        )


def write(
    folder: Path, source: str, config: Mapping[str, Any], runs: Sequence[Run]
) -> None:
    """Makes the folder and notes whose sweep it is.

    Raises:
        UsageError: when the folder cannot be made.
    """
    try:
        (folder / "logs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise checks.UsageError(
            f"the workdir {folder} cannot be made ({error.strerror}); choose"
            " another --workdir."
        ) from error
    content = {
        "source": source,
        "config": config,
        "runs": [{"name": run.name, "set": run.point} for run in runs],
    }
    workdir.write_json(folder / FILE, content)


def read(folder: Path) -> dict[str, Any] | None:
    """The config and the runs of a folder; None if it is no sweep's.

    Raises:
        UsageError: for a file that is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        runs = [Run(row["name"], row["set"]) for row in content["runs"]]
        return {"config": dict(content["config"]), "runs": runs}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise checks.UsageError(
            f"{path} cannot be read ({type(error).__name__}: {error}); repeat"
            " the sweep in another --workdir."
        ) from error


def finished(folder: Path) -> bool:
    """Whether a run came to its end: it has numbers and a report."""
    try:
        text = (folder / "summary.json").read_text(encoding="utf-8")
        return "score" in json.loads(text) and (folder / "report.html").exists()
    except (OSError, ValueError, TypeError):
        return False


def log(folder: Path, run: str) -> Path:
    """Where the output of a run goes."""
    return folder / "logs" / f"{run}.log"


def last_line(path: Path) -> str:
    """What a run said last, without the colours of a terminal."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(file.tell() - 8192, 0))
        text = file.read().decode("utf-8", "replace")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    lines = [line.strip() for line in re.split(r"[\r\n]+", plain)]
    return next((line for line in reversed(lines) if line), "")


def _plain(text: str) -> str:
    """A value as part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", text).strip("_")


def _words(fields: set[str]) -> dict[str, str]:
    """The shortest end of each field's path that no other field has."""
    words = {}
    for field in fields:
        parts = field.split(".")
        ends = [".".join(parts[-k:]) for k in range(1, len(parts) + 1)]
        words[field] = next(
            end
            for end in ends
            if sum(f == end or f.endswith("." + end) for f in fields) == 1
            or end == field
        )
    return words
