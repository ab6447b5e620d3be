"""Pictures of FoodWise for the documentation, of the made-up campaign.

    .venv/bin/python scripts/foodwise_pictures.py [--model=DIR] [--out=DIR]

DIR of --model is that of a taught version, such as runs/foodwise/models/v0001;
without it one is taught, which takes minutes. Needs Debian's Chromium, and
fonts-noto-cjk for the Chinese pages. Each picture has 256 colours, so that it
is small.
"""

import argparse
from collections.abc import Iterator
import contextlib
import io
from pathlib import Path
import shutil
import socket
import sys
import tempfile
import threading
import time
from typing import Any

import numpy as np
from PIL import Image
from playwright import sync_api
import sqlalchemy as sa
import uvicorn

from jaxedge.data import plates
from jaxedge.foodwise.base import security, settings, tables
from jaxedge.foodwise.base.database import Database, migrate
from jaxedge.foodwise.upkeep import replay, versions
from jaxedge.foodwise.web import application, asking

ROOT = Path(__file__).resolve().parents[1]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic",
             "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip
PHONE: Any = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
SCREEN: Any = {"viewport": {"width": 1920, "height": 1080}}
MOST_BYTES = 200_000
# Where a look at the whole page says more than one at its top.
WHOLE = ("dashboard_1920", "week_390")


def small(png: bytes) -> bytes:
    """The same picture with a palette."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    for colours in (256, 96, 48, 24):
        out = io.BytesIO()
        picture.quantize(colours, dither=Image.Dither.NONE).save(
            out, "PNG", optimize=True
        )
        if out.tell() < MOST_BYTES:
            return out.getvalue()
    # A long page: half as fine.
    out = io.BytesIO()
    half = picture.resize((picture.width // 2, picture.height // 2))
    half.quantize(64, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def plate(place: Path, kind: int) -> Path:
    """A file with a synthetic plate of a class, as a phone would send it."""
    drawn = plates.draw(range(60), split="valid")
    index = int(np.flatnonzero(np.asarray(drawn.label_N) == kind)[0])
    image = Image.fromarray(np.asarray(drawn.image_NxSxSx3[index]))
    path = place / f"plate{kind}.jpg"
    image.resize((960, 960), Image.Resampling.BICUBIC).save(path)
    return path


@contextlib.contextmanager
def served(
    folder: Path, model: Path | None
) -> Iterator[tuple[str, asking.Site]]:
    """A server of the made-up campaign; its address."""
    made = settings.prepare(settings.Settings(folder))
    migrate(made.url)
    database = Database(made.url)
    if model is None:
        predictor = versions.load(made, versions.teach(made, database))
    else:
        shutil.copytree(model, made.models / model.name)
        shutil.copy(model.parent / "base.npz", made.models)
        predictor = versions.load(made, model.name)
        with database.write() as session:
            versions.add(session, model.name, {})
            session.flush()
            versions.activate(session, None, model.name)
    replay.load(database, made)
    with database.write() as session:  # Whatever the hour is, they serve.
        session.execute(sa.delete(tables.MealPeriod))
    app = application.create_app(made, predictor, database)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="warning", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.05)
        port = listening.getsockname()[1]
        yield f"http://127.0.0.1:{port}", app.state.site
    finally:
        server.should_exit = True
        thread.join()
        database.close()


class Camera:
    """Opens pages as somebody, and keeps pictures of them."""

    def __init__(self, browser: Any, base: str, site: asking.Site, out: Path):
        self.browser, self.base, self.site, self.out = browser, base, site, out

    def page(self, size: Any, who: str = "", language: str = "en") -> Any:
        """A new page, where `who` has logged in."""
        context = self.browser.new_context(
            base_url=self.base, locale="en-GB", **size
        )
        cookies = {"language": language}
        if who:
            with self.site.database.write() as session:
                user = session.scalars(
                    sa.select(tables.User).where(tables.User.pseudonym == who)
                ).one()
                user.language = language
                token = self.site.guard.start(session, user)
            cookies[security.COOKIE] = self.site.guard.sign(token)
        context.add_cookies(
            [
                {"name": k, "value": v, "url": self.base}
                for k, v in cookies.items()
            ]
        )
        return context.new_page()

    def take(self, page: Any, name: str, path: str = "") -> None:
        """A picture of a page, once its charts are drawn."""
        if path:
            page.goto(path)
        page.wait_for_function(
            "!document.querySelector('[data-chart=waiting]')", timeout=120_000
        )
        page.wait_for_load_state("networkidle")
        png = small(page.screenshot(full_page=name in WHOLE))
        (self.out / f"{name}.png").write_bytes(png)
        print(f"{name}: {len(png) // 1000} kB", flush=True)


def participants(site: asking.Site) -> tuple[str, str]:
    """Somebody who did much, and somebody of the staff who reviews."""
    with site.database.read() as session:
        most = session.scalars(
            sa.select(tables.User.pseudonym)
            .join(tables.Action, tables.Action.user_id == tables.User.id)
            .where(tables.User.role == "participant")
            .group_by(tables.User.id)
            .order_by(sa.func.count().desc())
        ).first()
        admin = session.scalars(
            sa.select(tables.User.pseudonym).where(tables.User.role == "admin")
        ).first()
    assert most and admin
    return most, admin


def pictures(camera: Camera, place: Path) -> None:
    """All of them."""
    person, admin = participants(camera.site)
    camera.take(camera.page(PHONE), "dashboard_390", "/")
    camera.take(camera.page(PHONE, language="zh-Hant"), "chinese_390", "/")
    camera.take(camera.page(PHONE), "join_390", "/join")
    page = camera.page(PHONE, person)
    page.goto("/log")
    page.locator("select[name=canteen]").select_option(index=1)
    page.locator("input[name=photo]").set_input_files(plate(place, 0))
    camera.take(page, "log_390")
    page.locator("button[value=clean_plate]").tap()
    page.wait_for_selector("[role=status]")
    camera.take(page, "graded_390")
    camera.take(page, "week_390", "/me")
    camera.take(camera.page(PHONE, admin), "review_390", "/review")
    camera.take(camera.page(SCREEN), "screen_1920", "/?view=screen")
    camera.take(camera.page(SCREEN), "dashboard_1920", "/")
    camera.take(camera.page(SCREEN, admin), "admin_1920", "/admin")


def main() -> int:
    """Reads the flags; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs" / "pictures" / "foodwise"
    )
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        base, site = stack.enter_context(
            served(place / "instance", given.model)
        )
        playwright = stack.enter_context(sync_api.sync_playwright())
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=ARGUMENTS
        )
        pictures(Camera(browser, base, site, given.out), place)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
