"""The database: SQLite with a write-ahead log, or PostgreSQL by its URL."""

from collections.abc import Iterator
import contextlib
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.orm import Session, sessionmaker

from jaxedge.core import checks

MIGRATIONS = Path(__file__).parent / "migrations"
WAIT_S = 15.0  # For another writer of SQLite.


def told(url: str) -> str:
    """A database's URL as messages have it: without its password."""
    try:
        # Some drivers take a password among the fields of the query, too.
        return repr(sa.make_url(url).set(query={}))
    except exc.ArgumentError:
        return "that was named"


class Database:
    """An engine, and sessions of it.

    Attributes:
        engine: of SQLAlchemy.
        lite: whether it is SQLite.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = sa.make_url(url)
            self.lite = parsed.get_backend_name() == "sqlite"
            if self.lite and parsed.database in (None, "", ":memory:"):
                raise checks.UsageError(
                    f"the database {told(url)} is in memory, where each"
                    " connection has its own; name a file, such as"
                    " sqlite:////var/lib/foodwise/foodwise.db."
                )
            self.engine = sa.create_engine(
                parsed,
                pool_size=20,
                max_overflow=40,
                pool_pre_ping=not self.lite,
                connect_args={"timeout": WAIT_S} if self.lite else {},
            )
        except (exc.ArgumentError, ImportError) as error:
            raise checks.UsageError(
                f"the database {told(url)} cannot be opened: {error}; for"
                " example sqlite:////var/lib/foodwise/foodwise.db, or"
                " postgresql+psycopg://user@host/name with jaxedge[foodwise-pg]"
            ) from None
        if self.lite:
            _set_sqlite(self.engine)
        self._sessions = sessionmaker(
            self.engine, expire_on_commit=False, info={"database": self}
        )

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """A session that only looks."""
        with self._sessions() as session:
            yield session

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        """A session that commits at its end, or changes nothing.

        SQLite has one writer: it is waited for at the start, so that what is
        read before it is written cannot have changed in between.
        """
        with self._sessions() as session, session.begin():
            if self.lite:
                session.connection(execution_options={"sqlite_immediate": True})
            yield session

    def forget(self) -> bool:
        """Empties SQLite's log, which still has what was deleted.

        Returns:
            False where somebody was reading for longer than `WAIT_S`: then it
            has to be done again. PostgreSQL is left to its own upkeep.
        """
        if not self.lite:
            return True
        with self.engine.connect() as connection:
            # It is not done in a transaction.
            connection.exec_driver_sql("COMMIT")
            try:
                row = connection.exec_driver_sql(
                    "PRAGMA wal_checkpoint(TRUNCATE)"
                ).one()
                return not row[0]
            except exc.OperationalError:  # Another one is at it.
                return False
            finally:
                connection.exec_driver_sql("BEGIN")

    def close(self) -> None:
        """Ends all connections."""
        self.engine.dispose()


def _set_sqlite(engine: sa.Engine) -> None:
    @event.listens_for(engine, "connect")
    def _(connection: Any, record: Any) -> None:
        # SQLAlchemy begins transactions itself, see below.
        connection.isolation_level = None
        cursor = connection.cursor()
        for name, value in (
            ("journal_mode", "wal"),
            # An acknowledged row outlives a fall of the power.
            ("synchronous", "full"),
            ("foreign_keys", "on"),
            # What is deleted is overwritten.
            ("secure_delete", "on"),
        ):
            cursor.execute(f"PRAGMA {name}={value}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _(connection: sa.Connection) -> None:
        now = connection.get_execution_options().get("sqlite_immediate")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if now else "BEGIN")


def configuration(url: str) -> Config:
    """What Alembic needs to know."""
    made = Config()
    made.set_main_option("script_location", str(MIGRATIONS))
    made.attributes["url"] = url
    return made


def migrate(url: str, revision: str = "head") -> None:
    """Brings the tables to a revision.

    Raises:
        UsageError: for a database that cannot be reached.
    """
    try:
        command.upgrade(configuration(url), revision)
    except exc.OperationalError as error:
        raise checks.UsageError(
            f"the database {told(url)} cannot be reached: {error.orig}"
        ) from None


__all__ = ["Database", "MIGRATIONS", "configuration", "migrate", "told"]
