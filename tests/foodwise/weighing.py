"""Canteens, their staff and their scales, for tests of what is weighed."""

import datetime as dt

from jaxedge.foodwise.base import security
from jaxedge.foodwise.base.tables import (
    ApiToken,
    Canteen,
    CanteenManager,
    User,
)
from jaxedge.foodwise.waste import sheets, weigh_ins

TODAY = dt.date(2026, 3, 20)
HEAD = "canteen,day,meal,category,grams,diners\n"


def places(database, *slugs):
    """Adds canteens; slug -> id."""
    with database.write() as session:
        made = [Canteen(slug=s, name=s.title(), name_zh="") for s in slugs]
        session.add_all(made)
        session.flush()
        return {canteen.slug: canteen.id for canteen in made}


def staff(database, name, role, *canteens):
    """Adds one of the staff, a manager of these canteens."""
    with database.write() as session:
        user = User(pseudonym=name, password_hash="", role=role)
        session.add(user)
        session.flush()
        session.add_all(
            CanteenManager(user_id=user.id, canteen_id=c) for c in canteens
        )
        return user


def log_in(client, site, user):
    """Logs in without a password; returns the code of forms."""
    with site.database.write() as session:
        token = site.guard.start(session, user)
    client.cookies.set(security.COOKIE, site.guard.sign(token))
    return site.guard.code("csrf", token)


def token(database, canteen, text="a scale's token"):
    """Adds a token of a canteen."""
    with database.write() as session:
        session.add(
            ApiToken(
                name="scale",
                token_hash=security.hashed(text),
                canteen_id=canteen,
            )
        )
    return {"authorization": f"Bearer {text}"}


def take(database, text, allowed, *, dry=False, skip=False, replace=False):
    """Sends a file."""
    content = text if isinstance(text, bytes) else text.encode()
    choice = weigh_ins.Choice(dry, skip, replace)
    sent = weigh_ins.read(content, TODAY, allowed)
    with database.write() as session:
        return weigh_ins.store(session, sent, choice)


def file_of(*rows):
    """A CSV file of rows: canteen, day, meal, category, grams, diners."""
    return sheets.write(HEAD.strip().split(","), rows)
