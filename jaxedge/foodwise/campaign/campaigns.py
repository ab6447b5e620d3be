"""Campaigns, canteens and what belongs to them, as their staff sets them."""

from collections.abc import Mapping
import dataclasses
import datetime as dt
import hmac
import json
import re
import secrets
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from jaxedge.core import checks
from jaxedge.foodwise.base import audit, rules, security
from jaxedge.foodwise.base.refusals import Refused
from jaxedge.foodwise.base.tables import (
    Action,
    ApiToken,
    Campaign,
    Canteen,
    CanteenManager,
    Equivalent,
    MealPeriod,
    User,
    now,
)
from jaxedge.foodwise.campaign import choices

_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
MOST_RULE = 100_000
FIRST_YEAR, LAST_YEAR = 2000, 2200  # Of a campaign; our limits.


class CampaignForm(NamedTuple):
    """A campaign as its form has it; `rules` is JSON."""

    name: str
    starts: dt.date
    ends: dt.date
    rules: str = "{}"


def rules_at(session: Session, at: dt.datetime) -> rules.Rules:
    """Rules of the campaign that an action would belong to."""
    found = choices.campaign_for(session, at)
    return rules.read(found.rules) if found else rules.Rules()


def today(session: Session, at: dt.datetime) -> dt.date:
    """The day that an action would belong to."""
    return rules.day_of(at, rules_at(session, at))


def read_rules(text: str) -> dict[str, Any]:
    """Rules of a form: a JSON object whose fields `rules.read` knows.

    Raises:
        UsageError: for what is no JSON, and for a field or a value that is no
            rule.
    """
    try:
        given = json.loads(text or "{}")
    except ValueError as error:
        raise checks.UsageError(f"the rules are no JSON: {error}.") from None
    if not isinstance(given, dict):
        raise checks.UsageError(
            'the rules must be a JSON object, for example {"points": 10}.'
        )
    for field in dataclasses.fields(rules.Rules):
        if field.name in given:
            _check_rule(field.name, given[field.name], field.default)
    rules.read(given)
    return given


def _check_rule(name: str, value: Any, default: Any) -> None:
    """Of the kind that the default is: JSON has others."""
    if isinstance(default, str):
        right, wanted = isinstance(value, str), "a text"
    elif isinstance(default, int):
        right, wanted = _whole(value), f"a whole number up to {MOST_RULE}"
    else:
        right = isinstance(value, list) and all(map(_whole, value))
        wanted = "a list of whole numbers"
    if not right:
        raise checks.UsageError(f"rules.{name} is {value!r}, not {wanted}.")


def _whole(value: Any) -> bool:
    return type(value) is int and abs(value) <= MOST_RULE


def save_campaign(
    session: Session, actor: User, given: CampaignForm, number: int | None
) -> Campaign:
    """Makes a campaign, or changes one.

    The days of a campaign that has begun may be changed as long as no action
    that counts falls out of them; rules hold for what is logged from then on.

    Args:
        session: that writes.
        actor: an admin.
        given: what the form said.
        number: id of the one to change; None for a new one.

    Raises:
        UsageError: for a bad name, bad days or bad rules.
    """
    name = text("campaign_name", given.name, 80)
    if given.starts > given.ends:
        raise Refused("bad_days")
    if given.starts.year < FIRST_YEAR or given.ends.year > LAST_YEAR:
        raise Refused("bad_years", first=FIRST_YEAR, last=LAST_YEAR)
    found = Campaign() if number is None else _get(session, Campaign, number)
    _unique(session, Campaign.name == name, Campaign, number)
    if number is not None and _lost(session, found, given):
        raise Refused("days_with_actions")
    found.name, found.starts, found.ends = name, given.starts, given.ends
    found.rules = read_rules(given.rules)
    session.add(found)
    session.flush()
    audit.note(
        session,
        actor,
        "campaign",
        f"campaign {found.id}",
        new=number is None,
        rules=found.rules,
    )
    return found


def _lost(session: Session, before: Campaign, given: CampaignForm) -> int:
    """How many actions that count would fall out; late ones are out already."""
    asked = (
        sa.select(sa.func.count())
        .select_from(Action)
        .where(
            Action.campaign_id == before.id,
            Action.state == "counted",
            Action.day.between(before.starts, before.ends),
            ~Action.day.between(given.starts, given.ends),
        )
    )
    return session.scalar(asked) or 0


class CanteenForm(NamedTuple):
    """A canteen as its form has it."""

    slug: str
    name: str
    name_zh: str = ""
    open: bool = True
    needs_code: bool = False


def save_canteen(
    session: Session, actor: User, given: CanteenForm, number: int | None
) -> Canteen:
    """Makes a canteen, or changes one; its slug stays as it was made.

    Raises:
        UsageError: for a bad or a taken name.
    """
    found = Canteen() if number is None else _get(session, Canteen, number)
    if number is None:
        if len(given.slug) > 40 or not _SLUG.fullmatch(given.slug):
            raise Refused("bad_slug")
        _unique(session, Canteen.slug == given.slug, Canteen, number)
        found.slug = given.slug
    found.name = text("canteen_name", given.name, 80)
    found.name_zh = _maybe("canteen_name", given.name_zh)
    found.open, found.needs_code = given.open, given.needs_code
    session.add(found)
    session.flush()
    audit.note(
        session,
        actor,
        "canteen",
        f"canteen {found.id}",
        new=number is None,
        open=found.open,
        needs_code=found.needs_code,
    )
    return found


