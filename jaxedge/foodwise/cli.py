"""What the commands of FoodWise do; `commands` reads them."""

from collections.abc import Iterator
import contextlib
import getpass
import secrets
import sys
import threading
from typing import Any

import rich.console
import sqlalchemy as sa

from jaxedge.core import checks
from jaxedge.foodwise.base import security
from jaxedge.foodwise.base.database import Database, migrate
from jaxedge.foodwise.base.settings import Settings, prepare
from jaxedge.foodwise.base.tables import Campaign, User, now
from jaxedge.foodwise.campaign import people, reviews, staff
from jaxedge.foodwise.grading.predictor import Predictor
from jaxedge.foodwise.upkeep import backup, restore, versions
from jaxedge.foodwise.waste import equivalents


def run(asked: Any) -> int:
    """Runs a command of `commands.parse`; returns the exit status."""
    settings = Settings(asked.folder, asked.database)
    if asked.command == "restore":
        return _restore(settings, asked)
    if asked.command == "serve":
        return _serve(settings, asked)
    with _opened(settings) as database:
        return _COMMANDS[asked.command](settings, database, asked)


@contextlib.contextmanager
def _opened(settings: Settings) -> Iterator[Database]:
    """The database, with all of its tables."""
    database = Database(settings.url)  # Of a wrong URL no folder is made.
    prepare(settings)
    try:
        migrate(settings.url)
        yield database
    finally:
        database.close()


def _init(settings: Settings, database: Database, asked: Any) -> int:
    with database.write() as session:
        equivalents.fill(session)
    print(f"tables: {database.engine.url!r}")
    return 0


def _seed(settings: Settings, database: Database, asked: Any) -> int:
    with database.read() as session:
        if session.scalar(sa.select(Campaign.id).limit(1)) is not None:
            raise checks.UsageError(
                "there is a campaign already; a made-up one is loaded into an"
                " empty instance: name another --folder or --database."
            )
    from jaxedge.foodwise.upkeep import replay

    with _busy("loading the made-up campaign"):
        found = replay.load(database, settings, seed=asked.seed)
    print(
        f"loaded: {found.campaign}, {found.people} people, {found.actions}"
        " actions; all of it is synthetic"
    )
    _tell(found.log_ins)
    return 0


def _tell(log_ins: dict[str, str]) -> None:
    """Passwords are told once, and kept nowhere."""
    for name, password in log_ins.items():
        print(f"log-in: {name}, password {password}")


def _create_admin(settings: Settings, database: Database, asked: Any) -> int:
    if sys.stdin.isatty():
        password = getpass.getpass(f"password of {asked.name}: ")
    else:
        password = sys.stdin.readline().rstrip("\n")
    if len(password) < security.LEAST_LETTERS:
        raise checks.UsageError(
            f"the password has {len(password)} letters, but needs"
            f" {security.LEAST_LETTERS} or more."
        )
    hashed = security.hash_password(password)
    with database.write() as session:
        made = staff.create(session, asked.name, hashed, "admin")
    print(f"admin: {made.pseudonym}")
    return 0


def _reset_password(settings: Settings, database: Database, asked: Any) -> int:
    password = secrets.token_urlsafe(9)
    hashed = security.hash_password(password)
    with database.write() as session:
        user = people.find(session, asked.name)
        if user is None:
            raise checks.UsageError(
                f"nobody is called {asked.name!r}; name a pseudonym that has"
                " joined."
            )
        people.reset_password(session, None, user, hashed)
    print("works once, to choose another:")
    _tell({user.pseudonym: password})
    return 0


def _export(settings: Settings, database: Database, asked: Any) -> int:
    with database.read() as session:
        if asked.out is None:
            for line in reviews.export(session):
                print(line)
            return 0
        try:
            with asked.out.open("w", encoding="utf-8") as out:
                out.writelines(f"{line}\n" for line in reviews.export(session))
        except OSError as error:
            raise checks.UsageError(
                f"{asked.out} cannot be written: {error.strerror}; name"
                " another file by --out."
            ) from None
    print(f"labels: {asked.out}")
    return 0


def _retrain(settings: Settings, database: Database, asked: Any) -> int:
    with database.read() as session:
        if versions.labels(session) < versions.LEAST_LABELS:
            raise checks.UsageError(
                f"{versions.labels(session)} photos are labelled, but"
                f" {versions.LEAST_LABELS} are needed; review some at /review."
            )
    with _busy("teaching with what people said"):
        version = versions.retrain(settings, database)
    print(f"version: {version} (an admin activates it at /admin/models)")
    return 0


def _backup(settings: Settings, database: Database, asked: Any) -> int:
    print(f"backup: {backup.backup(settings, database, now())}")
    return 0


def _restore(settings: Settings, asked: Any) -> int:
    found = restore.restore(asked.file, settings)
    print(
        f"restored: {sum(found.rows.values())} rows and {found.files} files of"
        f" {found.made}"
    )
    print(
        f"warning: whoever withdrew after {found.made} is there again, with"
        " their photos; delete them once more at /admin/people.",
        file=sys.stderr,
    )
    return 0


def _serve(settings: Settings, asked: Any) -> int:
    address = asked.address or f"http://{asked.host}:{asked.port}"
    settings = settings._replace(address=address, secure=asked.secure)
    with _opened(settings) as database:
        if asked.demo and not _has_campaign(database):
            _seed(settings, database, asked)
        predictor = _predictor(settings, database, asked.grader)
        _tell(_first_admin(database))
        threading.Thread(target=reviews.warm_up, daemon=True).start()
        print(f"address: {address}", flush=True)
        _listen(settings, database, predictor, asked)
    return 0


def _listen(
    settings: Settings,
    database: Database,
    predictor: Predictor | None,
    asked: Any,
) -> None:
    import uvicorn

    from jaxedge.foodwise.web import application

    uvicorn.run(
        application.create_app(settings, predictor, database),
        host=asked.host,
        port=asked.port,
        # Anybody else could write any address into such a header.
        proxy_headers=asked.proxy is not None,
        forwarded_allow_ips=asked.proxy or "",
        server_header=False,
        ws="none",
        log_level="warning",
    )


def _has_campaign(database: Database) -> bool:
    with database.read() as session:
        return session.scalar(sa.select(Campaign.id).limit(1)) is not None


def _predictor(
    settings: Settings, database: Database, asked: str
) -> Predictor | None:
    """The active network, which is taught if there is none yet."""
    if asked == "none":
        return None
    with database.read() as session:
        version = versions.active(session)
    if version is None:
        with _busy("teaching the network on made-up plates"):
            version = versions.teach(settings, database)
    return versions.load(settings, version)


def _first_admin(database: Database) -> dict[str, str]:
    """Name -> password of an admin that is made where there is none."""
    asked = sa.select(User.id).where(User.role == "admin").limit(1)
    with database.read() as session:
        if session.scalar(asked) is not None:
            return {}
    password = secrets.token_urlsafe(9)
    hashed = security.hash_password(password)
    with database.write() as session:
        made = staff.create(session, "admin", hashed, "admin")
        equivalents.fill(session)
    return {made.pseudonym: password}


@contextlib.contextmanager
def _busy(what: str) -> Iterator[None]:
    """Says what takes a while, on a terminal alone with a wheel."""
    said = rich.console.Console(stderr=True)
    with said.status(f"{what} ..."):
        yield


_COMMANDS = {
    "init-db": _init,
    "seed": _seed,
    "create-admin": _create_admin,
    "reset-password": _reset_password,
    "review-export": _export,
    "retrain": _retrain,
    "backup": _backup,
}

__all__ = ["run"]
