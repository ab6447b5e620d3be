"""Bringing a backup back, into an instance that is empty.

The file is not trusted: names, kinds, sizes and checksums are looked at before
anything leaves a folder of its own.
"""

from collections.abc import Iterator
import datetime as dt
import hashlib
import json
import os
from pathlib import Path
import re
import shutil
import tarfile
import tempfile
from typing import Any, NamedTuple

from alembic.script import ScriptDirectory
import sqlalchemy as sa
from sqlalchemy import exc

from jaxedge.core import checks
from jaxedge.foodwise.base.database import (
    Database,
    configuration,
    migrate,
    told,
)
from jaxedge.foodwise.base.settings import Settings, prepare
from jaxedge.foodwise.upkeep.backup import (
    FORMAT,
    MANIFEST,
    RESTORING,
    TABLES,
    reflected,
)

_BLOCK = 1 << 20
_MOST_MANIFEST = 64 << 20
_NOTED = re.compile(r"([a-z_]+) (\d{1,9})", re.ASCII)  # A subject of the audit.
_CALLED = {"api_token": ("token",), "import_batch": ("import",)}


class Restored(NamedTuple):
    """What a backup held.

    Attributes:
        made: when it was made, as it says.
        rows: of each table.
        files: photos and files of networks.
    """

    made: str
    rows: dict[str, int]
    files: int


def restore(path: Path, settings: Settings) -> Restored:
    """Brings a backup into an empty instance, all of it or nothing.

    Whoever withdrew after it was made is there again: no later withdrawal is
    known to it.

    Raises:
        UsageError: for a file that is no whole backup, or one of a newer
            program, and for an instance that holds anything.
    """
    if not path.is_file():
        raise checks.UsageError(
            f"{path} cannot be read as a backup: there is no such file; name"
            " one that `jaxedge foodwise backup` made."
        )
    prepare(settings)
    with tempfile.TemporaryDirectory(
        prefix=RESTORING, dir=settings.folder
    ) as folder:
        unpacked = Path(folder)
        manifest = _unpack(path, unpacked)
        revision = str(manifest["revision"])
        config = configuration(settings.url)
        known = [s.revision for s in ScriptDirectory.from_config(config)
                 .walk_revisions()]  # fmt: skip
        if revision not in known:
            raise checks.UsageError(
                f"{path} has tables of revision {revision!r}, which this"
                f" program does not know (up to {known[0]}); restore it with"
                " the version that made it, or a newer one."
            )
        _check_empty(settings)
        migrate(settings.url, revision)
        _fill(settings, unpacked, manifest)
    migrate(settings.url)
    return Restored(
        str(manifest["made"]), manifest["rows"], len(manifest["sha256"]) - 1
    )


def _unpack(path: Path, folder: Path) -> dict[str, Any]:
    """Unpacks an archive that is not trusted; returns its manifest."""
    found: dict[str, str] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            room = shutil.disk_usage(folder).free
            for entry in archive:
                _check_entry(path, entry, found)
                room -= entry.size
                if room < 0:
                    raise checks.UsageError(
                        f"{path} does not fit: {entry.name} is"
                        f" {entry.size} bytes; make room on the disk."
                    )
                source = archive.extractfile(entry)
                assert source is not None  # It is a regular file.
                target = folder / entry.name
                target.parent.mkdir(parents=True, exist_ok=True)
                found[entry.name] = _copy(source, target)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise checks.UsageError(
            f"{path} cannot be read as a backup: {error}."
        ) from None
    return _checked(path, folder, found)


def _check_entry(
    path: Path, entry: tarfile.TarInfo, found: dict[str, str]
) -> None:
    """Only plain files, of the names that `backup` gives."""
    parts = entry.name.split("/")
    safe = all(
        part not in ("", ".", "..") and "\\" not in part and part.isprintable()
        for part in parts
    )
    ours = (
        entry.name in (MANIFEST, TABLES)
        or (parts[0] == "photos" and len(parts) == 2)
        or (parts[0] == "models" and len(parts) > 1)
    )
    if not (entry.isreg() and safe and ours) or entry.name in found:
        raise checks.UsageError(
            f"{path} holds {entry.name!r}, which no backup does."
        )


def _copy(source: Any, target: Path) -> str:
    digest = hashlib.sha256()
    with target.open("xb") as out:
        while block := source.read(_BLOCK):
            digest.update(block)
            out.write(block)
    return digest.hexdigest()


def _checked(path: Path, folder: Path, found: dict[str, str]) -> dict[str, Any]:
    found.pop(MANIFEST, None)
    try:
        said = folder / MANIFEST
        if said.stat().st_size > _MOST_MANIFEST:
            raise ValueError("too large")
        manifest = json.loads(said.read_bytes())
        made, wanted = manifest["format"], dict(manifest["sha256"])
        for name in ("revision", "made", "rows"):
            assert manifest[name]
    except (OSError, ValueError, KeyError, TypeError, AssertionError):
        raise checks.UsageError(
            f"{path} has no manifest that can be read; it is no backup."
        ) from None
    if made != FORMAT:
        raise checks.UsageError(
            f"{path} is a backup of format {made!r}, this program reads"
            f" {FORMAT}."
        )
    wrong = sorted({*wanted.items()} ^ {*found.items()})
    if wrong or TABLES not in found:
        name = wrong[0][0] if wrong else TABLES
        raise checks.UsageError(
            f"{path} is damaged: {name} is missing, or not what was written."
        )
    return manifest


