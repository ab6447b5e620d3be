"""Backups: what went in comes out, and nothing else gets in."""

import datetime as dt
import gzip
import hashlib
import io
import json
import os
import tarfile

import pytest
import sqlalchemy as sa

from jaxedge.core import checks
from jaxedge.foodwise.base import database, settings, tables
from jaxedge.foodwise.upkeep import backup, restore
from tests.foodwise.postgres import postgres  # noqa: F401 - a fixture

pytestmark = pytest.mark.slow

AT = dt.datetime(2026, 3, 3, 5, 0, 1, 250000, tzinfo=dt.UTC)
PHOTO = f"{1:032x}.jpg"


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, instance):
    """Settings of an instance with tables, of both kinds."""
    if request.param == "sqlite":
        return instance
    url = request.getfixturevalue("postgres")()
    database.migrate(url)
    return instance._replace(database=url)


def new(tmp_path, url=""):
    """Settings of another instance, of which nothing is there."""
    return settings.Settings(tmp_path / "other", url)


def fill(place):
    """A row of every kind of column, a photo and a network."""
    opened = database.Database(place.url)
    with opened.write() as session:
        session.add_all(
            [
                tables.User(id=7, pseudonym="吃飯", password_hash="x"),
                tables.User(pseudonym="b", password_hash="y", role="admin"),
                tables.Canteen(id=3, slug="lg1", name="'; DROP TABLE user;--"),
                tables.Campaign(
                    id=2,
                    name="c",
                    starts=AT.date(),
                    ends=AT.date(),
                    rules={"points": 7, "rest_days": [5]},
                ),
                tables.Equivalent(
                    name="e", factor=0.1 + 0.2, unit="kg", source="s", year=2023
                ),
            ]
        )
        session.flush()
        session.add_all(
            [
                tables.MealPeriod(
                    canteen_id=3,
                    meal="lunch",
                    opens=dt.time(11, 30),
                    closes=dt.time(14),
                ),
                tables.LoginSession(token_hash="t", user_id=7, expires_at=AT),
                tables.RewardDraw(
                    campaign_id=2, seed="s", prizes=1, at=AT,
                    tickets={"99": 2, "7": 1}, winners=[99],
                ),
            ]
        )  # fmt: skip
        action = tables.Action(
            user_id=7, campaign_id=2, canteen_id=3, day=AT.date(), at=AT,
            meal="lunch", kind="clean_plate", once="o", note="a\n\"b\" \\ 你",
        )  # fmt: skip
        session.add(
            tables.Photo(
                user_id=7, action=action, sha256="0" * 64, phash="0" * 16,
                width=8, height=8, file=PHOTO, features=[0.1, 1.0], at=AT,
            )
        )  # fmt: skip
    opened.close()
    (place.photos / PHOTO).write_bytes(b"\xff\xd8 a photo")
    (place.photos / f"{2:032x}.jpg").write_bytes(b"of nobody")
    (place.models / "v1" / "part").mkdir(parents=True)
    (place.models / "v1" / "part" / "weights").write_bytes(bytes(range(256)))


def rows(place):
    """Table -> rows, but for those of who is logged in."""
    opened = database.Database(place.url)
    with opened.engine.connect() as connection:
        found = {
            table.name: connection.execute(
                sa.select(table).order_by(*table.primary_key.columns)
            ).all()
            for table in tables.Base.metadata.sorted_tables
            if table.name != "login_session"
        }
    opened.close()
    return found


def make(place):
    opened = database.Database(place.url)
    path = backup.backup(place, opened, AT)
    opened.close()
    return path


