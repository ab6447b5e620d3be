"""Backups: one file with all tables, photos and networks.

The tables are lines of JSON, so that what was SQLite may become PostgreSQL. Who
is logged in and the instance's secret are left out: everybody logs in anew. A
backup holds persons' data, also of those who leave later, so old ones have to
go; see `sweep`. `restore.restore` brings one back.
"""

import contextlib
import datetime as dt
import hashlib
import io
import json
import os
from pathlib import Path
import re
import shutil
import tarfile
import tempfile
from typing import Any

from alembic.runtime.migration import MigrationContext
import sqlalchemy as sa

from jaxedge.core import checks
from jaxedge.foodwise.base import rules
from jaxedge.foodwise.base.database import Database
from jaxedge.foodwise.base.settings import Settings, prepare
from jaxedge.foodwise.base.tables import Campaign

FORMAT = 1
MANIFEST, TABLES = "manifest.json", "tables.jsonl"
# Not of the instance's data.
_LEFT_OUT = ("alembic_version", "instance", "login_session")
# In which a backup is made or brought back, each beside where it ends up.
MAKING, RESTORING = ".backup-", ".restore-"
_STALE_S = 6 * 3600  # Of such a folder that nothing was written to.
_NAME = re.compile(r"foodwise-\d{8}T\d{6}Z(-\d+)?\.tar\.gz")


def backup(settings: Settings, database: Database, at: dt.datetime) -> Path:
    """Writes a backup while the instance runs on.

    Args:
        settings: of the instance.
        database: its tables, read at one moment.
        at: now; the file is named by it.

    Returns:
        The file, in the folder of backups; there is none before it is whole.
    """
    prepare(settings)
    number, stem = 1, f"foodwise-{at.astimezone(dt.UTC):%Y%m%dT%H%M%SZ}"
    path = settings.backups / f"{stem}.tar.gz"
    while path.exists():
        number += 1
        path = settings.backups / f"{stem}-{number}.tar.gz"
    with tempfile.TemporaryDirectory(
        prefix=MAKING, dir=settings.backups
    ) as folder:
        whole = Path(folder) / "whole"
        _write(whole, Path(folder) / TABLES, settings, database, at)
        with whole.open("rb") as file:
            os.fsync(file.fileno())
        whole.chmod(0o600)
        os.replace(whole, path)
    return path


def _write(
    whole: Path,
    tables: Path,
    settings: Settings,
    database: Database,
    at: dt.datetime,
) -> None:
    revision, rows, photos = _dump(database, tables)
    files: dict[str, str] = {}
    with tarfile.open(whole, "w:gz") as archive:
        files[TABLES] = _add(archive, TABLES, tables)
        for name in sorted(photos):
            path = settings.photos / name
            if path.is_file() and path.parent == settings.photos:
                # One that has gone since the tables were read is not missed.
                with contextlib.suppress(FileNotFoundError):
                    files[f"photos/{name}"] = _add(
                        archive, f"photos/{name}", path
                    )
        for path in sorted(settings.models.rglob("*")):
            inside = path.relative_to(settings.models)
            # A network that is being taught is none yet.
            if inside.parts[0].startswith("."):
                continue
            if path.is_file() and not path.is_symlink():
                name = f"models/{inside.as_posix()}"
                files[name] = _add(archive, name, path)
        said = json.dumps(
            {
                "format": FORMAT,
                "revision": revision,
                "made": at.isoformat(),
                "rows": rows,
                "sha256": files,
            },
            indent=1,
        ).encode()
        archive.addfile(_entry(MANIFEST, len(said)), io.BytesIO(said))


def _dump(
    database: Database, path: Path
) -> tuple[str, dict[str, int], set[str]]:
    """Writes all tables; returns revision, rows a table, files of photos."""
    counts: dict[str, int] = {}
    photos: set[str] = set()
    engine = database.engine
    if not database.lite:  # SQLite's readers see one moment anyway.
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    with engine.connect() as connection, path.open("w") as out:
        revision = _revision(connection)
        if revision is None:
            raise checks.UsageError(
                "the database has no tables yet; run"
                " `jaxedge foodwise init-db` first."
            )
        for table in reflected(connection):
            names = [column.name for column in table.columns]
            out.write(json.dumps({"table": table.name, "columns": names}))
            out.write("\n")
            counts[table.name] = 0
            for row in connection.execute(
                sa.select(table).order_by(*table.primary_key.columns)
            ):
                out.write(json.dumps([*row], default=_plain) + "\n")
                counts[table.name] += 1
                if table.name == "photo" and row._mapping["file"]:
                    photos.add(row._mapping["file"])
    return revision, counts, photos


def _plain(value: Any) -> str:
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        return value.isoformat()
    raise TypeError(f"{type(value)} is in no table")


def reflected(connection: sa.Connection) -> list[sa.Table]:
    """Tables as they are, whatever their revision; those named first, first."""
    found = sa.MetaData()
    found.reflect(connection)
    return [t for t in found.sorted_tables if t.name not in _LEFT_OUT]


def _revision(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _entry(name: str, size: int) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size, made.mode = size, 0o600
    return made


def _add(archive: tarfile.TarFile, name: str, path: Path) -> str:
    """Adds a file; returns its SHA-256."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        entry = _entry(name, file.tell())
        file.seek(0)
        archive.addfile(entry, file)
    return digest


def sweep(settings: Settings, at: dt.datetime) -> int:
    """Removes backups as old as photos become, and what was left half done.

    Args:
        settings: of the instance, whose campaigns say how long that is.
        at: now.

    Returns:
        How many backups went.
    """
    for folder, prefix in (
        (settings.backups, MAKING),
        (settings.folder, RESTORING),
    ):
        for path in folder.glob(f"{prefix}*"):
            if at.timestamp() - _touched(path) > _STALE_S:
                shutil.rmtree(path, ignore_errors=True)
    return prune(settings, _days(settings), at)


def _touched(folder: Path) -> float:
    """When something in it was written last, in seconds."""
    latest = 0.0
    for path in (folder, *folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            latest = max(latest, path.stat().st_mtime)
    return latest


def _days(settings: Settings) -> int:
    """The most days that a campaign keeps its photos."""
    database = Database(settings.url)
    try:
        with database.read() as session:
            given = session.scalars(sa.select(Campaign.rules)).all()
    finally:
        database.close()
    of_campaigns = [rules.read(each) for each in given] or [rules.Rules()]
    return max(each.photo_days for each in of_campaigns)


def prune(settings: Settings, days: int, at: dt.datetime) -> int:
    """Removes backups older than so many days; returns how many."""
    gone = 0
    for path in settings.backups.glob("foodwise-*.tar.gz"):
        with contextlib.suppress(FileNotFoundError):  # Another one was faster.
            age_s = at.timestamp() - path.stat().st_mtime
            if _NAME.fullmatch(path.name) and age_s > days * 86400:
                path.unlink()
                gone += 1
    return gone


__all__ = [
    "FORMAT",
    "MANIFEST",
    "RESTORING",
    "TABLES",
    "backup",
    "prune",
    "reflected",
    "sweep",
]
