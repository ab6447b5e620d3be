"""What the staff runs: overview, networks, audit, upkeep; groups of pages."""

import logging
from typing import Annotated

from fastapi import (
    APIRouter,
    BackgroundTasks,
    Form,
    HTTPException,
    Request,
    Response,
)
import sqlalchemy as sa

from jaxedge.foodwise.base import audit
from jaxedge.foodwise.base.tables import (
    AuditEntry,
    ModelVersion,
    User,
    now,
)
from jaxedge.foodwise.campaign import campaigns, moderation, photos, reviews
from jaxedge.foodwise.upkeep import backup, versions
from jaxedge.foodwise.web.asking import (
    FORM,
    Admin,
    Here,
    Manager,
    Site,
    page,
    to,
)
from jaxedge.foodwise.web.pages import admin_people, admin_places

router = APIRouter(include_in_schema=False)
router.include_router(admin_people.router)
router.include_router(admin_places.router)
AUDIT_ROWS = 50


@router.get("/admin")
def home(request: Request, user: Manager, here: Here) -> Response:
    """What waits, and where to go."""
    with here.database.read() as session:
        return page(
            request,
            "admin/home.html",
            waiting=moderation.count(session, user, "waiting"),
            notes=moderation.count(session, user, "notes"),
            photos=reviews.left(session, user),
            canteens=campaigns.managed(session, user),
            version=here.predictor.version if here.predictor else None,
            backups=_backups(here) if user.role == "admin" else [],
            done=request.query_params.get("done", ""),
            n=request.query_params.get("n", ""),
        )


def _backups(here: Site) -> list[str]:
    found = here.settings.backups.glob("foodwise-*.tar.gz")
    return sorted((path.name for path in found), reverse=True)[:5]


@router.post("/admin/retention", dependencies=FORM)
def retention(user: Admin, here: Here) -> Response:
    """Deletes photos, and backups that would outlive them."""
    gone = photos.expire(here.database, here.settings, now())
    with here.database.write() as session:
        audit.note(session, user, "retention", photos=gone)
    backup.sweep(here.settings, now())
    return to("/admin", done="retention", n=gone)


@router.post("/admin/backup", dependencies=FORM)
def make_backup(user: Admin, here: Here) -> Response:
    """Writes a backup into the instance's folder."""
    path = backup.backup(here.settings, here.database, now())
    with here.database.write() as session:
        audit.note(session, user, "backup", path.name)
    return to("/admin", done="backup", n=path.name)


@router.get("/admin/models")
def show_models(request: Request, user: Admin, here: Here) -> Response:
    """Taught networks, and the one that grades."""
    with here.database.read() as session:
        found = session.scalars(
            sa.select(ModelVersion).order_by(
                ModelVersion.at.desc(), ModelVersion.version.desc()
            )
        ).all()
        return page(
            request,
            "admin/models.html",
            models=found,
            version=here.predictor.version if here.predictor else None,
            labels=versions.labels(session),
            started="started" in request.query_params,
        )


@router.post("/admin/models/activate", dependencies=FORM)
def activate(
    request: Request,
    user: Admin,
    here: Here,
    version: Annotated[str, Form(max_length=40)],
) -> Response:
    """Grades with another network from now on: a newer one, or one before."""
    # It is loaded first: one that cannot be leaves everything as it is.
    predictor = versions.load(here.settings, version)
    with here.database.write() as session:
        versions.activate(session, user, version)
    request.app.state.site = here._replace(predictor=predictor)
    return to("/admin/models")


@router.post("/admin/models/retrain", dependencies=FORM)
def retrain(user: Admin, here: Here, later: BackgroundTasks) -> Response:
    """Teaches a network with what people said; it is not activated by that."""
    with here.database.read() as session:
        versions.check_labels(session)
    later.add_task(_retrain, here, user)
    return to("/admin/models", started=1)


def _retrain(here: Site, user: User) -> None:
    """Nobody waits for the answer: the audit log tells of a failure."""
    try:
        versions.retrain(here.settings, here.database, user)
    except Exception as error:  # Whatever it was, it is told there.
        logging.exception("retraining failed")
        with here.database.write() as session:
            audit.note(session, None, "retrain_failed", error=str(error)[:300])


@router.get("/admin/audit")
def show_audit(
    request: Request, user: Admin, here: Here, before: int | None = None
) -> Response:
    """Who did what, the latest first, page by page."""
    if before is not None and not 0 < before < 2**31:
        raise HTTPException(404, "404")
    with here.database.read() as session:
        asked = (
            sa.select(AuditEntry, User.pseudonym)
            .outerjoin(User, User.id == AuditEntry.actor_id)
            .order_by(AuditEntry.id.desc())
            .limit(AUDIT_ROWS + 1)
        )
        if before is not None:
            asked = asked.where(AuditEntry.id < before)
        rows = session.execute(asked).all()
    more = len(rows) > AUDIT_ROWS
    return page(
        request,
        "admin/audit.html",
        rows=[(row[0], row[1]) for row in rows[:AUDIT_ROWS]],
        older=rows[AUDIT_ROWS - 1][0].id if more else None,
    )


__all__ = ["router"]