def save_meals(
    session: Session,
    actor: User,
    canteen: Canteen,
    hours: Mapping[str, tuple[dt.time, dt.time] | None],
) -> None:
    """Sets when a canteen serves its meals; None for a meal it does not.

    A meal that closes before it opens goes on past midnight.

    Raises:
        UsageError: for a meal that ends as it begins.
    """
    for meal, times in hours.items():
        checks.choice("meal", meal, rules.MEALS)
        if times is not None and times[0] == times[1]:
            raise Refused("bad_hours")
    session.execute(
        sa.delete(MealPeriod).where(MealPeriod.canteen_id == canteen.id)
    )
    for meal, times in hours.items():
        if times is not None:
            session.add(
                MealPeriod(
                    canteen_id=canteen.id,
                    meal=meal,
                    opens=times[0],
                    closes=times[1],
                )
            )
    audit.note(session, actor, "meals", f"canteen {canteen.id}")


def managed(session: Session, user: User) -> list[Canteen]:
    """Canteens that a user may manage: all for an admin."""
    asked = sa.select(Canteen).order_by(Canteen.name, Canteen.id)
    if user.role != "admin":
        asked = asked.join(
            CanteenManager, CanteenManager.canteen_id == Canteen.id
        ).where(CanteenManager.user_id == user.id)
    return list(session.scalars(asked)) if user.role in _MANAGING else []


_MANAGING = ("manager", "admin")


def screen_key(guard: security.Guard, canteen: Canteen) -> str:
    """What the address of a canteen's screen ends with: only for its code."""
    return guard.code("screen", f"{canteen.slug}\0{canteen.screen}")[:32]


def screen_of(
    session: Session, guard: security.Guard, slug: str, key: str
) -> Canteen | None:
    """The canteen whose screen has this address."""
    if not slug.isprintable():  # PostgreSQL takes no NUL.
        return None
    asked = sa.select(Canteen).where(Canteen.slug == slug)
    found = session.scalars(asked).one_or_none()
    if found is None:
        return None
    right = screen_key(guard, found).encode()
    return found if hmac.compare_digest(key.encode(), right) else None


def change_screen(session: Session, actor: User, canteen: Canteen) -> None:
    """Gives the screen another address; the old one leads nowhere."""
    canteen.screen += 1
    audit.note(session, actor, "screen", f"canteen {canteen.id}")


def make_token(
    session: Session, actor: User, canteen: Canteen, name: str
) -> str:
    """A new token for a canteen's scale or camera.

    Returns:
        The token, which is kept nowhere: the table has its hash.
    """
    token = f"fw_{secrets.token_urlsafe(32)}"
    made = ApiToken(
        name=text("token_name", name, 80),
        token_hash=security.hashed(token),
        canteen_id=canteen.id,
    )
    session.add(made)
    session.flush()
    audit.note(
        session, actor, "token", f"token {made.id}", canteen=canteen.slug
    )
    return token


def revoke_token(session: Session, actor: User, token: ApiToken) -> None:
    """Ends a token; twice is once."""
    if token.revoked_at is None:
        token.revoked_at = now()
        audit.note(session, actor, "token_revoked", f"token {token.id}")


class EquivalentForm(NamedTuple):
    """What a kilogram compares to, as its form has it."""

    name: str
    name_zh: str
    factor: float
    unit: str
    source: str
    year: int


def save_equivalent(
    session: Session, actor: User, given: EquivalentForm, number: int | None
) -> Equivalent:
    """Makes or changes a comparison; none goes without its source and year.

    Raises:
        UsageError: for a missing source, or a factor or year out of range.
    """
    found = (
        Equivalent() if number is None else _get(session, Equivalent, number)
    )
    name = text("equivalent_name", given.name, 80)
    _unique(session, Equivalent.name == name, Equivalent, number)
    checks.in_range("factor", given.factor, 0, 1e12, open_low=True)
    if given.year:  # 0 is for unknown.
        checks.in_range("year", given.year, 1900, 2200)
    found.name = name
    found.name_zh = _maybe("equivalent_name", given.name_zh)
    found.factor, found.year = given.factor, given.year
    found.unit = text("equivalent_unit", given.unit, 40)
    found.source = text("equivalent_source", given.source, 300)
    session.add(found)
    session.flush()
    audit.note(session, actor, "equivalent", f"equivalent {found.id}")
    return found


def drop_equivalent(session: Session, actor: User, number: int) -> None:
    """Removes a comparison."""
    session.delete(_get(session, Equivalent, number))
    audit.note(session, actor, "equivalent_removed", f"equivalent {number}")


def _get(session: Session, table: Any, number: int) -> Any:
    found = session.get(table, number)
    if found is None:
        raise Refused("staff_gone")
    return found


def text(what: str, given: str, most: int) -> str:
    """One line of 1 to `most` letters; raises Refused "bad_WHAT"."""
    said = " ".join(given.split())
    if not 1 <= len(said) <= most or not said.isprintable():
        raise Refused(f"bad_{what}")
    return said


def _maybe(what: str, given: str) -> str:
    """The same, of 80 letters at most; or nothing."""
    return text(what, given, 80) if given.strip() else ""


def _unique(
    session: Session, same: Any, table: Any, number: int | None
) -> None:
    asked = sa.select(table.id).where(same)
    if number is not None:
        asked = asked.where(table.id != number)
    if session.scalars(asked).first() is not None:
        raise Refused("staff_name_taken")


__all__ = [
    "CampaignForm",
    "CanteenForm",
    "EquivalentForm",
    "FIRST_YEAR",
    "LAST_YEAR",
    "change_screen",
    "drop_equivalent",
    "make_token",
    "managed",
    "read_rules",
    "revoke_token",
    "rules_at",
    "save_campaign",
    "save_canteen",
    "save_equivalent",
    "save_meals",
    "screen_key",
    "screen_of",
    "text",
    "today",
]
