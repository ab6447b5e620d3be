"""The review queue: who sees what, what votes do, and what is learned from."""

import datetime as dt
import itertools
import json

import numpy as np
import pytest
import sqlalchemy as sa

from jaxedge.core import checks
from jaxedge.foodwise.base import rules
from jaxedge.foodwise.base.tables import (
    Action,
    AuditEntry,
    Campaign,
    Canteen,
    CanteenManager,
    Grade,
    Label,
    Photo,
    PointsEntry,
    ReviewVote,
    User,
)
from jaxedge.foodwise.campaign import moderation, reviews, staff
from jaxedge.foodwise.grading import ordering

AT = dt.datetime(2026, 3, 3, 5, 0, tzinfo=dt.UTC)
CLEAN, SOME, LOTS = range(3)


@pytest.fixture
def session(app):
    """Of a database with a campaign, two canteens, an eater and reviewers."""
    with app.state.site.database.write() as made:
        made.add(
            Campaign(
                id=1,
                name="c",
                starts=dt.date(2026, 3, 2),
                ends=dt.date(2026, 3, 15),
            )
        )
        for number, slug in enumerate(("lg1", "lg7"), 1):
            made.add(Canteen(id=number, slug=slug, name=slug.upper()))
        made.flush()
        for name in ("eater", "other"):
            staff.create(made, name, "x", "participant")
        for name in ("one", "two", "three", "four"):
            staff.create(made, name, "x", "reviewer")
        staff.create(made, "expert", "x", "reviewer").trusted = True
        yield made


def user(session, name):
    asked = sa.select(User).where(User.pseudonym == name)
    return session.scalars(asked).one()


NUMBERS = itertools.count()


def photo(session, alpha=(1, 1, 1), features=(), who="eater", **changed):
    """A photo of an action that waits."""
    values = {
        "day": dt.date(2026, 3, 3),
        "meal": "lunch",
        "kind": "clean_plate",
        "state": "review",
        "reason": "unsure",
        "canteen_id": 1,
    } | changed
    number = next(NUMBERS)
    action = Action(
        user_id=user(session, who).id,
        campaign_id=1,
        at=AT,
        once=str(number),
        **values,
    )
    made = Photo(
        user_id=action.user_id,
        action=action,
        sha256=f"{number:064x}",
        phash="0" * 16,
        width=8,
        height=8,
        file=f"{number:032x}.jpg",
        features=list(features),
        at=AT,
    )
    made.grade = Grade(
        model_version="m", alpha=list(alpha), u=3 / sum(alpha), at=AT
    )
    session.add(made)
    session.flush()
    return made


def points(session, of):
    """The ledger of a photo's action."""
    return session.execute(
        sa.select(PointsEntry.points, PointsEntry.reason)
        .where(PointsEntry.action_id == of.action_id)
        .order_by(PointsEntry.id)
    ).all()


def vote(session, who, of, label):
    return reviews.vote(session, user(session, who), of.id, label, AT)


def test_the_queue_is_blind_and_leaves_out_what_is_done(session):
    mine = photo(session, who="one")
    theirs = photo(session)
    gone = photo(session, meal="dinner")
    gone.deleted_at = AT
    photo(session, meal="tea", state="undone")
    sure = photo(session, meal="breakfast", state="counted")
    sure.grade.decision = CLEAN
    other = photo(session, who="other")
    # Somebody of the staff has let it count: that stands.
    decided = photo(session, who="other", state="counted", meal="tea")
    session.flush()
    one = user(session, "one")

    def seen():
        return {found.id for found in reviews.queue(session, one)}

    assert seen() == {theirs.id, other.id}
    assert reviews.left(session, one) == 2
    assert reviews.may_see(session, one, mine.id) is None
    vote(session, "one", theirs, rules.SKIP)
    assert seen() == {other.id}
    vote(session, "expert", other, CLEAN)
    assert seen() == set()
    for again in (theirs, other, mine, gone, sure, decided):
        with pytest.raises(checks.UsageError, match="vote_gone"):
            vote(session, "one", again, CLEAN)
    with pytest.raises(checks.UsageError, match="bad_vote"):
        vote(session, "two", theirs, 3)


