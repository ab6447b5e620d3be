"""The code that a canteen shows: right here and now, and nowhere else."""

import datetime as dt
import re
import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st
import pytest

from jaxedge.foodwise.base import database, rules, security, settings
from jaxedge.foodwise.campaign import codes

AT = dt.datetime(2026, 3, 3, 12, 0, 30, tzinfo=dt.UTC)
RULES = rules.Rules()


def later(seconds):
    return AT + dt.timedelta(seconds=seconds)


@pytest.fixture(scope="module")
def guard(tmp_path_factory):
    made = settings.Settings(tmp_path_factory.mktemp("codes"))
    return security.Guard(made, database.Database(made.url))


@given(st.integers(0, 2**32))
def test_a_code_lasts_this_step_and_the_next(guard, seconds):
    at = dt.datetime.fromtimestamp(seconds, dt.UTC)
    code = codes.current(guard, "lg1", at, RULES)
    assert re.fullmatch("[A-HJ-NP-Z2-9]{6}", code)
    start = dt.datetime.fromtimestamp(seconds // 60 * 60, dt.UTC)
    for wait, right in ((0, True), (59, True), (60, True), (119, True)):
        moment = start + dt.timedelta(seconds=wait)
        assert codes.valid(guard, "lg1", code, moment, RULES) is right
    # Two of 31^6 codes are right at a time, and of 100 examples by chance none.
    for wait in (-1, 120, 3600, 86400):
        moment = start + dt.timedelta(seconds=wait)
        assert not codes.valid(guard, "lg1", code, moment, RULES)


def test_a_code_is_of_one_canteen_and_one_instance(guard, tmp_path):
    code = codes.current(guard, "lg1", AT, RULES)
    assert not codes.valid(guard, "lg7", code, AT, RULES)
    other = settings.Settings(tmp_path)
    other = security.Guard(other, database.Database(other.url))
    assert not codes.valid(other, "lg1", code, AT, RULES)


def test_a_code_may_be_typed(guard):
    code = codes.current(guard, "lg1", AT, RULES)
    assert codes.valid(guard, "lg1", f" {code.lower()} ", AT, RULES)
    for wrong in ("", "ABC", code + "A", "é" * 6, "\0", code[::-1] + " x"):
        assert not codes.valid(guard, "lg1", wrong, AT, RULES)


def test_the_step_is_a_rule(guard):
    slow = rules.Rules(qr_seconds=600)
    code = codes.current(guard, "lg1", AT, slow)
    assert codes.valid(guard, "lg1", code, later(500), slow)
    assert codes.seconds_left(AT, RULES) == 30
    assert codes.seconds_left(later(30), RULES) == 60


def test_the_link_keeps_what_it_is_given():
    link = codes.link("https://food.example/", "a b&c", "X2")
    assert link == "https://food.example/log?canteen=a+b%26c&code=X2"


def test_the_picture_is_that_of_the_text():
    segno = pytest.importorskip("segno")
    text = codes.link("http://127.0.0.1:8000", "lg1", "ABC234")
    drawn = codes.picture(text, "<b>LG1</b>")
    assert "style" not in drawn and "<b>" not in drawn
    root = ET.fromstring(drawn)
    path = next(p for p in root.iter("path") if p.get("stroke"))
    # Runs of dark modules: "M4 4.5h7m1 0h2", relative but for the first.
    dark, x, y = set(), 0.0, 0.0
    for kind, numbers in re.findall(r"([Mmh])([-\d. ]+)", path.get("d")):
        values = [float(n) for n in re.findall(r"-?[\d.]+", numbers)]
        if kind == "h":
            dark |= {(int(x) + n, int(y)) for n in range(int(values[0]))}
            x += values[0]
        else:
            base = (0, 0) if kind == "M" else (x, y)
            x, y = base[0] + values[0], base[1] + values[1]
    matrix = segno.make(text, micro=False, error="m").matrix
    wanted = {
        (column + 4, row + 4)
        for row, line in enumerate(matrix)
        for column, module in enumerate(line)
        if module
    }
    assert dark == wanted
