"""A made-up campaign, from a seed, to see every page with something on it.

All of it is marked as synthetic. The same seed on the same day makes the same
rows; passwords are random and told once.
"""

import datetime as dt
import importlib.util
import io
import secrets
import time
from typing import NamedTuple

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from jaxedge.core import checks
from jaxedge.foodwise.base import audit, rules, security
from jaxedge.foodwise.base.database import Database
from jaxedge.foodwise.base.settings import Settings
from jaxedge.foodwise.base.tables import (
    Campaign,
    Canteen,
    User,
    now,
)
from jaxedge.foodwise.campaign import photos
from jaxedge.foodwise.upkeep import demo
from jaxedge.foodwise.upkeep.replay_rows import (
    NAME,
    NEXT,
    SIDE,
    STAFF,
    Kept,
    Loader,
)
from jaxedge.foodwise.waste import equivalents

PICTURES = 36  # Photos with a file.


class Summary(NamedTuple):
    """What was loaded.

    Attributes:
        campaign: its name.
        starts: its first day.
        people: participants.
        actions: that count.
        records: weigh-ins.
        grams: their sum.
        pictures: photos with a file.
        log_ins: name -> password of those that can log in, told once.
        seconds: that it took.
    """

    campaign: str
    starts: dt.date
    people: int
    actions: int
    records: int
    grams: int
    pictures: int
    log_ins: dict[str, str]
    seconds: float


def load(
    database: Database,
    settings: Settings,
    seed: int = 0,
    today: dt.date | None = None,
    pictures: int = PICTURES,
) -> Summary:
    """Adds the campaign, or nothing.

    Its 14 days and the week after end on the Sunday before `today`; a second
    round without any action runs from that Monday, so that actions can be
    logged.

    Args:
        database: of the instance.
        settings: have the folder of photos.
        seed: of everything but passwords.
        today: by the campaign's clock; None asks the clock.
        pictures: photos with a file, some of which wait for people.

    Raises:
        UsageError: where the campaign is there already.
    """
    checks.whole("seed", seed)
    checks.whole("pictures", pictures)
    begun = time.monotonic()
    day = today or rules.day_of(now(), rules.Rules())
    starts = rules.monday(day)
    starts -= dt.timedelta(days=demo.DAYS + 7 * demo.AFTER)
    with database.read() as session:
        _refuse_twice(session)
    # What is slow, before anybody else has to wait for the write.
    passwords = {name: secrets.token_urlsafe(9) for name, _ in STAFF}
    hashes = {
        name: security.hash_password(given) for name, given in passwords.items()
    }
    nobody = security.hash_password(secrets.token_urlsafe(24))
    rng = np.random.default_rng(seed)
    meals = demo.meals(rng, starts)
    kept = _pictures(settings, seed, pictures)
    try:
        with database.write() as session:
            _refuse_twice(session)
            made = Loader(session, rng, starts)
            made.places()
            made.people(hashes, nobody)
            made.log(kept)
            records, grams = made.weigh(meals, seed)
            equivalents.fill(session)
            audit.note(session, None, "replay", NAME, seed=seed)
    except BaseException:
        photos.remove(settings.photos, *(file for _, file, _ in kept))
        raise
    return Summary(
        NAME,
        starts,
        demo.PEOPLE,
        made.counted,
        records,
        grams,
        len(kept),
        passwords,
        time.monotonic() - begun,
    )


def _refuse_twice(session: Session) -> None:
    slugs = [place.slug for place in demo.PLACES]
    names = sa.select(Campaign.id).where(Campaign.name.in_((NAME, NEXT)))
    places = sa.select(Canteen.id).where(Canteen.slug.in_(slugs))
    people = sa.select(User.id).where(User.pseudonym.startswith("demo-"))
    if any(session.scalar(a.limit(1)) for a in (names, places, people)):
        raise checks.UsageError(
            f"the campaign {NAME!r}, or a part of it, is here already; load it"
            " into another folder by --folder, or another database."
        )


def _pictures(settings: Settings, seed: int, count: int) -> list[Kept]:
    """Made-up plates in files; none where their generator is missing."""
    if not count or not importlib.util.find_spec("jaxedge.data.plates"):
        return []
    from PIL import Image

    from jaxedge.data import plates

    drawn = plates.draw(range(count), split="test", seed=seed)
    features_NxF = np.asarray(plates.of_photos(drawn.image_NxSxSx3))
    found = []
    for image, features in zip(drawn.image_NxSxSx3, features_NxF, strict=True):
        out = io.BytesIO()
        Image.fromarray(image).resize((SIDE, SIDE)).save(out, "JPEG")
        picture = photos.read(out.getvalue())
        found.append(
            (
                picture,
                photos.keep(picture, settings.photos),
                [round(float(value), 4) for value in features],
            )
        )
    return found


__all__ = ["NAME", "NEXT", "STAFF", "Summary", "load"]
