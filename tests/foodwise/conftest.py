"""An instance of FoodWise in a folder, with a network that is not one."""

import hashlib

import argon2
from fastapi.testclient import TestClient
import numpy as np
import pytest

from jaxedge.foodwise.base import database, security, settings
from jaxedge.foodwise.grading.predictor import Grade
from jaxedge.foodwise.web import application


class FakePredictor:
    """Says what the brightness of the photo's middle stands for."""

    version = "fake"

    def grade(self, image_HxWx3: np.ndarray) -> Grade:
        """Bright is clean, dark is a lot, grey is unsure."""
        height, width = image_HxWx3.shape[:2]
        middle = image_HxWx3[
            height // 3 : 2 * height // 3, width // 3 : 2 * width // 3
        ].mean()
        level = 0 if middle > 170 else 2 if middle < 85 else None
        alpha = [1.0, 1.0, 1.0]
        if level is not None:
            alpha[level] = 18.0
        total = sum(alpha)
        digest = hashlib.sha256(image_HxWx3.tobytes()).digest() * 4
        return Grade(
            tuple(a / total for a in alpha),
            tuple(alpha),
            3 / total,
            level,
            "too_dark" if image_HxWx3.mean() < 8 else "",
            self.version,
            0,
            tuple(b / 255 for b in digest),
        )


@pytest.fixture(scope="session")
def _migrated(tmp_path_factory):
    """A database with the tables, to be copied: migrating takes a while."""
    path = tmp_path_factory.mktemp("foodwise") / "empty.db"
    database.migrate(f"sqlite:///{path}")
    return path.read_bytes()


@pytest.fixture
def instance(tmp_path, monkeypatch, _migrated):
    """Settings of a new instance; passwords are hashed in no time."""
    monkeypatch.setattr(security, "HASHER", argon2.PasswordHasher(1, 8, 1))
    monkeypatch.setattr(security, "_NOBODY", [])
    made = settings.Settings(tmp_path / "instance", attempts=1000)
    settings.prepare(made)
    (made.folder / "foodwise.db").write_bytes(_migrated)
    return made


@pytest.fixture
def base(instance):
    """The database of the instance."""
    made = database.Database(instance.url)
    yield made
    made.close()


@pytest.fixture
def session(base):
    """One that is never committed."""
    with base.read() as made:
        yield made


@pytest.fixture
def app(instance):
    """The application of the instance."""
    return application.create_app(instance, FakePredictor())


@pytest.fixture
def client(app):
    """A browser without scripts, that has not logged in."""
    with TestClient(app, follow_redirects=False) as made:
        yield made
