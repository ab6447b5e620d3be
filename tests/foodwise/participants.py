"""What tests of the participants' pages share: photos, places, persons."""

import datetime as dt
import io
import re

import numpy as np
from PIL import Image

from jaxedge.foodwise.base import security, tables
from jaxedge.foodwise.base.settings import CONSENT
from jaxedge.foodwise.grading.predictor import Grade

CLEAN, GREY, DARK = 220, 128, 50  # As the conftest's network sees them.
PASSWORD = "long enough"


def picture(shade=CLEAN, seed=0, size=(320, 240)):
    """[H, W, 3] of blobs around a shade: another seed is another plate."""
    rng = np.random.default_rng(seed)
    width, height = size
    coarse = rng.uniform(-25, 25, (12, 12, 3)) + shade
    small = Image.fromarray(np.uint8(np.clip(coarse, 0, 255)))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def encoded(image_HxWx3, kind="JPEG", **options):
    """A file of it."""
    out = io.BytesIO()
    Image.fromarray(image_HxWx3).save(out, kind, **options)
    return out.getvalue()


def photo(shade=CLEAN, seed=0, **options):
    """A JPEG as a phone sends it."""
    return encoded(picture(shade, seed), **options)


def graded(decision=0, quality=""):
    """What a network could have said."""
    alpha = [1.0, 1.0, 1.0]
    if decision is not None:
        alpha[decision] = 18.0
    total = sum(alpha)
    return Grade(
        tuple(a / total for a in alpha),
        tuple(alpha),
        3 / total,
        decision,
        quality,
        "told",
        0,
        (0.5,) * 128,
    )


def person(session, name="anna", **more):
    """A participant who has agreed and has no password."""
    user = tables.User(pseudonym=name, password_hash="none", **more)
    session.add(user)
    session.flush()
    session.add(tables.Consent(user_id=user.id, version=CONSENT))
    session.flush()
    return user


def campaign(session, starts=None, ends=None, **rules):
    """One that runs today, if no days are told."""
    today = tables.now().date()
    made = tables.Campaign(
        name="Spring",
        starts=starts or today - dt.timedelta(days=5),
        ends=ends or today + dt.timedelta(days=5),
        rules=rules,
    )
    session.add(made)
    session.flush()
    return made


def canteen(session, slug="lg1", hours=(), **more):
    """With (meal, opens, closes) as its hours; without any it serves always."""
    made = tables.Canteen(slug=slug, name=slug.upper(), **more)
    session.add(made)
    session.flush()
    for meal, opens, closes in hours:
        session.add(
            tables.MealPeriod(
                canteen_id=made.id, meal=meal, opens=opens, closes=closes
            )
        )
    session.flush()
    return made


def set_up(app, **rules):
    """A campaign and a canteen of an application; returns the canteen's id."""
    with app.state.site.database.write() as session:
        campaign(session, **rules)
        return canteen(session).id


def code_of(page):
    """The code that the forms of a page carry."""
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page.text)
    assert found, page.text[:500]
    return found[1]


def once_of(page):
    """What the form of an action carries."""
    return re.search(r'name="once" value="([^"]+)"', page.text)[1]


def post(client, path, page="/login", **data):
    """Sends a form with the code of a page; files by the key `files`."""
    files = data.pop("files", None)
    code = code_of(client.get(page, follow_redirects=True))
    return client.post(path, data={"csrf": code, **data}, files=files)


def join(client, name="anna", password=PASSWORD, **more):
    """As by the form."""
    data = {"pseudonym": name, "password": password, "consent": CONSENT}
    return post(client, "/join", "/join", **(data | more))


def log(client, canteen_id, kind="shared", data=None, **more):
    """An action by the form; `data` is a photo."""
    page = client.get("/log")
    form = {
        "csrf": code_of(page),
        "once": once_of(page),
        "canteen": canteen_id,
        "meal": "lunch",
        "kind": kind,
    }
    files = {"photo": ("plate.jpg", data, "image/jpeg")} if data else None
    return client.post("/log", data=form | more, files=files)


def staff(app, client, role, name="staffer"):
    """Logs a browser in as one of the staff; returns their id."""
    site = app.state.site
    with site.database.write() as session:
        user = person(session, name, role=role)
        user.password_hash = security.hash_password(PASSWORD)
        number = user.id
    answer = post(client, "/login", pseudonym=name, password=PASSWORD)
    assert answer.status_code == 303
    return number


def rows(app, table):
    """All rows of a table."""
    with app.state.site.database.read() as session:
        return session.query(table).order_by(*table.__table__.primary_key).all()


def files(app):
    """Names in the folder of photos."""
    return sorted(p.name for p in app.state.site.settings.photos.iterdir())
