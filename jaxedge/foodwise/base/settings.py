"""Where an instance of FoodWise keeps its things, and its limits."""

import os
from pathlib import Path
import secrets
from typing import NamedTuple

from jaxedge.core import checks

# The text that persons agree to, see texts/; a new version asks them again.
CONSENT = "2026-1"
# Bytes of a request, and of a photo; pixels of a photo.
MOST_BODY, MOST_PHOTO, MOST_PIXELS = 12_000_000, 10_000_000, 40_000_000


class Settings(NamedTuple):
    """One instance.

    Attributes:
        folder: holds the photos, the models, backups and the secret; and the
            database, if no other is named.
        database: URL for SQLAlchemy; "" is SQLite in the folder.
        address: what a phone would type, for codes on the screen.
        secure: whether cookies go over HTTPS alone.
        attempts: log-ins a minute of an address or a name before it has to
            wait; of photos and actions ten times as many.
    """

    folder: Path
    database: str = ""
    address: str = "http://127.0.0.1:8000"
    secure: bool = False
    attempts: int = 10

    @property
    def url(self) -> str:
        """Of the database."""
        return self.database or f"sqlite:///{self.folder / 'foodwise.db'}"

    @property
    def photos(self) -> Path:
        """Folder of photos, that no address leads to."""
        return self.folder / "photos"

    @property
    def models(self) -> Path:
        """Folder of taught networks."""
        return self.folder / "models"

    @property
    def backups(self) -> Path:
        """Folder of backups."""
        return self.folder / "backups"

    def secret(self) -> str:
        """What cookies and codes are signed with: made once, in a file."""
        path = self.folder / "secret"
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            found = path.read_text("ascii").strip()
            if len(found) < 32:
                raise checks.UsageError(
                    f"{path} holds no secret of 32 letters or more; remove it,"
                    " and a new one is made (everybody logs in anew)."
                ) from None
            return found
        with os.fdopen(file, "w", encoding="ascii") as out:
            made = secrets.token_urlsafe(48)
            out.write(made)
        return made


def prepare(settings: Settings) -> Settings:
    """Makes the folders; raises UsageError where they cannot be made."""
    try:
        for folder in (
            settings.folder,
            settings.photos,
            settings.models,
            settings.backups,
        ):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise checks.UsageError(
            f"the folder {settings.folder} cannot be made: {error.strerror};"
            " name another by --folder."
        ) from None
    return settings


__all__ = [
    "CONSENT",
    "MOST_BODY",
    "MOST_PHOTO",
    "MOST_PIXELS",
    "Settings",
    "prepare",
]