@pytest.mark.parametrize("kind", ["same", "other"])
def test_a_round_trip_keeps_every_row_and_file(place, kind, tmp_path, request):
    fill(place)
    path = make(place)
    assert path.name == "foodwise-20260303T050001Z.tar.gz"
    assert path.stat().st_mode & 0o77 == 0
    assert [p.name for p in place.backups.iterdir()] == [path.name]
    lite = "postgresql" not in place.url
    # Of one database into the other, or into the same kind.
    to_postgres = lite == (kind == "other")
    url = request.getfixturevalue("postgres")() if to_postgres else ""
    other = new(tmp_path, url)
    found = restore.restore(path, other)
    assert rows(other) == rows(place)
    assert found.rows["user"] == 2 and found.files == 2
    assert (other.photos / PHOTO).read_bytes() == b"\xff\xd8 a photo"
    assert [p.name for p in other.photos.iterdir()] == [PHOTO]
    weights = other.models / "v1" / "part" / "weights"
    assert weights.read_bytes() == bytes(range(256))
    assert other.secret() != place.secret()
    assert not [p for p in other.folder.iterdir() if p.name[0] == "."]
    opened = database.Database(other.url)
    with opened.write() as session:
        assert session.scalars(sa.select(tables.LoginSession)).all() == []
        made = tables.User(pseudonym="next", password_hash="z")
        session.add(made)
        session.flush()
        assert made.id == 100  # Number 99 has gone, but is in a draw.
    opened.close()


def test_two_backups_of_a_second_are_two_files(instance):
    first, second = make(instance), make(instance)
    assert second.name == "foodwise-20260303T050001Z-2.tar.gz"
    os.utime(first, (0, 0))
    assert backup.prune(instance, 30, tables.now()) == 1
    assert not first.exists() and second.exists()


def test_old_backups_and_half_done_ones_are_swept(instance, tmp_path):
    """As old as photos become in the campaign that keeps them longest."""
    opened = database.Database(instance.url)
    with opened.write() as session:
        for n, days in enumerate((3, 8)):
            session.add(
                tables.Campaign(
                    name=f"c{n}", starts=AT.date(), ends=AT.date(),
                    rules={"photo_days": days},
                )
            )  # fmt: skip
    opened.close()
    at, paths = tables.now(), [make(instance) for _ in range(3)]
    other = instance.backups / "mine.tar.gz"
    other.write_bytes(b"")
    for path, days in zip([*paths, other], (9, 7, 0, 99), strict=True):
        os.utime(path, (0, at.timestamp() - days * 86400))
    halves = []
    for folder, name in (
        (instance.backups, ".backup-a"),
        (instance.folder, ".restore-a"),
    ):
        for part, hours in (("old", 7), ("young", 1)):
            half = folder / f"{name}{part}"
            half.mkdir()
            (half / "tables.jsonl").write_text("of persons")
            for path in (half / "tables.jsonl", half):
                os.utime(path, (0, at.timestamp() - hours * 3600))
            halves.append(half)
    # A long one is still written to, though its folder is old.
    os.utime(halves[0].parent / ".backup-ayoung", (0, 0))
    assert backup.sweep(instance, at) == 1
    assert [path.exists() for path in paths] == [False, True, True]
    assert [half.exists() for half in halves] == [False, True, False, True]
    assert other.exists()
    assert backup.sweep(instance, at) == 0


def test_a_photo_that_goes_meanwhile_is_not_missed(instance, monkeypatch):
    """Between looking for it and opening it."""
    fill(instance)
    add = backup._add

    def gone(archive, name, path):
        if name.startswith("photos/"):
            path.unlink()
        return add(archive, name, path)

    monkeypatch.setattr(backup, "_add", gone)
    # And of a network that is being taught nothing is kept.
    (instance.models / ".new-x").mkdir()
    (instance.models / ".new-x" / "weights").write_bytes(b"half")
    with tarfile.open(make(instance)) as archive:
        names = archive.getnames()
    assert names == ["tables.jsonl", "models/v1/part/weights", "manifest.json"]


def test_numbers_that_the_audit_tells_of_are_given_to_nobody(
    place, tmp_path, request
):
    """The last person of the draw is 99, and 123 has gone since."""
    fill(place)
    opened = database.Database(place.url)
    with opened.write() as session:
        for subject in ("user 123", "user 7", "user x", "campaign 900"):
            session.add(tables.AuditEntry(what="deleted", subject=subject))
    opened.close()
    url = ""
    if "postgresql" in place.url:
        url = request.getfixturevalue("postgres")()
    other = new(tmp_path, url)
    restore.restore(make(place), other)
    opened = database.Database(other.url)
    with opened.write() as session:
        made = tables.User(pseudonym="next", password_hash="z")
        session.add(made)
        session.flush()
        assert made.id == 124
    opened.close()


