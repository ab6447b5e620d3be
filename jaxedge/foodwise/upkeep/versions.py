"""Taught networks of an instance: which there are, and which one grades."""

from pathlib import Path
import re
import threading
from typing import Any, TypeVarTuple

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from jaxedge.core import checks
from jaxedge.foodwise.base import audit
from jaxedge.foodwise.base.database import Database
from jaxedge.foodwise.base.refusals import Refused
from jaxedge.foodwise.base.settings import Settings
from jaxedge.foodwise.base.tables import (
    Action,
    Canteen,
    Label,
    ModelVersion,
    Photo,
    User,
)
from jaxedge.foodwise.grading.predictor import Predictor

LEAST_LABELS = 10  # Fewer teach nothing; our choice.
_TEACHING = threading.Lock()
_Row = TypeVarTuple("_Row")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


def active(session: Session) -> str | None:
    """The version that grades."""
    return session.scalars(
        sa.select(ModelVersion.version)
        .where(ModelVersion.active.is_(True))
        .order_by(ModelVersion.at.desc())
    ).first()


def load(settings: Settings, version: str) -> Predictor:
    """The network of a version.

    Raises:
        UsageError: for a version that has no folder.
    """
    folder = settings.models / version
    if not _VERSION.fullmatch(version) or not folder.is_dir():
        raise Refused("model_gone")
    from jaxedge.foodwise.grading import grader

    made = grader.Grader(folder)
    made.warm_up()  # So that nobody's photo waits for it to be compiled.
    return made


def activate(session: Session, actor: User | None, version: str) -> None:
    """Notes that a version grades from now on.

    Raises:
        UsageError: for an unknown version.
    """
    if session.get(ModelVersion, version) is None:
        raise Refused("model_gone")
    session.execute(
        sa.update(ModelVersion).values(active=ModelVersion.version == version)
    )
    audit.note(session, actor, "model", version)


def labels(session: Session) -> int:
    """How many photos there are to learn from."""
    return session.scalar(_learnable(sa.select(sa.func.count()))) or 0


def _learnable(asked: sa.Select[*_Row]) -> sa.Select[*_Row]:
    """Of photos: on which people agreed, that a network has seen, and that
    their persons have not taken back."""
    return (
        asked.select_from(Photo)
        .join(Label, Label.photo_id == Photo.id)
        .join(Action, Action.id == Photo.action_id)
        .join(Canteen, Canteen.id == Action.canteen_id)
        .where(
            Label.label.is_not(None),
            Action.state != "undone",
            sa.func.json_array_length(Photo.features) > 0,
        )
    )


def check_labels(session: Session) -> None:
    """Raises UsageError where there is too little to learn from."""
    if labels(session) < LEAST_LABELS:
        raise Refused("few_labels")


def teach(settings: Settings, database: Database, seed: int = 0) -> str:
    """Teaches the first network, on made-up plates, and activates it.

    Returns:
        The version.
    """
    from jaxedge.foodwise.grading import grader

    made = grader.train(settings.models, seed=seed)
    version, metrics = _told(made)
    with database.write() as session:
        add(session, version, metrics)
        session.flush()
        activate(session, None, version)
    return version


def retrain(
    settings: Settings, database: Database, actor: User | None = None
) -> str:
    """Teaches a network with what people said; it takes a while.

    All features and labels are brought together here, and every canteen weighs
    alike, see `grader.retrain`. The new version is kept beside the others and
    is not active.

    Returns:
        The version.

    Raises:
        UsageError: for too few labels, and while another one is being taught.
    """
    from jaxedge.foodwise.grading import grader

    with database.read() as session:
        check_labels(session)
        features_NxF, labels_N, canteens = _examples(session)
    if not _TEACHING.acquire(blocking=False):
        raise checks.UsageError("another network is being taught; wait for it.")
    try:
        made = grader.retrain(settings.models, features_NxF, labels_N, canteens)
    finally:
        _TEACHING.release()
    version, metrics = _told(made)
    with database.write() as session:
        add(session, version, metrics)
        audit.note(
            session,
            # A person may go while the network learns.
            session.get(User, actor.id) if actor else None,
            "retrained",
            version,
            labels=len(labels_N),
        )
    return version


def _told(made: Any) -> tuple[str, dict[str, float]]:
    """Version and measures of a taught network, or of its folder's name."""
    if isinstance(made, (str, Path)):
        return Path(made).name, {}
    return made.version, dict(getattr(made, "metrics", {}))


def add(session: Session, version: str, metrics: dict[str, float]) -> None:
    """Notes a taught network, if it is a new one."""
    if session.get(ModelVersion, version) is None:
        session.add(ModelVersion(version=version, metrics=metrics))


def _examples(
    session: Session,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Features [N, F] in 0..1, labels [N] and canteens of these photos."""
    asked = _learnable(sa.select(Photo.features, Label.label, Canteen.slug))
    rows = session.execute(asked.order_by(Photo.id)).all()
    return (
        np.asarray([row[0] for row in rows], np.float32),
        np.asarray([row[1] for row in rows], np.int32),
        [row[2] for row in rows],
    )


__all__ = [
    "LEAST_LABELS",
    "activate",
    "active",
    "add",
    "check_labels",
    "labels",
    "load",
    "retrain",
    "teach",
]
