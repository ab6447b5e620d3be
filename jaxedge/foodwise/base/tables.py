"""The tables: SQLAlchemy 2 models that SQLite and PostgreSQL share.

Times are UTC. Points are sums of `PointsEntry`, to which rows are only added.
What belongs to a person hangs on `User` by foreign keys that delete with it.
"""

import datetime as dt
from typing import Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    MetaData,
    String,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

ROLES = ("participant", "reviewer", "manager", "admin")
# Of an action: it counts, it waits for people, its person took it back, people
# turned it down.
STATES = ("counted", "review", "undone", "rejected")


class Utc(TypeDecorator[dt.datetime]):
    """A moment, kept as UTC without a zone, so that both databases agree."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        """To the database."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"the time {value} has no time zone")
        return value.astimezone(dt.UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        """From the database."""
        return None if value is None else value.replace(tzinfo=dt.UTC)


def now() -> dt.datetime:
    """This moment, UTC."""
    return dt.datetime.now(dt.UTC)


class Base(DeclarativeBase):
    """All tables, with names of constraints that migrations can call."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        dt.datetime: Utc,
        dict[str, Any]: JSON,
        list[Any]: JSON,
    }


def _owner() -> Any:
    return mapped_column(
        ForeignKey("user.id", ondelete="CASCADE"), nullable=False, index=True
    )


def _one_of(column: str, names: tuple[str, ...]) -> CheckConstraint:
    listed = ", ".join(f"'{name}'" for name in names)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _fold_pseudonym(context: Any) -> str:
    return context.get_current_parameters()["pseudonym"].casefold()


class Instance(Base):
    """One row: the number that the instance's folder has, too."""

    __tablename__ = "instance"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[str] = mapped_column(String(32))


class User(Base):
    """A person by a pseudonym, or one of the staff."""

    __tablename__ = "user"
    # Draws and audits keep numbers of persons who have gone: none comes again.
    __table_args__ = (_one_of("role", ROLES), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    pseudonym: Mapped[str] = mapped_column(String(40), unique=True)
    # The same without capitals: nobody is told from another by them.
    folded: Mapped[str] = mapped_column(
        String(40), unique=True, default=_fold_pseudonym
    )
    password_hash: Mapped[str] = mapped_column(String(200))
    # The staff made the password: it lets in once, to choose another.
    password_once: Mapped[bool] = mapped_column(default=False)
    role: Mapped[str] = mapped_column(String(20), default="participant")
    # A reviewer whose vote decides alone.
    trusted: Mapped[bool] = mapped_column(default=False)
    language: Mapped[str] = mapped_column(String(10), default="en")
    leaderboard: Mapped[bool] = mapped_column(default=False)
    notifications: Mapped[bool] = mapped_column(default=False)
    suspended: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[dt.datetime] = mapped_column(default=now)


class Consent(Base):
    """That a person agreed to a version of the text."""

    __tablename__ = "consent"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = _owner()
    version: Mapped[str] = mapped_column(String(20))
    given_at: Mapped[dt.datetime] = mapped_column(default=now)


class LoginSession(Base):
    """A browser that is logged in; the cookie has a token, here is its hash."""

    __tablename__ = "login_session"

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[int] = _owner()
    created_at: Mapped[dt.datetime] = mapped_column(default=now)
    expires_at: Mapped[dt.datetime]


class Canteen(Base):
    """A place to eat."""

    __tablename__ = "canteen"

    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(String(40), unique=True)
    name: Mapped[str] = mapped_column(String(80))
    name_zh: Mapped[str] = mapped_column(String(80), default="")
    open: Mapped[bool] = mapped_column(default=True)
    # Whether an action here needs the code that the canteen shows.
    needs_code: Mapped[bool] = mapped_column(default=False)
    # How often the address of its screen was changed.
    screen: Mapped[int] = mapped_column(default=0)


class CanteenManager(Base):
    """Who manages a canteen."""

    __tablename__ = "canteen_manager"

    user_id: Mapped[int] = mapped_column(
        ForeignKey("user.id", ondelete="CASCADE"), primary_key=True
    )
    canteen_id: Mapped[int] = mapped_column(
        ForeignKey("canteen.id", ondelete="CASCADE"), primary_key=True
    )


class MealPeriod(Base):
    """When a canteen serves a meal, by the local clock."""

    __tablename__ = "meal_period"
    __table_args__ = (UniqueConstraint("canteen_id", "meal"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    canteen_id: Mapped[int] = mapped_column(
        ForeignKey("canteen.id", ondelete="CASCADE")
    )
    meal: Mapped[str] = mapped_column(String(20))
    opens: Mapped[dt.time]
    closes: Mapped[dt.time]


class Campaign(Base):
    """Days on which actions count, both of them included."""

    __tablename__ = "campaign"
    __table_args__ = (CheckConstraint("starts <= ends", name="days"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)
    starts: Mapped[dt.date]
    ends: Mapped[dt.date]
    # Fields of `rules.Rules` that are not as its defaults.
    rules: Mapped[dict[str, Any]] = mapped_column(default=dict)
    synthetic: Mapped[bool] = mapped_column(default=False)
    # SHA-256 of the draw's seed, told before the end; "" for none yet.
    commitment: Mapped[str] = mapped_column(String(64), default="")
    committed_at: Mapped[dt.datetime | None]


class Team(Base):
    """Persons who are counted together; they join by its code."""

    __tablename__ = "team"
    __table_args__ = (UniqueConstraint("campaign_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(
        ForeignKey("campaign.id", ondelete="CASCADE"), index=True
    )
    name: Mapped[str] = mapped_column(String(40))
    code: Mapped[str] = mapped_column(String(20), unique=True)


class Membership(Base):
    """A person's team of a campaign: one at most."""

    __tablename__ = "membership"

    user_id: Mapped[int] = mapped_column(
        ForeignKey("user.id", ondelete="CASCADE"), primary_key=True
    )
    campaign_id: Mapped[int] = mapped_column(
        ForeignKey("campaign.id", ondelete="CASCADE"), primary_key=True
    )
    team_id: Mapped[int] = mapped_column(
        ForeignKey("team.id", ondelete="CASCADE"), index=True
    )
    joined_at: Mapped[dt.datetime] = mapped_column(default=now)


class ApiToken(Base):
    """Lets a scale or a camera send weigh-ins of one canteen."""

    __tablename__ = "api_token"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    canteen_id: Mapped[int] = mapped_column(
        ForeignKey("canteen.id", ondelete="CASCADE")
    )
    created_at: Mapped[dt.datetime] = mapped_column(default=now)
    revoked_at: Mapped[dt.datetime | None]


class ImportBatch(Base):
    """One file of weigh-ins, and what was wrong with it."""

    __tablename__ = "import_batch"

    id: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    source: Mapped[str] = mapped_column(String(80))
    added: Mapped[int]
    same: Mapped[int]
    bad: Mapped[int]
    report: Mapped[list[Any]]
    at: Mapped[dt.datetime] = mapped_column(default=now)


class WasteRecord(Base):
    """What was thrown away of a kind of food at one meal of one canteen."""

    __tablename__ = "waste_record"
    __table_args__ = (
        UniqueConstraint("canteen_id", "day", "meal", "category", "source"),
        CheckConstraint("grams >= 0", name="grams"),
        CheckConstraint("diners >= 0", name="diners"),
        Index("ix_waste_record_day_canteen_id", "day", "canteen_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    canteen_id: Mapped[int] = mapped_column(
        ForeignKey("canteen.id", ondelete="CASCADE")
    )
    day: Mapped[dt.date]
    meal: Mapped[str] = mapped_column(String(20))
    category: Mapped[str] = mapped_column(String(40))
    grams: Mapped[int]
    # Who ate there at that meal: the same for all categories of it.
    diners: Mapped[int | None]
    source: Mapped[str] = mapped_column(String(40))
    batch_id: Mapped[int | None] = mapped_column(
        ForeignKey("import_batch.id", ondelete="SET NULL")
    )


class Action(Base):
    """Something that a person did to save food."""

    __tablename__ = "action"
    __table_args__ = (
        _one_of("state", STATES),
        UniqueConstraint("user_id", "code_hash"),
        Index("ix_action_user_id_day", "user_id", "day"),
        Index("ix_action_campaign_id_day", "campaign_id", "day"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(
        ForeignKey("user.id", ondelete="CASCADE")
    )
    campaign_id: Mapped[int] = mapped_column(
        ForeignKey("campaign.id", ondelete="CASCADE")
    )
    canteen_id: Mapped[int] = mapped_column(ForeignKey("canteen.id"))
    day: Mapped[dt.date]
    meal: Mapped[str] = mapped_column(String(20))
    kind: Mapped[str] = mapped_column(String(20))
    note: Mapped[str] = mapped_column(String(200), default="")
    # Whether one of the staff has read the note.
    note_seen: Mapped[bool] = mapped_column(default=False)
    at: Mapped[dt.datetime] = mapped_column(default=now)
    state: Mapped[str] = mapped_column(String(20), default="counted")
    # Why it got no points or went to people: a word, or none.
    reason: Mapped[str] = mapped_column(String(40), default="")
    # Made with the form: the same form sent twice is one action.
    once: Mapped[str] = mapped_column(String(64), unique=True)
    # Of the canteen's code that it was logged with: a person uses one once.
    code_hash: Mapped[str | None] = mapped_column(String(64))

    photo: Mapped["Photo | None"] = relationship(
        back_populates="action", passive_deletes=True
    )


class Photo(Base):
    """A picture of a plate; the file goes after a while, its hash stays."""

    __tablename__ = "photo"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = _owner()
    action_id: Mapped[int] = mapped_column(
        ForeignKey("action.id", ondelete="CASCADE"), unique=True
    )
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    # 256 bits of its looks, in hexadecimal.
    phash: Mapped[str] = mapped_column(String(64))
    width: Mapped[int]
    height: Mapped[int]
    # Name of the file in the photos' folder.
    file: Mapped[str] = mapped_column(String(80))
    # [128] features in 0..1, by which it is told from others, and learned.
    features: Mapped[list[Any]] = mapped_column(default=list)
    at: Mapped[dt.datetime] = mapped_column(default=now)
    deleted_at: Mapped[dt.datetime | None]

    action: Mapped[Action] = relationship(back_populates="photo")
    grade: Mapped["Grade | None"] = relationship(
        back_populates="photo", passive_deletes=True
    )


class Grade(Base):
    """What the network said of a photo."""

    __tablename__ = "grade"
    __table_args__ = (CheckConstraint("u >= 0 AND u <= 1", name="u"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    photo_id: Mapped[int] = mapped_column(
        ForeignKey("photo.id", ondelete="CASCADE"), unique=True
    )
    model_version: Mapped[str] = mapped_column(String(40))
    # Which chip of that model.
    device_draw: Mapped[int] = mapped_column(default=0)
    # Three concentrations of a Dirichlet distribution.
    alpha: Mapped[list[Any]]
    u: Mapped[float]
    # Index in `rules.CLASSES`; None where it was unsure.
    decision: Mapped[int | None]
    # What is wrong with the photo, or nothing.
    quality: Mapped[str] = mapped_column(String(40), default="")
    at: Mapped[dt.datetime] = mapped_column(default=now)

    photo: Mapped[Photo] = relationship(back_populates="grade")


class ReviewVote(Base):
    """What a reviewer said of a photo: once."""

    __tablename__ = "review_vote"
    __table_args__ = (UniqueConstraint("photo_id", "user_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    photo_id: Mapped[int] = mapped_column(
        ForeignKey("photo.id", ondelete="CASCADE"), index=True
    )
    user_id: Mapped[int] = _owner()
    label: Mapped[int]
    at: Mapped[dt.datetime] = mapped_column(default=now)


class Label(Base):
    """What people agreed that a photo shows; None for never."""

    __tablename__ = "label"

    photo_id: Mapped[int] = mapped_column(
        ForeignKey("photo.id", ondelete="CASCADE"), primary_key=True
    )
    label: Mapped[int | None]
    how: Mapped[str] = mapped_column(String(20))
    at: Mapped[dt.datetime] = mapped_column(default=now)


class PointsEntry(Base):
    """Points given or taken back: rows are added and never changed."""

    __tablename__ = "points_ledger"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = _owner()
    campaign_id: Mapped[int] = mapped_column(
        ForeignKey("campaign.id", ondelete="CASCADE"), index=True
    )
    action_id: Mapped[int | None] = mapped_column(
        ForeignKey("action.id", ondelete="CASCADE"), index=True
    )
    points: Mapped[int]
    # "action", "verified", "undo", "rejected".
    reason: Mapped[str] = mapped_column(String(40))
    at: Mapped[dt.datetime] = mapped_column(default=now)


class StreakRepair(Base):
    """A missed day that was forgiven."""

    __tablename__ = "streak_repair"
    __table_args__ = (UniqueConstraint("user_id", "campaign_id", "day"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = _owner()
    campaign_id: Mapped[int] = mapped_column(
        ForeignKey("campaign.id", ondelete="CASCADE")
    )
    day: Mapped[dt.date]
    at: Mapped[dt.datetime] = mapped_column(default=now)


class RewardDraw(Base):
    """A draw: its seed, its tickets and who won, for all to see."""

    __tablename__ = "reward_draw"

    id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(
        ForeignKey("campaign.id", ondelete="CASCADE")
    )
    seed: Mapped[str] = mapped_column(String(80))
    prizes: Mapped[int]
    # Person -> tickets, and persons in their order, by id.
    tickets: Mapped[dict[str, Any]]
    winners: Mapped[list[Any]]
    at: Mapped[dt.datetime] = mapped_column(default=now)


class ModelVersion(Base):
    """A taught network, in the folder of its name."""

    __tablename__ = "model_version"

    version: Mapped[str] = mapped_column(String(40), primary_key=True)
    metrics: Mapped[dict[str, Any]]
    active: Mapped[bool] = mapped_column(default=False)
    at: Mapped[dt.datetime] = mapped_column(default=now)


class Equivalent(Base):
    """What a kilogram of wasted food compares to, and who says so."""

    __tablename__ = "equivalent"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)
    name_zh: Mapped[str] = mapped_column(String(80), default="")
    # So many units a kilogram of food.
    factor: Mapped[float]
    unit: Mapped[str] = mapped_column(String(40))
    source: Mapped[str] = mapped_column(String(300))
    year: Mapped[int]


class AuditEntry(Base):
    """Who did what; kept when the person goes, without the name."""

    __tablename__ = "audit_log"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[dt.datetime] = mapped_column(default=now, index=True)
    actor_id: Mapped[int | None] = mapped_column(
        ForeignKey("user.id", ondelete="SET NULL")
    )
    what: Mapped[str] = mapped_column(String(40))
    subject: Mapped[str] = mapped_column(String(80), default="")
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)


__all__ = [
    "Action", "ApiToken", "AuditEntry", "Base", "Campaign", "Canteen",
    "CanteenManager", "Consent", "Equivalent", "Grade", "ImportBatch",
    "Instance", "Label", "LoginSession", "MealPeriod", "Membership",
    "ModelVersion", "Photo", "PointsEntry", "ROLES", "ReviewVote", "RewardDraw",
    "STATES", "StreakRepair", "Team", "User", "Utc", "WasteRecord", "now",
]  # fmt: skip
