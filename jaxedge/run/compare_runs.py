"""What workdirs tell for a comparison, finished or not."""

from collections.abc import Iterable, Mapping, Sequence
import json
from pathlib import Path
import re
from typing import Any, NamedTuple

import numpy as np

from jaxedge.core import checks
from jaxedge.run import metrics, search_plan, text, workdir

Json = Mapping[str, Any]

# In place of a field that a config lacks.
ABSENT = "absent"
# Parts of a summary that are compared, by the name of their column.
_CHIPS = {
    "chips": "n",
    "chip_mean": "score_mean",
    "chip_std": "score_std",
    "chip_p05": "score_p05",
    "chip_p95": "score_p95",
    "chip_min": "score_min",
    "yield": "yield",
    "yield_low": "yield_low",
    "yield_high": "yield_high",
    "threshold": "threshold",
}
_ENERGY = {
    "joules": "joules_hardware",
    "joules_gpu": "joules_gpu",
    "latency_seconds": "seconds_hardware",
}
_VERSIONS = ("jaxedge", "jax")


class Entry(NamedTuple):
    """A workdir.

    Attributes:
        name: unlike all others.
        folder: where it is.
        state: "finished", "failed", "unfinished", "not started" or "damaged".
        note: what there is to say of one that is not finished.
        fields: of its config, as "section.field".
        summary: of one that is finished.
        rows: of its metrics.
    """

    name: str
    folder: Path
    state: str
    note: str
    fields: Json
    summary: Json | None
    rows: Sequence[Json]

    @property
    def done(self) -> bool:
        """Whether there are numbers to compare."""
        return self.state == "finished"


def find(folders: Sequence[Path]) -> list[Entry]:
    """The runs of workdirs, of folders of sweeps and of folders of workdirs.

    Raises:
        UsageError: for a folder without runs.
    """
    found = dict.fromkeys(
        path.resolve() for folder in folders for path in _workdirs(Path(folder))
    )
    return [_entry(_name(path, found), path) for path in found]


def _name(path: Path, among: Iterable[Path]) -> str:
    """The end of a path that no other has."""
    for parts in range(1, len(path.parts)):
        end = path.parts[-parts:]
        if sum(other.parts[-parts:] == end for other in among) == 1:
            return "/".join(end)
    return str(path)


def _workdirs(folder: Path) -> list[Path]:
    sweep = search_plan.read(folder)
    if sweep is not None:
        return [folder / run.name for run in sweep["runs"]]
    if _is_run(folder):
        return [folder]
    below = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [path for path in below if _is_run(path)]
    if not found:
        raise checks.UsageError(
            f"the folder {folder} holds no run and no sweep; give workdirs of"
            " `jaxedge run` or `jaxedge sweep`."
        )
    return found


def _is_run(folder: Path) -> bool:
    return any(
        (folder / name).is_file() for name in ("config.json", "summary.json")
    )


def _entry(name: str, folder: Path) -> Entry:
    config, summary = (
        _json(folder / f"{part}.json") for part in ("config", "summary")
    )
    rows: list[Json] = []
    state, note = _state(folder, config, summary)
    try:
        if (folder / "metrics.jsonl").is_file():
            rows = list(metrics.read(folder / "metrics.jsonl"))
    except checks.UsageError as error:
        note = note or str(error)
    # `jaxedge chips` studies other hardware, which the summary alone tells.
    if isinstance(summary, dict) and isinstance(summary.get("config"), dict):
        config = summary["config"]
    flat = workdir.flat(config) if isinstance(config, dict) else {}
    if state == "unfinished" and not note:
        note = _progress(rows, flat)
    whole = summary if state == "finished" else None
    return Entry(name, folder, state, note, flat, whole, rows)


