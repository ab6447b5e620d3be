"""A PostgreSQL server of the tests' own, where it is installed."""

import contextlib
import os
from pathlib import Path
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

WAIT_S = 60


def _programs():
    """The folder of the newest server's programs; None without one."""
    found = [
        *Path("/usr/lib/postgresql").glob("*/bin/initdb"),
        *filter(None, [shutil.which("initdb")]),
    ]
    return Path(max(found, key=str)).parent if found else None


def _who():
    """As whom it runs: PostgreSQL refuses to be root."""
    if os.getuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = names.get("postgres") or names.get("nobody")
    if entry is None:
        pytest.skip("PostgreSQL cannot run as root, and nobody else is there")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="session")
def postgres():
    """Makes empty databases: each call returns the URL of a new one."""
    with running("-c", "fsync=off") as make:
        yield make


@contextlib.contextmanager
def running(*options):
    """A server with these options; what it yields makes empty databases."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    psycopg = pytest.importorskip("psycopg")
    who, port = _who(), _free_port()
    with tempfile.TemporaryDirectory(prefix="foodwise-pg-") as top:
        folder = Path(top) / "data"
        folder.mkdir()
        if who:
            for path in (Path(top), folder):
                os.chown(path, who["user"], who["group"])
        subprocess.run(
            [programs / "initdb", "-D", folder, "-A", "trust", "-U", "postgres",
             "-N", "--no-locale", "-E", "UTF8"],
            check=True, capture_output=True, cwd=folder, **who,
        )  # fmt: skip
        server = subprocess.Popen(
            [programs / "postgres", "-D", folder, "-p", str(port), "-k", folder,
             "-c", "listen_addresses=127.0.0.1", *options],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder,
            **who,
        )  # fmt: skip
        try:
            address = f"postgres@127.0.0.1:{port}"
            yield _maker(psycopg, address, server)
        finally:
            server.send_signal(signal.SIGINT)  # A fast end, without a wait.
            server.wait(WAIT_S)


def _maker(psycopg, address, server):
    end = time.monotonic() + WAIT_S
    while True:
        try:
            psycopg.connect(f"postgresql://{address}/postgres").close()
            break
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > end:
                pytest.fail("PostgreSQL did not start")
            time.sleep(0.05)
    count = 0

    def make():
        nonlocal count
        count += 1
        with psycopg.connect(
            f"postgresql://{address}/postgres", autocommit=True
        ) as connection:
            connection.execute(f"CREATE DATABASE foodwise_{count}")
        return f"postgresql+psycopg://{address}/foodwise_{count}"

    return make
