"""The folder of a run: its config, and whether it is this run's."""

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxedge.core import checks
from jaxedge.run.metrics import replace

# Sections that say how a trained network is studied, not how it is trained.
STUDY_SECTIONS = ("study", "hardware", "chips", "energy")
# Fields that configs have had since there are in-SRAM macros.
_LATER = (
    "chips.sigma",
    "energy.macro_joules",
    "energy.macro_share",
    "energy.macro_drop",
)
# Fields that came later still, and how runs were trained before.
_WERE = {"quantize.freeze": None, "distill.side": 448, "train.devices": "one"}


def plain(config: Any) -> dict[str, Any]:
    """A config as what JSON can hold."""
    return json.loads(config.to_json_best_effort())


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as "section.field"."""
    out: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            out |= flat(value, f"{prefix}{name}.")
        else:
            out[prefix + name] = value
    return out


def check(workdir: Path, config: Mapping[str, Any], study: bool) -> None:
    """Raises unless the folder is new or holds a run of this config.

    Args:
        workdir: may not exist.
        config: the plain config.
        study: whether only what was trained has to agree.

    Raises:
        UsageError: naming the fields that differ, or a folder that is none.
    """
    for part in (workdir, *workdir.parents):
        if part.exists() and not part.is_dir():
            where = "" if part == workdir else f" ({part} is a file)"
            raise checks.UsageError(
                f"the workdir {workdir} is not a folder{where}; choose another"
                " --workdir."
            )
    path = workdir / "config.json"
    if not path.exists():
        if study:
            raise checks.UsageError(
                f"the workdir {workdir} holds no run; train one first with"
                " `jaxedge run`."
            )
        return
    before, now = flat(_read(path)), flat(config)
    # Runs from before these fields meant what they stand for now.
    were = {name: now[name] for name in _LATER if name in now}
    were |= {name: _WERE[name] for name in _WERE if name in now}
    before = were | before
    differ = [
        f"{name}: {before.get(name, 'absent')!r} there, {now.get(name)!r} now"
        for name in sorted(before | now)
        if before.get(name) != now.get(name)
        and not (study and name.split(".")[0] in STUDY_SECTIONS)
    ]
    if differ:
        raise checks.UsageError(
            f"the workdir {workdir} holds the run of another config"
            f" ({'; '.join(differ[:5])}{'; ...' if differ[5:] else ''});"
            " choose another --workdir."
        )


def create(workdir: Path, config: Mapping[str, Any]) -> None:
    """Makes the folder and notes whose run it is.

    Raises:
        UsageError: when the folder cannot be made.
    """
    make(workdir, "--workdir")
    if not (workdir / "config.json").exists():
        write_json(workdir / "config.json", config)


def make(folder: Path, flag: str) -> None:
    """Makes a folder that a flag names, if it is not there.

    Raises:
        UsageError: when it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise checks.UsageError(
            f"{flag} is {folder}, which cannot be made ({error.strerror});"
            " choose another folder."
        ) from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON in one step; a half-written file is never seen."""
    replace(path, json.dumps(jsonable(content), indent=2) + "\n")


def jsonable(value: Any) -> Any:
    """Arrays as numbers, NaN as null, for a file that any reader takes."""
    if isinstance(value, Mapping):
        return {key: jsonable(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(entry) for entry in value]
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no JSON object")
        return content
    except (OSError, RecursionError, ValueError) as error:
        raise checks.UsageError(
            f"{path} cannot be read ({error}); remove the workdir or choose"
            " another."
        ) from error
