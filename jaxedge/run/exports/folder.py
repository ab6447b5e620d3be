"""The folder of an export: whose it is, and whether its files are whole.

`export.json` lists every file with its length and SHA-256. It is written last,
so a file that was cut off never counts as whole.
"""

from collections.abc import Mapping
import hashlib
import json
from pathlib import Path
from typing import Any

from jaxedge.core import checks
from jaxedge.run import workdir

FILE = "export.json"
_KIND = "jaxedge export"
_VERSION = 1


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def prepare(out: Path, run: str) -> None:
    """Makes the folder of an export.

    Args:
        out: may exist if it is empty, or an export of the same network.
        run: digest of the network.

    Raises:
        UsageError: for a file, a folder of other things, or the export of
            another network.
    """
    if out.exists() and not out.is_dir():
        raise checks.UsageError(
            f"--out is {out}, which is a file; choose another folder."
        )
    note = out / FILE
    if note.exists():
        before = read(out).get("run")
        if before != run:
            raise checks.UsageError(
                f"--out is {out}, which holds the export of another network;"
                " choose another folder."
            )
    elif out.exists() and any(out.iterdir()):
        raise checks.UsageError(
            f"--out is {out}, which holds files but no {FILE}, so it is no"
            " export; choose an empty folder or a new one."
        )
    workdir.make(out, "--out")


def note(
    out: Path,
    about: Mapping[str, Any],
    files: Mapping[str, Mapping[str, Any]],
) -> None:
    """Adds finished files to the list, in one step.

    Args:
        out: the folder.
        about: the run, for whoever reads the list.
        files: what is to be known of each, by its path below the folder.
    """
    known = read(out)["files"] if (out / FILE).exists() else {}
    for name, facts in files.items():
        path = out / name
        known[name] = {
            "bytes": path.stat().st_size,
            "sha256": digest(path),
            **facts,
        }
    head = {"kind": _KIND, "version": _VERSION}
    workdir.write_json(out / FILE, {**head, **about, "files": known})


def read(out: Path) -> dict[str, Any]:
    """The list of an export.

    Raises:
        UsageError: when it is missing, damaged, or of another kind.
    """
    path = out / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        whole = content["kind"] == _KIND and isinstance(content["files"], dict)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise checks.UsageError(
            f"{path} cannot be read ({error}); export again."
        ) from None
    if not whole or content.get("version") != _VERSION:
        raise checks.UsageError(
            f"{path} is no list of an export of version {_VERSION}; export"
            " again with this release."
        )
    return content


def checked(path: Path) -> tuple[Path, dict[str, Any]]:
    """A file of an export that is whole.

    Args:
        path: of the file, in its folder.

    Returns:
        The export's folder, and what its list says of the file.

    Raises:
        UsageError: for a file that is missing, not listed, or damaged.
    """
    path = path.expanduser().absolute()
    out = above(path)
    name = path.relative_to(out).as_posix()
    files = read(out)["files"]
    if name not in files:
        raise checks.unknown(f"file of the export {out}", name, files)
    facts = files[name]
    if not path.is_file():
        raise checks.UsageError(f"there is no {path}; export again.")
    length = path.stat().st_size
    if length != facts["bytes"]:
        raise checks.UsageError(
            f"{path} is damaged: it has {length} bytes of {facts['bytes']};"
            " export again, or copy it again."
        )
    if digest(path) != facts["sha256"]:
        raise checks.UsageError(
            f"{path} is damaged: its checksum is not the one in {FILE}; export"
            " again, or copy it again."
        )
    return out, facts


def above(path: Path) -> Path:
    """The export's folder that a path lies in."""
    for folder in path.parents:
        if (folder / FILE).is_file():
            return folder
    raise checks.UsageError(
        f"there is no {FILE} in the folder of {path} or above; keep the files"
        " of an export together."
    )