def test_the_queue_is_in_the_order_of_what_teaches(session):
    rng = np.random.default_rng(0)
    alphas = [(90, 1, 1), (1.2, 1.1, 1.1), (5, 5, 5), (2, 1, 1)]
    looks = rng.random((4, 128), np.float32)
    bare = photo(session, meal="tea")  # It cannot be told from others.
    shown = [
        photo(session, alpha, x.tolist(), meal=meal)
        for alpha, x, meal in zip(alphas, looks, rules.MEALS, strict=True)
    ]
    found = reviews.queue(session, user(session, "one"))
    # The queue hands photos over by vacuity, 3 / sum of alpha.
    by_u = sorted(range(4), key=lambda n: sum(alphas[n]))
    order = ordering.order_review([alphas[n] for n in by_u], looks[by_u])
    wanted = [shown[by_u[n]].id for n in order] + [bare.id]
    assert [p.id for p in found] == wanted
    assert wanted.index(shown[0].id) == 3  # The sure one, before the bare one.
    one = reviews.queue(session, user(session, "one"), most=1)
    assert [p.id for p in one] == [bare.id]  # u is 1 where nothing is known.
    # Of five the least certain four are told apart, and the fifth follows.
    fifth = photo(session, (200, 1, 1), looks[0].tolist(), canteen_id=2)
    found = reviews.queue(session, user(session, "one"))
    assert [p.id for p in found] == [*wanted[:4], fifth.id, bare.id]


def test_three_equal_votes_decide_and_clean_is_verified(session):
    shown = photo(session)
    assert vote(session, "one", shown, CLEAN) == (None, "")
    assert vote(session, "two", shown, SOME) == (None, "")
    assert vote(session, "three", shown, CLEAN) == (None, "")
    assert points(session, shown) == []
    assert vote(session, "four", shown, CLEAN) == (CLEAN, "votes")
    assert points(session, shown) == [(10, "action"), (5, "verified")]
    assert shown.action.state == "counted"
    label = session.get_one(Label, shown.id)
    assert (label.label, label.how) == (CLEAN, "votes")


def test_two_against_two_is_discarded_and_counts_unverified(session):
    shown = photo(session)
    for who, label in (("one", 0), ("two", 1), ("three", 0)):
        assert vote(session, who, shown, label).how == ""
    assert vote(session, "four", shown, 1) == (None, "split")
    assert session.get_one(Label, shown.id).label is None
    assert points(session, shown) == [(10, "action")]
    # A label of nobody teaches nothing.
    assert list(reviews.export(session)) == []


def test_a_trusted_vote_decides_alone_and_turns_left_overs_down(session):
    shown = photo(session)
    assert vote(session, "expert", shown, LOTS) == (LOTS, "trusted")
    assert points(session, shown) == []
    assert shown.action.state == "rejected"


def test_what_a_manager_decides_is_not_voted_on(session):
    manager = staff.create(session, "boss", "x", "manager")
    session.add(CanteenManager(user_id=manager.id, canteen_id=1))
    shown = photo(session)
    vote(session, "one", shown, SOME)
    moderation.decide(session, manager, shown.action_id, "count", AT)
    with pytest.raises(checks.UsageError, match="vote_gone"):
        vote(session, "expert", shown, LOTS)
    assert (shown.action.state, points(session, shown)) == (
        "counted",
        [(10, "action")],
    )


def test_left_overs_turn_down_nothing_but_clean_plates(session):
    shown = photo(session, kind="asked_less")
    vote(session, "expert", shown, LOTS)
    assert shown.action.state == "counted"
    assert points(session, shown) == [(10, "action")]


def test_verdicts_keep_the_limits(session):
    first, second = photo(session), photo(session)  # The same meal.
    vote(session, "expert", first, CLEAN)
    vote(session, "expert", second, CLEAN)
    assert points(session, second) == []
    assert (second.action.state, second.action.reason) == ("counted", "meal")
    others = [photo(session, meal=m) for m in ("tea", "dinner", "breakfast")]
    for other in others:
        vote(session, "expert", other, CLEAN)
    given = [sum(p for p, _ in points(session, other)) for other in others]
    assert given == [15, 15, 0]
    assert others[2].action.reason == "day"


