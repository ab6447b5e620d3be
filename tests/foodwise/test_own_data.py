"""What is kept of a person: taken along, and deleted for good."""

import io
import json
import zipfile

import pytest
import sqlalchemy as sa

from jaxedge.foodwise.base import audit, database, tables, words
from jaxedge.foodwise.base.refusals import Refused
from jaxedge.foodwise.campaign import actions, own_data, people, photos
from tests.foodwise.participants import (
    encoded,
    files,
    graded,
    join,
    log,
    person,
    photo,
    picture,
    post,
    rows,
    set_up,
    staff,
)


def full_person(app, client):
    """One who has left a trace everywhere; returns their id."""
    place = set_up(app)
    join(client, "annabella")
    log(client, place, "clean_plate", photo(128), note="my secret note")
    log(client, place, "clean_plate", photo(seed=1), meal="tea")
    post(client, "/me/team", "/me", name="The Annabellas")
    site = app.state.site
    with site.database.write() as session:
        user = people.find(session, "annabella")
        spring = session.scalars(sa.select(tables.Campaign)).one()
        other = person(session, "other", role="reviewer")
        kept = photos.read(encoded(picture(seed=9)))
        told = actions.Told(place, "lunch", "clean_plate", "other's")
        sent = actions.Shot(
            kept, photos.keep(kept, site.settings.photos), graded(None)
        )
        theirs = actions.log(
            session, other, spring, told, tables.now(), sent
        ).action.photo
        own = session.scalars(
            sa.select(tables.Photo).where(tables.Photo.user_id == user.id)
        ).first()
        session.add_all(
            [
                tables.ReviewVote(photo_id=theirs.id, user_id=user.id, label=0),
                tables.ReviewVote(photo_id=own.id, user_id=other.id, label=0),
                tables.Label(photo_id=own.id, label=0, how="votes"),
                tables.StreakRepair(
                    user_id=user.id, campaign_id=spring.id, day=spring.starts
                ),
                tables.CanteenManager(user_id=user.id, canteen_id=place),
                tables.RewardDraw(
                    campaign_id=spring.id,
                    seed="seed",
                    prizes=1,
                    tickets={str(user.id): 1},
                    winners=[user.id],
                ),
            ]
        )
        audit.note(session, user, "repair", "campaign 1")
        return user.id


def test_a_person_takes_everything_along(app, client):
    number = full_person(app, client)
    answer = client.get("/me/export")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as found:
        data = json.loads(found.read("data.json"))
        pictures = {n: found.read(n) for n in found.namelist()[1:]}
    # Every table that can tell of a person has something to tell of this one.
    assert {name for name, told in data.items() if told} == set(data)
    owned = {
        table.name
        for table in tables.Base.metadata.sorted_tables
        if any(key.column.table.name == "user" for key in table.foreign_keys)
    }
    assert owned <= set(data)
    assert data["user"][0]["pseudonym"] == "annabella"
    assert {a["note"] for a in data["action"]} == {"my secret note", ""}
    assert data["reward_draw"][0]["won"] is True
    text = json.dumps(data)
    user = next(u for u in rows(app, tables.User) if u.id == number)
    for secret in (user.password_hash, rows(app, tables.Action)[0].once):
        assert secret not in text
    own = [p for p in rows(app, tables.Photo) if p.user_id == number]
    folder = app.state.site.settings.photos
    assert pictures == {
        f"photos/{p.id}.jpg": (folder / p.file).read_bytes() for p in own
    }


def person_rows(app, number):
    """By reflection: (table, column) -> rows that tell of the person."""
    engine = app.state.site.database.engine
    meta = sa.MetaData()
    meta.reflect(engine)
    found = {}
    with engine.connect() as connection:
        for table in meta.sorted_tables:
            for row in connection.execute(sa.select(table)).mappings():
                for column in table.columns:
                    points = any(
                        key.column.table.name == "user"
                        for key in column.foreign_keys
                    )
                    told = str(row[column.name]).lower()
                    if (points and row[column.name] == number) or (
                        "annabella" in told or "secret note" in told
                    ):
                        found[table.name, column.name] = row
    return found


