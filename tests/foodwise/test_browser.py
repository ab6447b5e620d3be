"""A browser on a phone, at a desk, without a mouse, without scripts.

Flows of participants and reviewers run on both databases. In all of them the
console stays silent, which is where a browser tells of what the policy stopped,
and nothing is asked of another machine.
"""

import datetime as dt
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import joinedload

from jaxedge.foodwise.base import rules, security
from jaxedge.foodwise.base.tables import (
    Action,
    Campaign,
    Canteen,
    Label,
    PointsEntry,
    User,
    WasteRecord,
    now,
)
from jaxedge.foodwise.campaign import staff
from tests.foodwise import participants as made
from tests.foodwise.postgres import postgres  # noqa: F401 - a fixture
from tests.foodwise.serving import ARGUMENTS, serving

CHROMIUM = Path("/usr/bin/chromium")
sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's Chromium"),
]
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "is_mobile": True,
    "has_touch": True,
    "device_scale_factor": 2,
}
DESK = {"viewport": {"width": 1280, "height": 900}}
BOTH = pytest.mark.parametrize("served", ["lite", "server"], indirect=True)
DAY = dt.timedelta(days=1)
WIDE = "document.documentElement.scrollWidth - window.innerWidth"
FOCUSED = "document.activeElement.{}"
MOST_TABS = 40
# Vega's word for a layer that is empty, as an estimate is at first.
NO_ROWS = "WARN Infinite extent for field"


@pytest.fixture(scope="module")
def patched():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def _set_up(served):
    today = rules.day_of(now(), rules.Rules())
    with served.site.database.write() as session:
        session.add_all(
            [
                Canteen(id=1, slug="lg1", name="LG1", name_zh="一號"),
                Campaign(
                    id=1, name="now", starts=today - DAY, ends=today + DAY
                ),
            ]
        )
        judge = staff.create(
            session, "judge", security.hash_password(made.PASSWORD), "reviewer"
        )
        judge.trusted = True
    return served


@pytest.fixture(scope="module")
def lite(tmp_path_factory, patched, _migrated):
    """On SQLite."""
    folder = tmp_path_factory.mktemp("lite") / "instance"
    with serving(folder, patched, empty=_migrated) as served:
        yield _set_up(served)


@pytest.fixture(scope="module")
def server(tmp_path_factory, patched, postgres):  # noqa: F811
    """On PostgreSQL."""
    folder = tmp_path_factory.mktemp("server") / "instance"
    with serving(folder, patched, postgres()) as served:
        yield _set_up(served)


@pytest.fixture
def served(request):
    """The instance that the parameter names."""
    return request.getfixturevalue(getattr(request, "param", "lite"))


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=ARGUMENTS
        )
        yield browser
        browser.close()


@pytest.fixture
def opens(chromium, served):
    """Opens a page of its own cookies; at the end nothing was complained of."""
    said, asked, contexts = [], [], []

    def open_page(**options):
        context = chromium.new_context(
            base_url=served.base, locale="en-GB", **options
        )
        contexts.append(context)
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        return page

    yield open_page
    for context in contexts:
        context.close()
    own = (served.base, "blob:", "data:")
    assert [text for text in said if not text.startswith(NO_ROWS)] == []
    assert [url for url in asked if not url.startswith(own)] == []


def plate(shade, seed):
    return {
        "name": "plate.jpg",
        "mimeType": "image/jpeg",
        "buffer": made.photo(shade, seed),
    }


def joins(page, name):
    """By the form."""
    page.goto("/join")
    page.get_by_label("Pseudonym").fill(name)
    page.get_by_label("Password").fill(made.PASSWORD)
    page.get_by_label("I have read this").check()
    page.get_by_role("button", name="Join").click()
    page.wait_for_url("**/log")


