"""Alembic's environment: called by it, never imported."""

from typing import Any, Literal

from alembic import context
import sqlalchemy as sa

from jaxedge.foodwise.base.tables import Base, Utc


def _render(kind: str, thing: Any, where: Any) -> str | Literal[False]:
    """Writes our type as what it is in the database."""
    if kind == "type" and isinstance(thing, Utc):
        return "sa.DateTime()"
    return False


def _run() -> None:
    engine = sa.create_engine(context.config.attributes["url"])
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=True,
            render_item=_render,
            compare_type=True,
        )
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


_run()