def test_withdrawing_leaves_no_row_and_no_file(app, client):
    number = full_person(app, client)
    before = {table for table, _ in person_rows(app, number)}
    assert before >= {
        "user", "consent", "login_session", "action", "photo", "team",
        "membership", "points_ledger", "streak_repair", "review_vote",
        "audit_log", "canteen_manager",
    }  # fmt: skip
    assert len(files(app)) == 3
    answer = post(client, "/me/withdraw", "/me", sure="yes")
    assert answer.headers["location"] == "/goodbye"
    assert client.get("/goodbye").status_code == 200
    assert client.get("/me").status_code == 303
    assert person_rows(app, number) == {}
    # The other one is whole.
    (left,) = rows(app, tables.Photo)
    assert files(app) == [left.file]
    assert [row.photo_id for row in rows(app, tables.Grade)] == [left.id]
    assert rows(app, tables.ReviewVote) == rows(app, tables.Label) == []
    said = [(e.what, e.actor_id) for e in rows(app, tables.AuditEntry)]
    assert said == [("repair", None), ("withdraw", None)]
    # Nor is it left in what the database's files have deleted.
    for path in app.state.site.settings.folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes().lower()
            assert b"annabella" not in data, path
            assert b"secret note" not in data, path


def test_nobody_gets_the_number_of_who_has_gone(app, client):
    join(client)
    (first,) = rows(app, tables.User)
    post(client, "/me/withdraw", "/me", sure="yes")
    join(client, "berta")
    (second,) = rows(app, tables.User)
    assert second.id > first.id


def test_withdrawing_has_to_be_meant(app, client):
    join(client)
    answer = post(client, "/me/withdraw", "/me")
    assert answer.status_code == 422
    assert words.say("en", "error.withdraw_sure") in answer.text
    assert len(rows(app, tables.User)) == 1


def test_the_last_admin_stays(app, client):
    number = staff(app, client, "admin")
    answer = post(client, "/me/withdraw", "/me", sure="yes")
    assert words.say("en", "error.erase_admin") in answer.text
    with app.state.site.database.write() as session:
        person(session, "second", role="admin")
    assert post(client, "/me/withdraw", "/me", sure="yes").status_code == 303
    assert number not in [user.id for user in rows(app, tables.User)]


def test_an_admin_who_is_shut_out_is_no_other_admin(app, client):
    staff(app, client, "admin")
    with app.state.site.database.write() as session:
        person(session, "second", role="admin", suspended=True)
    answer = post(client, "/me/withdraw", "/me", sure="yes")
    assert words.say("en", "error.erase_admin") in answer.text
    assert len(rows(app, tables.User)) == 2


def test_a_log_that_is_being_read_is_emptied_by_the_next_sweep(
    instance, monkeypatch, caplog
):
    monkeypatch.setattr(database, "WAIT_S", 0.1)
    base = database.Database(instance.url)
    with base.write() as session:
        user = person(session, "annabella")
    reader = base.engine.connect()
    reader.execute(sa.select(tables.User)).all()
    with base.write() as session:
        people.withdraw(session, instance, user)
    assert "next sweep" in caplog.text
    log = instance.folder / "foodwise.db-wal"
    assert b"annabella" in log.read_bytes()
    reader.close()
    assert base.forget()
    for path in instance.folder.iterdir():
        if path.is_file():
            assert b"annabella" not in path.read_bytes(), path
    with pytest.raises(Refused, match="no longer exists"):
        with base.write() as session:
            people.withdraw(session, instance, user)
    base.close()


def test_every_connection_overwrites_what_it_deletes(instance):
    base = database.Database(instance.url)
    with base.read() as one, base.write() as two:
        for session in (one, two):
            assert session.scalar(sa.text("PRAGMA secure_delete")) == 1
    base.close()


def test_a_withdrawal_that_fails_can_be_made_again(app, client, monkeypatch):
    number = full_person(app, client)

    def fail(*names):
        raise OSError("the disk is gone")

    site = app.state.site
    with monkeypatch.context() as patch:
        patch.setattr(own_data.photos, "remove", fail)
        with pytest.raises(OSError, match="disk"):
            with site.database.write() as session:
                user = session.get(tables.User, number)
                people.withdraw(session, site.settings, user)
    assert len(files(app)) == 3 and person_rows(app, number)
    with site.database.write() as session:
        user = session.get(tables.User, number)
        people.withdraw(session, site.settings, user)
    assert len(files(app)) == 1 and not person_rows(app, number)