def test_nothing_is_restored_over_anything(instance, tmp_path):
    fill(instance)
    path = make(instance)
    with pytest.raises(checks.UsageError, match="not empty"):
        restore.restore(path, instance)
    other = new(tmp_path)
    restore.restore(path, other)
    for found in [*other.photos.iterdir(), *other.models.glob("v1")]:
        found.rename(tmp_path / found.name)
    with pytest.raises(checks.UsageError, match="table .* is not empty"):
        restore.restore(path, other)


def remade(path, change):
    """The archive with its entries, name -> bytes, changed."""
    with tarfile.open(path) as archive:
        entries = {
            entry.name: archive.extractfile(entry).read() for entry in archive
        }
    change(entries)
    with tarfile.open(path, "w:gz") as archive:
        for name, data in entries.items():
            if isinstance(data, tarfile.TarInfo):
                archive.addfile(data)
                continue
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def manifest(**changed):
    def change(entries):
        said = json.loads(entries["manifest.json"]) | changed
        entries["manifest.json"] = json.dumps(said).encode()

    return change


def tables_text(old, new_text):
    """Changes a table, and the manifest with it."""

    def change(entries):
        data = entries["tables.jsonl"].replace(old, new_text)
        assert data != entries["tables.jsonl"]
        entries["tables.jsonl"] = data
        said = json.loads(entries["manifest.json"])
        said["sha256"]["tables.jsonl"] = hashlib.sha256(data).hexdigest()
        entries["manifest.json"] = json.dumps(said).encode()

    return change


def link(entries):
    entry = tarfile.TarInfo("photos/link")
    entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
    entries["photos/link"] = entry


def add(name):
    return lambda entries: entries.update({name: b"x"})


BAD = {
    "above": (add("photos/../../x"), "which no backup does"),
    "absolute": (add("/x"), "which no backup does"),
    "other": (add("secret"), "which no backup does"),
    "windows": (add("photos/..\\x"), "which no backup does"),
    "deep": (add("photos/a/b"), "which no backup does"),
    "link": (link, "which no backup does"),
    "extra": (add("photos/x.jpg"), "damaged: photos/x.jpg"),
    "missing": (lambda e: e.pop(f"photos/{PHOTO}"), f"damaged: photos/{PHOTO}"),
    "changed": (
        lambda e: e.update({"tables.jsonl": e["tables.jsonl"] + b" "}),
        "damaged: tables.jsonl",
    ),
    "no manifest": (lambda e: e.pop("manifest.json"), "no manifest"),
    "bad manifest": (
        lambda e: e.update({"manifest.json": b"[1]"}),
        "no manifest",
    ),
    "newer": (manifest(revision="9999"), "revision '9999'"),
    "format": (manifest(format=2), "format 2"),
    "count": (manifest(rows={"user": 1}), "manifest says"),
    "table": (tables_text(b'"table": "user"', b'"table": "users"'), "be read"),
    "json": (tables_text(b'{"table": "user"', b'{"table" "user"'), "be read"),
    "role": (tables_text(b'"admin"', b'"ruler"'), "be read"),
    "owner": (tables_text(b"[1, 7, 2, 3,", b"[1, 8, 2, 99,"), "be read"),
}


@pytest.fixture
def archive(instance):
    fill(instance)
    return make(instance)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_archive_changes_nothing(archive, name, tmp_path):
    change, told = BAD[name]
    other = new(tmp_path)
    with pytest.raises(checks.UsageError, match=told):
        restore.restore(remade(archive, change), other)
    assert not [p for p in tmp_path.rglob("x*") if p.is_file()]
    assert [*other.photos.iterdir(), *other.models.iterdir()] == []
    opened = database.Database(other.url)
    with opened.engine.connect() as connection:
        names = sa.inspect(connection).get_table_names()
        if "user" in names:
            assert connection.execute(sa.select(tables.User)).all() == []
    opened.close()


def test_what_is_no_archive_is_told(archive, tmp_path):
    whole = archive.read_bytes()
    for data in (
        b"",
        b"text",
        gzip.compress(b"text"),
        whole[: len(whole) // 2],
    ):
        bad = tmp_path / "bad.tar.gz"
        bad.write_bytes(data)
        with pytest.raises(checks.UsageError, match="backup"):
            restore.restore(bad, new(tmp_path))
    with pytest.raises(checks.UsageError, match="cannot be read"):
        restore.restore(tmp_path / "none", new(tmp_path))
