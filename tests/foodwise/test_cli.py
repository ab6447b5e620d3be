"""The command line: one line for every mistake, and what each command does."""

import datetime as dt
import io
import json
import os
from pathlib import Path
import re
import subprocess
import sys
import tarfile
import types

import pytest
import sqlalchemy as sa

from jaxedge.core import checks
from jaxedge.foodwise import cli, commands
from jaxedge.foodwise.base import database, security
from jaxedge.foodwise.base.tables import Campaign, ModelVersion, User
from jaxedge.foodwise.campaign import staff
from jaxedge.foodwise.upkeep import versions
from jaxedge.run import main

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def opened(folder):
    return database.Database(f"sqlite:///{folder}/foodwise.db")


def users(folder):
    made = opened(folder)
    with made.read() as session:
        found = session.scalars(sa.select(User).order_by(User.id)).all()
    made.close()
    return found


def test_help_names_every_command(capsys):
    assert main.console(["foodwise", "--help"]) == 0
    told = capsys.readouterr().out
    for command in commands.COMMANDS:
        assert f"jaxedge foodwise {command}" in told
    assert commands.console([], "python -m jaxedge.foodwise") == 0
    assert "python -m jaxedge.foodwise serve" in capsys.readouterr().out


MISTAKES = {
    "command": (["srve"], "Did you mean 'serve'"),
    "flag": (["serve", "--prot=1"], "--prot=1"),
    "abbreviated": (["serve", "--addr=x"], "--addr=x"),
    "port": (["serve", "--port=99999"], "[0, 65535]"),
    "word": (["serve", "--port=high"], "'high'"),
    "grader": (["serve", "--grader=best"], "'best'"),
    "proxy": (["serve", "--proxy=localhost"], "no address or network"),
    "all proxies": (["serve", "--proxy=*"], "no address or network"),
    "bits": (["serve", "--proxy=127.0.0.1,10.0.0.1/8"], "'10.0.0.1/8'"),
    "stray": (["backup", "x"], "x"),
    "name": (["create-admin"], "name"),
    "file": (["restore"], "file"),
    "of another": (["backup", "--demo"], "--demo"),
    "database": (["serve", "--database=sqlite://"], "name a file"),
    "no backup": (["restore", "none.tar.gz"], "there is no such file"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, told = MISTAKES[name]
    assert main.console(["foodwise", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("jaxedge foodwise: error: ") and told in line
    assert [*tmp_path.iterdir()] == []


def test_a_missing_package_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "segno", None)
    assert commands.console(["backup"]) == 2
    told = capsys.readouterr().err
    assert "needs segno" in told
    assert 'pip install "jaxedge[foodwise]"' in told


def test_all_packages_of_the_extra_are_looked_for():
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    extra = text.split("foodwise = [")[1].split("]\n")[0].lower()
    modules = {"argon2": "argon2-cffi", "PIL": "pillow",
               "python_multipart": "python-multipart"}  # fmt: skip
    for name in commands.PACKAGES:
        assert modules.get(name, name).lower() in extra, name


def test_commands_run_and_nothing_of_the_web_is_loaded_before(tmp_path):
    """One process: `import jaxedge` and --help load no page; then commands."""
    code = f"""
import sys
import jaxedge
from jaxedge.foodwise import commands
commands.console(["--help"])
loaded = {{"fastapi", "sqlalchemy", "PIL", "alembic"}} & {{*sys.modules}}
assert not loaded, loaded
folder = "--folder={tmp_path}/new"
assert commands.console(["init-db", folder]) == 0
assert commands.console(["create-admin", "boss", folder]) == 0
assert commands.console(["create-admin", "boss", folder]) == 2
assert commands.console(["create-admin", "weak", folder]) == 2
assert commands.console(["review-export", folder]) == 0
assert commands.console(["retrain", folder]) == 2
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        input="a long password\nanother password\nshort\n",
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr
    assert "admin: boss" in done.stdout
    errors = done.stderr.splitlines()
    assert "is taken" in errors[0] and "5 letters" in errors[1]
    assert "0 photos are labelled" in errors[2]
    (boss,) = users(tmp_path / "new")
    assert boss.role == "admin"
    assert security.right_password(boss, "a long password")


def run(instance, *arguments):
    return commands.console([*arguments, f"--folder={instance.folder}"])


def tarfile_member(path, name):
    with tarfile.open(path) as archive:
        return archive.extractfile(name).read()


@pytest.mark.parametrize(
    "flags, trusted",
    [
        ([], (False, "")),
        (["--proxy=127.0.0.1,10.0.0.0/8"], (True, "127.0.0.1,10.0.0.0/8")),
    ],
)
def test_a_proxy_is_believed_if_it_is_named(
    instance, monkeypatch, flags, trusted
):
    """By uvicorn, which takes whose address it is from its headers."""
    calls = []
    monkeypatch.setattr(
        "uvicorn.run", lambda app, **options: calls.append(options)
    )
    monkeypatch.setattr(cli.reviews, "warm_up", lambda: None)
    assert run(instance, "serve", "--grader=none", *flags) == 0
    (options,) = calls
    names = ("proxy_headers", "forwarded_allow_ips")
    assert tuple(options[name] for name in names) == trusted


def test_backup_and_restore(instance, tmp_path, capsys):
    made = opened(instance.folder)
    with made.write() as session:
        staff.create(session, "one", "x", "admin")
    made.close()
    assert run(instance, "backup") == 0
    path = capsys.readouterr().out.removeprefix("backup: ").strip()
    other = instance._replace(folder=tmp_path / "other")
    assert run(other, "restore", path) == 0
    told = capsys.readouterr()
    assert "restored: 2 rows" in told.out
    # Whoever withdrew after it was made has come back with it.
    made = json.loads(tarfile_member(path, "manifest.json"))["made"]
    assert f"warning: whoever withdrew after {made} is there again" in told.err
    assert [user.pseudonym for user in users(other.folder)] == ["one"]
    assert run(other, "restore", path) == 2
    assert "is not empty" in capsys.readouterr().err


def test_an_export_that_cannot_be_written_is_told(instance, capsys):
    assert run(instance, "review-export", "--out=/none/x.jsonl") == 2
    assert "name another file by --out" in capsys.readouterr().err
    path = instance.folder / "labels.jsonl"
    assert run(instance, "review-export", f"--out={path}") == 0
    assert path.read_text() == ""


@pytest.fixture
def listening(monkeypatch):
    """What `serve` would listen with, instead of doing so."""
    found = types.SimpleNamespace(calls=[])

    def listen(settings, database, predictor, asked):
        found.calls.append((settings, predictor))

    monkeypatch.setattr(cli, "_listen", listen)
    monkeypatch.setattr(cli.reviews, "warm_up", lambda: None)
    return found


def test_serve_makes_what_is_missing_once(
    instance, listening, capsys, monkeypatch
):
    monkeypatch.setattr(cli.getpass, "getpass", None)
    assert run(instance, "serve", "--grader=none", "--port=8123") == 0
    told = capsys.readouterr().out
    assert "address: http://127.0.0.1:8123" in told
    password = told.split("password ")[1].split()[0]
    (admin,) = users(instance.folder)
    assert security.right_password(admin, password)
    assert run(instance, "serve", "--grader=none", "--address=https://x") == 0
    told = capsys.readouterr().out
    assert "password" not in told and "address: https://x" in told
    first, second = listening.calls
    assert first[0].address == "http://127.0.0.1:8123"
    assert (second[0].secure, second[1]) == (False, None)


def test_serve_teaches_a_network_once(instance, listening, monkeypatch):
    taught = []

    def teach(settings, database):
        taught.append(settings.folder)
        with database.write() as session:
            versions.add(session, "v1", {"acc": 1.0})
            session.flush()
            versions.activate(session, None, "v1")
        return "v1"

    monkeypatch.setattr(versions, "teach", teach)
    monkeypatch.setattr(versions, "load", lambda settings, version: version)
    for _ in range(2):
        assert run(instance, "serve") == 0
    assert len(taught) == 1
    assert [call[1] for call in listening.calls] == ["v1", "v1"]
    made = opened(instance.folder)
    with made.read() as session:
        assert session.scalars(sa.select(ModelVersion.active)).all() == [True]
    made.close()


def test_a_demo_is_loaded_into_an_empty_instance(
    instance, listening, monkeypatch, capsys
):
    seeds = []

    def load(database, settings, seed):
        seeds.append(seed)
        day = dt.date(2026, 3, 2)
        with database.write() as session:
            session.add(Campaign(name="demo", starts=day, ends=day))
            staff.create(session, "demo-admin", "x", "admin")
        return types.SimpleNamespace(
            campaign="demo",
            people=220,
            actions=800,
            log_ins={"demo-admin": "its password"},
        )

    fake = types.SimpleNamespace(load=load)
    monkeypatch.setitem(sys.modules, "jaxedge.foodwise.upkeep.replay", fake)
    monkeypatch.setattr("jaxedge.foodwise.upkeep.replay", fake, raising=False)
    for _ in range(2):
        assert (
            run(instance, "serve", "--grader=none", "--demo", "--seed=3") == 0
        )
    assert seeds == [3]
    # It has an admin, so that no other one is made.
    assert [u.pseudonym for u in users(instance.folder)] == ["demo-admin"]
    told = capsys.readouterr().out
    assert told.count("log-in: demo-admin, password its password") == 1
    assert run(instance, "seed") == 2
    assert "there is a campaign already" in capsys.readouterr().err


def test_passwords_come_from_a_line_of_the_input(instance, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    with pytest.raises(checks.UsageError, match="5 letters"):
        commands.run(["create-admin", "x", f"--folder={instance.folder}"])
    assert users(instance.folder) == []


def test_a_lost_password_is_replaced_by_one_that_works_once(
    instance, monkeypatch, capsys
):
    monkeypatch.setattr("sys.stdin", io.StringIO("a long password\n"))
    assert run(instance, "create-admin", "boss") == 0
    capsys.readouterr()
    assert run(instance, "reset-password", "Boss") == 0
    (password,) = re.findall("boss, password (.+)", capsys.readouterr().out)
    (boss,) = users(instance.folder)
    assert boss.password_once and security.right_password(boss, password)
    assert run(instance, "reset-password", "nobody") == 2
    assert "nobody is called 'nobody'" in capsys.readouterr().err