def test_a_doubt_of_time_or_place_is_not_settled_by_a_photo(session):
    manager = staff.create(session, "boss", "x", "manager")
    session.add(CanteenManager(user_id=manager.id, canteen_id=1))
    shown = photo(session, reason="duplicate")
    vote(session, "expert", shown, CLEAN)
    assert (shown.action.state, points(session, shown)) == ("review", [])
    (doubt,) = moderation.pending(session, manager)
    assert doubt.action.id == shown.action_id
    moderation.decide(session, manager, shown.action_id, "count", AT)
    assert points(session, shown) == [(10, "action"), (5, "verified")]
    moderation.decide(session, manager, shown.action_id, "turn_down", AT)
    moderation.decide(session, manager, shown.action_id, "turn_down", AT)
    assert points(session, shown)[2:] == [(-10, "rejected"), (-5, "rejected")]
    moderation.decide(session, manager, shown.action_id, "count", AT)
    assert sum(p for p, _ in points(session, shown)) == 15
    what = session.scalars(sa.select(AuditEntry.what)).all()
    assert what.count("action_count") == what.count("action_turn_down") == 2


def test_moderation_is_of_ones_own_canteens(session):
    manager = staff.create(session, "boss", "x", "manager")
    session.add(CanteenManager(user_id=manager.id, canteen_id=2))
    there, here = photo(session), photo(session, canteen_id=2, note="rude")
    found = [d.action.id for d in moderation.pending(session, manager)]
    assert found == [here.action_id]
    with pytest.raises(checks.UsageError, match="not yours to change"):
        moderation.decide(session, manager, there.action_id, "count", AT)
    moderation.decide(session, manager, here.action_id, "hide_note", AT)
    assert (here.action.note, here.action.state) == ("", "review")
    here.action.state = "undone"
    with pytest.raises(checks.UsageError, match="not yours to change"):
        moderation.decide(session, manager, here.action_id, "count", AT)


def kappa_by_pairs(votes_by_photo):
    """The same by counting pairs of votes one by one."""
    kept = [[v for v in votes if v != rules.SKIP] for votes in votes_by_photo]
    kept = [votes for votes in kept if len(votes) > 1]
    same = [
        np.mean([a == b for a, b in itertools.permutations(votes, 2)])
        for votes in kept
    ]
    everything = [v for votes in kept for v in votes]
    chance = np.mean(
        [a == b for a, b in itertools.product(everything, everything)]
    )
    return np.mean(same), (np.mean(same) - chance) / (1 - chance)


@pytest.mark.parametrize("seed", range(3))
def test_agreement_is_that_of_pairs(seed):
    rng = np.random.default_rng(seed)
    votes = [
        rng.choice([-1, 0, 1, 2], size=n, p=[0.1, 0.5, 0.3, 0.1]).tolist()
        for n in rng.integers(0, 6, 25)
    ]
    found = reviews.agreement(votes)
    np.testing.assert_allclose(found[2:], kappa_by_pairs(votes), rtol=1e-12)
    used = [v for v in votes if sum(x >= 0 for x in v) > 1]
    assert found.photos == len(used)
    assert found.votes == sum(x >= 0 for v in used for x in v)


def test_agreement_of_two_is_scotts_pi():
    # Scott's pi of raters who say (0, 0), (0, 1), (1, 1), (0, 0): observed
    # 3/4, shares 5/8 and 3/8, so chance is 34/64.
    found = reviews.agreement([[0, 0], [0, 1], [1, 1], [0, 0]])
    assert found.observed == 0.75
    assert found.kappa == pytest.approx((0.75 - 34 / 64) / (1 - 34 / 64))
    assert reviews.agreement([[1, 1], [1, 1, -1]]) == (2, 4, 1.0, None)
    assert reviews.agreement([[1], [-1, -1]]) == (0, 0, None, None)


def test_the_export_tells_no_person(session):
    shown = photo(session, features=[0.25] * 128, canteen_id=2)
    vote(session, "expert", shown, SOME)
    vote_free = photo(session, meal="tea")
    (line,) = reviews.export(session)
    found = json.loads(line)
    assert found["photo"] == shown.id != vote_free.id
    assert (found["label"], found["class"]) == (SOME, "some")
    assert found["canteen"] == "lg7"
    assert found["features"] == [0.25] * 128
    assert "eater" not in line and "user" not in line
    assert session.scalar(sa.select(sa.func.count(ReviewVote.id))) == 1
