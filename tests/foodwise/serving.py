"""An instance that a browser can reach: a server in a thread, on loopback."""

import contextlib
import socket
import threading
import time
from typing import NamedTuple

import argon2
import uvicorn

from jaxedge.foodwise.base import database, security, settings
from jaxedge.foodwise.web import application, asking
from tests.foodwise.conftest import FakePredictor

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_WAIT_S = 60


class Served(NamedTuple):
    """An instance with its address."""

    base: str
    site: asking.Site


@contextlib.contextmanager
def serving(folder, monkeypatch, url="", empty=None):
    """Serves an instance until the block ends.

    Args:
        folder: of the instance.
        monkeypatch: lasts as long as the server; passwords are hashed in no
            time.
        url: of a database; "" is SQLite in the folder.
        empty: bytes of a SQLite database that has the tables.
    """
    monkeypatch.setattr(security, "HASHER", argon2.PasswordHasher(1, 8, 1))
    monkeypatch.setattr(security, "_NOBODY", [])
    made = settings.Settings(folder, url, attempts=1000)
    settings.prepare(made)
    if empty is not None:
        (folder / "foodwise.db").write_bytes(empty)
    else:
        database.migrate(made.url)
    app = application.create_app(made, FakePredictor())
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, log_level="warning", server_header=False, ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        end = time.monotonic() + _WAIT_S
        while not server.started and time.monotonic() < end:
            time.sleep(0.01)
        port = listening.getsockname()[1]
        yield Served(f"http://127.0.0.1:{port}", app.state.site)
    finally:
        server.should_exit = True
        thread.join(_WAIT_S)
        listening.close()