def _json(path: Path) -> Any:
    """What a file holds; None without one, the error if it is damaged."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        return error


def _state(folder: Path, config: Any, summary: Any) -> tuple[str, str]:
    if summary is not None:
        whole = isinstance(summary, dict) and all(
            isinstance(summary.get(part), kind)
            for part, kind in (("score", str), ("metrics", dict))
        )
        parts = ("chips", "energy", "seconds", "sweeps")
        whole = whole and all(
            isinstance(summary.get(part) or {}, dict) for part in parts
        )
        if whole:
            return "finished", ""
        return "damaged", "its summary.json is not that of a run"
    if config is not None and not isinstance(config, dict):
        return "damaged", "its config.json cannot be read"
    if config is not None and "recipe" not in config:
        return "damaged", "its config.json is not that of a run"
    line = search_plan.last_line(search_plan.log(folder.parent, folder.name))
    if re.search(r"[Ee]rror: |Exception: ", line):
        return "failed", line.removeprefix("jaxedge: error: ")
    return ("not started" if config is None else "unfinished"), ""


def _progress(rows: Sequence[Json], fields: Json) -> str:
    """How far the training of an unfinished run came."""
    epoch = max((row.get("epoch") or 0 for row in rows), default=0)
    total = fields.get("train.epochs", "unknown")
    if epoch == total:
        return "trained, and its chips are not studied yet"
    return f"at epoch {epoch} of {total}"


def numbers(entry: Entry) -> dict[str, Any]:
    """What is compared of a run; None for what it lacks.

    `chip_*` and `yield` are over its chips, `joules` and `latency_seconds` of
    one inference, `seconds` what the run took.
    """
    said = entry.summary or {}
    score = said.get("score")
    parts = {part: said.get(part) or {} for part in ("chips", "energy")}
    seconds, versions = said.get("seconds") or {}, said.get("versions") or {}
    scores = said.get("metrics") or {}
    return {
        "score": score,
        "valid": scores.get(f"valid_{score}"),
        "test": scores.get(f"test_{score}"),
        **{name: parts["chips"].get(key) for name, key in _CHIPS.items()},
        **{name: parts["energy"].get(key) for name, key in _ENERGY.items()},
        "seconds": round(sum(seconds.values()), 3) if seconds else None,
        **{name: versions.get(name) for name in _VERSIONS},
    }


def column(entries: Sequence[Entry], name: str) -> np.ndarray:
    """One of `numbers` of every run, [N]; NaN where it lacks it."""
    values = [numbers(entry)[name] for entry in entries]
    return np.array([np.nan if v is None else v for v in values], float)


def differing(entries: Sequence[Entry]) -> list[str]:
    """Fields that the configs do not share, in their order."""
    known = [entry.fields for entry in entries if entry.fields]
    names = dict.fromkeys(name for fields in known for name in fields)
    return [
        name
        for name in names
        if len({str(fields.get(name, ABSENT)) for fields in known}) > 1
    ]


def kinds(entries: Sequence[Entry]) -> dict[tuple[str, str], list[Entry]]:
    """Finished runs that are comparable, by data set and score."""
    found: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        if entry.summary is not None:
            data = str(entry.fields.get("data.name", ABSENT))
            found.setdefault((data, entry.summary["score"]), []).append(entry)
    return found


def cautions(entries: Sequence[Entry]) -> list[str]:
    """What to mind when runs of one data set and score are compared."""
    fields = differing(entries)
    told = []
    data = [f for f in fields if f.startswith("data.")]
    if data:
        told.append(f"They read the data in different ways: {', '.join(data)}.")
    images = {
        (entry.summary or {}).get("chips", {}).get("images")
        for entry in entries
        if (entry.summary or {}).get("chips")
    }
    if len(images) > 1:
        counts = ", ".join(sorted(map(text.flat, images)))
        told.append(f"Their chips read different test examples: {counts}.")
    if "chips.threshold" in fields:
        told.append("Their yields are at different thresholds.")
    prices = [f for f in fields if f.startswith("energy.")]
    if prices:
        told.append(f"They price energy differently: {', '.join(prices)}.")
    for package in _VERSIONS:
        versions = {numbers(entry)[package] for entry in entries}
        if len(versions) > 1:
            named = ", ".join(sorted(map(text.flat, versions)))
            told.append(
                f"They are of different versions of {package}: {named}."
            )
    return told


class Group(NamedTuple):
    """Runs that differ in their seed alone.

    Attributes:
        fields: what they have in common of what differs, by field.
        entries: the runs.
    """

    fields: Json
    entries: Sequence[Entry]


def over_seeds(entries: Sequence[Entry]) -> list[Group]:
    """Finished runs by all that differs but the seed."""
    fields = [field for field in differing(entries) if field != "seed"]
    groups: dict[str, Group] = {}
    for entry in entries:
        values = {field: entry.fields.get(field, ABSENT) for field in fields}
        group = groups.setdefault(json.dumps(values), Group(values, []))
        groups[json.dumps(values)] = group._replace(
            entries=[*group.entries, entry]
        )
    return list(groups.values())