def logs_in(page, name):
    page.goto("/login")
    page.get_by_label("Pseudonym").fill(name)
    page.get_by_label("Password").fill(made.PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/consent*")


def actions_of(served, name):
    """Their actions, the earliest first, and their points."""
    with served.site.database.read() as session:
        user = session.scalars(
            sa.select(User).where(User.pseudonym == name)
        ).one()
        found = session.scalars(
            sa.select(Action)
            .where(Action.user_id == user.id)
            .order_by(Action.id)
            .options(joinedload(Action.photo))
        ).all()
        points = session.scalar(
            sa.select(sa.func.sum(PointsEntry.points)).where(
                PointsEntry.user_id == user.id
            )
        )
    return found, points


@BOTH
def test_phone_from_joining_to_undoing(opens, served):
    page = opens(**PHONE)
    page.goto("/")
    page.get_by_role("navigation").get_by_role("link", name="Join").tap()
    page.get_by_label("Pseudonym").fill("phone")
    page.get_by_label("Password").fill(made.PASSWORD)
    page.get_by_label("I have read this").tap()
    assert page.evaluate(WIDE) <= 0
    page.get_by_role("button", name="Join").tap()
    page.wait_for_url("**/log")
    page.get_by_label("Photo of the plate").set_input_files(
        plate(made.CLEAN, 1)
    )
    assert page.get_by_alt_text("The photo that you chose").is_visible()
    page.get_by_label("Lunch").tap()
    assert page.evaluate(WIDE) <= 0
    page.get_by_role("button", name="Clean plate").tap()
    page.get_by_role("heading", name="Logged").wait_for()
    assert page.locator(".grade strong").inner_text() == "clean"
    assert page.locator(".good").inner_text() == "+15 points"
    shown = page.get_by_alt_text("Your photo")
    assert shown.evaluate("image => image.decode().then(() => true)")
    (action,), points = actions_of(served, "phone")
    assert (action.state, points) == ("counted", 15)
    file = served.site.settings.photos / action.photo.file
    assert file.exists() and page.evaluate(WIDE) <= 0
    page.get_by_role("button", name="Undo").tap()
    page.wait_for_url("**/me?done=undone")
    assert page.locator(".standing dd").first.inner_text() == "0"
    assert page.evaluate(WIDE) <= 0
    (action,), points = actions_of(served, "phone")
    assert (action.state, points) == ("undone", 0)
    assert not file.exists()


@BOTH
def test_reviewer_settles_what_the_network_could_not(opens, served):
    eater = opens(**PHONE)
    joins(eater, "eater")
    eater.get_by_label("Photo of the plate").set_input_files(
        plate(made.GREY, 2)
    )
    eater.get_by_label("Dinner").check()
    eater.get_by_role("button", name="Clean plate").click()
    eater.locator(".waits").wait_for()
    (action,), points = actions_of(served, "eater")
    assert (action.state, points) == ("review", None)
    judge = opens(**DESK)
    logs_in(judge, "judge")
    judge.get_by_role("link", name="Review").click()
    judge.wait_for_url("**/review")
    judge.evaluate("window.same = true")
    assert judge.get_by_alt_text("Photo of a plate").is_visible()
    assert "eater" not in judge.content()
    judge.get_by_role("button", name="clean").click()
    judge.get_by_text("Nothing waits for you").wait_for()
    # Only the photo was changed, and not the whole page.
    assert judge.evaluate("window.same")
    with served.site.database.read() as session:
        label = session.get_one(Label, action.photo.id)
    assert (label.label, label.how) == (0, "trusted")
    (action,), points = actions_of(served, "eater")
    assert (action.state, points) == ("counted", 15)
    eater.goto("/me")
    assert eater.locator(".standing dd").first.inner_text() == "15"


def focus_on(page, **wanted):
    """Presses Tab until an element with these properties has the focus."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if all(
            page.evaluate(FOCUSED.format(name)) == value
            for name, value in wanted.items()
        ):
            style = "getComputedStyle(document.activeElement).outlineStyle"
            assert page.evaluate(style) != "none", wanted
            return
    pytest.fail(f"no Tab leads to {wanted}")


def test_logging_by_keys_alone(opens, served):
    page = opens(**DESK)
    # The window of the desktop in which a file is chosen.
    page.on("filechooser", lambda asks: asks.set_files(plate(made.CLEAN, 3)))
    keys = page.keyboard
    page.goto("/join")
    keys.press("Tab")
    assert page.evaluate(FOCUSED.format("className")) == "skip"
    keys.press("Enter")
    focus_on(page, id="pseudonym")
    keys.type("fingers")
    focus_on(page, id="password")
    keys.type(made.PASSWORD)
    focus_on(page, name="consent")
    keys.press("Space")
    focus_on(page, tagName="BUTTON", textContent="Join")
    keys.press("Enter")
    page.wait_for_url("**/log")
    focus_on(page, name="meal")
    keys.press("ArrowRight")
    focus_on(page, id="photo")
    keys.press("Enter")
    page.get_by_alt_text("The photo that you chose").wait_for()
    focus_on(page, value="clean_plate")
    keys.press("Enter")
    page.get_by_role("heading", name="Logged").wait_for()
    (action,), points = actions_of(served, "fingers")
    assert (action.kind, points) == ("clean_plate", 15)
    focus_on(page, tagName="BUTTON", textContent="Undo")
    keys.press("Enter")
    page.wait_for_url("**/me?done=undone")
    assert actions_of(served, "fingers")[1] == 0


def test_enter_within_a_field_logs_nothing_by_accident(opens, served):
    page = opens(**DESK)
    joins(page, "typist")
    page.locator("summary").first.click()
    page.get_by_label("Code of the canteen").press("Enter")
    page.wait_for_timeout(100)
    assert page.url.endswith("/log")
    assert actions_of(served, "typist") == ([], None)


def test_logging_without_scripts(opens, served):
    page = opens(java_script_enabled=False, **PHONE)
    joins(page, "plain")
    page.get_by_label("Photo of the plate").set_input_files(
        plate(made.CLEAN, 4)
    )
    page.get_by_label("Tea").check()
    page.get_by_role("button", name="Clean plate").click()
    page.get_by_role("heading", name="Logged").wait_for()
    assert page.locator(".good").inner_text() == "+15 points"
    (action,), points = actions_of(served, "plain")
    assert (action.meal, action.state, points) == ("tea", "counted", 15)
    page.get_by_role("button", name="Undo").click()
    page.wait_for_url("**/me?done=undone")
    assert actions_of(served, "plain")[1] == 0
    page.get_by_role("button", name="中文").click()
    page.get_by_role("heading", name="我的一週").wait_for()


def _weigh(served):
    """Some meals of three weeks; returns the Monday of the last of them."""
    today = rules.day_of(now(), rules.Rules())
    monday = today - dt.timedelta(days=today.weekday() + 7)
    with served.site.database.write() as session:
        session.add_all(
            WasteRecord(
                canteen_id=1,
                day=monday + (n - 7 * week) * DAY,
                meal=meal,
                category=category,
                grams=1000 * (n + 1) + 70 * week + 7 * len(category),
                diners=50,
                source="test",
            )
            for week in range(3)
            for n in range(5)
            for meal in ("lunch", "dinner")[: 1 + n % 2]
            for category in ("rice", "meat", "soup")
        )
    return monday


def test_marks_of_the_dashboard_are_rows(opens, served):
    monday = _weigh(served)
    in_week = WasteRecord.day.between(monday, monday + 6 * DAY)
    with served.site.database.read() as session:
        meals = session.execute(
            sa.select(WasteRecord.day, WasteRecord.meal)
            .where(in_week)
            .distinct()
        ).all()
        kinds = session.scalars(
            sa.select(WasteRecord.category).where(in_week).distinct()
        ).all()
        grams = session.scalar(
            sa.select(sa.func.sum(WasteRecord.grams)).where(in_week)
        )
    assert (len(meals), len(kinds)) == (7, 3)
    for size, query in ((PHONE, ""), (DESK, "&view=screen")):
        page = opens(**size)
        page.goto(f"/?week={monday}{query}")
        page.wait_for_function(
            "!document.querySelector('[data-chart=waiting]')"
        )
        assert page.locator("[data-chart=failed]").count() == 0
        drawn = "[data-panel={}] path[aria-roledescription='{}']"
        cells = page.locator(drawn.format("when", "rect mark"))
        bars = page.locator(drawn.format("what", "bar"))
        assert (cells.count(), bars.count()) == (len(meals), len(kinds))
        assert page.evaluate(WIDE) <= 0
    text = page.request.get(f"/data/what.csv?week={monday}").text()
    columns, *rows = (line.split(",") for line in text.splitlines())
    kept = [int(row[columns.index("grams")]) for row in rows if row[0]]
    assert sum(kept) == grams
