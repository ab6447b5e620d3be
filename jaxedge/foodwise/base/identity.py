"""That a folder and a database are of one instance.

Photos of which the database tells nothing are deleted after a while. With the
database of another instance these would be all of them: so both keep the same
number, which is compared before anything is deleted.
"""

import secrets

import sqlalchemy as sa
from sqlalchemy.orm import Session

from jaxedge.core import checks
from jaxedge.foodwise.base.database import Database
from jaxedge.foodwise.base.settings import Settings
from jaxedge.foodwise.base.tables import Instance, Photo


def bind(settings: Settings, database: Database) -> str:
    """The number of the instance, which is made at the first call.

    A folder or a database that has none gets that of the other one, if the
    database tells of every photo in the folder: as it does when both are new,
    and after a backup was restored.

    Raises:
        UsageError: where they are of two instances.
    """
    path = settings.folder / "instance"
    in_folder = path.read_text("ascii").strip() if path.exists() else ""
    with database.read() as session:
        in_tables = session.scalar(sa.select(Instance.number))
    if in_folder and in_folder == in_tables:
        return in_folder
    if in_folder and in_tables:
        raise _other(settings)
    with database.write() as session:
        if not _tells_of_all(session, settings):
            raise _other(settings)
        number = in_tables or in_folder or secrets.token_hex(16)
        if not in_tables:
            session.add(Instance(id=1, number=number))
            session.flush()
        if not in_folder:
            path.write_text(number, "ascii")
    return number


def _tells_of_all(session: Session, settings: Settings) -> bool:
    known = set(session.scalars(sa.select(Photo.file)))
    return {found.name for found in settings.photos.glob("*.jpg")} <= known


def _other(settings: Settings) -> checks.UsageError:
    return checks.UsageError(
        f"the folder {settings.folder} holds photos of another instance than"
        " the database; name the database that belongs to it by --database, or"
        " another --folder."
    )


__all__ = ["bind"]