def _check_empty(settings: Settings) -> None:
    for folder in (settings.photos, settings.models):
        if any(folder.iterdir()):
            raise checks.UsageError(
                f"{folder} is not empty; a backup is restored into a new"
                " instance: name another --folder."
            )
    database = Database(settings.url)
    try:
        with database.engine.connect() as connection:
            for table in reflected(connection):
                if connection.execute(sa.select(table).limit(1)).first():
                    raise checks.UsageError(
                        f"the table {table.name} of the database is not empty;"
                        " a backup is restored into a new one: name another"
                        " --folder or --database."
                    )
    except exc.OperationalError as error:
        raise checks.UsageError(
            f"the database {told(settings.url)} cannot be reached: {error.orig}"
        ) from None
    finally:
        database.close()


def _fill(settings: Settings, unpacked: Path, manifest: dict[str, Any]) -> None:
    """Rows and files, in one transaction; takes files back if it fails."""
    database = Database(settings.url)
    moved: list[Path] = []
    try:
        with database.write() as session:
            connection = session.connection()
            tables = {table.name: table for table in reflected(connection)}
            rows = _load(connection, tables, unpacked / TABLES)
            if rows != manifest["rows"]:
                raise checks.UsageError(
                    f"the backup's tables hold {rows} rows, but its manifest"
                    f" says {manifest['rows']}."
                )
            _count_on(connection, tables, database.lite)
            for kind in ("photos", "models"):
                for path in sorted((unpacked / kind).glob("*")):
                    moved.append(settings.folder / kind / path.name)
                    os.replace(path, moved[-1])
    except BaseException as error:
        for path in moved:
            shutil.rmtree(path) if path.is_dir() else path.unlink(True)
        if isinstance(error, checks.UsageError):
            raise
        if isinstance(
            error, (exc.SQLAlchemyError, KeyError, TypeError, ValueError)
        ):
            raise checks.UsageError(
                f"the backup's tables cannot be read: {error}"
            ) from None
        raise
    finally:
        database.close()


def _load(
    connection: sa.Connection, tables: dict[str, sa.Table], path: Path
) -> dict[str, int]:
    """Adds the rows of a file of tables; returns how many of each."""
    counts: dict[str, int] = {}
    for name, columns, rows in _blocks(path):
        table = tables[name]
        kinds = [table.columns[column].type for column in columns]
        counts[name] = counts.get(name, 0) + len(rows)
        if rows:
            connection.execute(
                table.insert(),
                [
                    {
                        column: _typed(value, kind)
                        for column, value, kind in zip(
                            columns, row, kinds, strict=True
                        )
                    }
                    for row in rows
                ],
            )
    return counts


def _blocks(
    path: Path, most: int = 1000
) -> Iterator[tuple[str, list[str], list[list[Any]]]]:
    """Tables in the order of the file, so many rows at once."""
    name, columns, rows = "", [], []
    with path.open() as file:
        for line in file:
            given = json.loads(line)
            if isinstance(given, dict) or len(rows) == most:
                if name:
                    yield name, columns, rows
                rows = []
            if isinstance(given, dict):
                name, columns = given["table"], given["columns"]
            else:
                rows.append(given)
    if name:
        yield name, columns, rows


def _typed(value: Any, kind: sa.types.TypeEngine[Any]) -> Any:
    if isinstance(value, str):
        for of, read in (
            (sa.DateTime, dt.datetime.fromisoformat),
            (sa.Date, dt.date.fromisoformat),
            (sa.Time, dt.time.fromisoformat),
        ):
            if isinstance(kind, of):
                return read(value)
    return value


def _count_on(
    connection: sa.Connection, tables: dict[str, sa.Table], lite: bool
) -> None:
    """Counters of ids go on after the rows that were added.

    Numbers that a draw or the audit log tells of, though what they stood for
    has gone, are given to nobody.
    """
    subjects = connection.scalars(sa.select(tables["audit_log"].c.subject))
    noted = [found for said in subjects if (found := _NOTED.fullmatch(said))]
    for table in tables.values():
        if "id" not in table.columns:
            continue
        most = connection.scalar(sa.select(sa.func.max(table.c.id))) or 0
        of_table = {table.name, *_CALLED.get(table.name, ())}
        most = max([most, *(int(n[2]) for n in noted if n[1] in of_table)])
        if table.name == "user":
            drawn = connection.scalars(
                sa.select(tables["reward_draw"].c.tickets)
            )
            most = max([most, *(int(n) for held in drawn for n in held)])
        if not lite:
            counter = sa.func.pg_get_serial_sequence(f'"{table.name}"', "id")
            connection.execute(
                sa.select(sa.func.setval(counter, most + 1, False))
            )
        elif table.name == "user" and most:
            connection.execute(
                sa.text("UPDATE sqlite_sequence SET seq=:n WHERE name='user'"),
                {"n": most},
            )


__all__ = ["Restored", "restore"]
