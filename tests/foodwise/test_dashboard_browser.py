"""The dashboard in a browser: what is drawn is what the rows say."""

from pathlib import Path
import socket
import threading

import pytest
import uvicorn

from jaxedge.foodwise.upkeep import replay
from jaxedge.foodwise.waste import stories
from jaxedge.foodwise.web import application
from jaxedge.foodwise.web.pages import dashboard
from tests.foodwise import weighing

CHROMIUM = Path("/usr/bin/chromium")
sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's Chromium"),
]
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def address(instance, monkeypatch):
    """A server of the made-up campaign, on a free port of this machine."""
    monkeypatch.setattr(dashboard, "today", lambda session: weighing.TODAY)
    app = application.create_app(instance)
    state = app.state.site
    replay.load(state.database, instance, 0, weighing.TODAY, pictures=0)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}", state
    server.should_exit = True
    thread.join(20)


def test_marks_are_rows_and_the_console_is_silent(address):
    base, state = address
    story = stories.story(state.database, None, weighing.TODAY, "en")
    bars = (
        "path[aria-roledescription=bar], path[aria-roledescription='rect mark']"
    )
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=ARGUMENTS
        )
        for width, query in ((390, ""), (1920, "?view=screen")):
            page = browser.new_page(
                viewport={"width": width, "height": 1080}, locale="en-GB"
            )
            said: list[str] = []
            page.on("console", lambda m, said=said: said.append(m.text))
            page.on("pageerror", lambda e, said=said: said.append(str(e)))
            page.goto(f"{base}/{query}")
            page.wait_for_function(
                "!document.querySelector('[data-chart=waiting]')",
                timeout=60_000,
            )
            assert page.locator("[data-chart=failed]").count() == 0
            for name in ("when", "what"):
                panel = page.locator(f"[data-panel={name}]")
                marks = panel.locator(".drawn").locator(bars).count()
                assert marks == len(story.panels[name].rows), name
            wide = "document.documentElement.scrollWidth"
            assert page.evaluate(wide) <= width
            assert said == []
            page.close()
        browser.close()
