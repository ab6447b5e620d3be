"""The dashboard's pages: what each panel has, in both languages."""

import csv
import datetime as dt
import functools
import html
import io
import json
import math
import re

import pytest
import sqlalchemy as sa

from jaxedge.foodwise.base import words
from jaxedge.foodwise.base.tables import Campaign, Canteen, WasteRecord
from jaxedge.foodwise.upkeep import replay
from jaxedge.foodwise.waste import charts, panels, sentences, series, stories
from jaxedge.foodwise.waste.totals import Total
from jaxedge.foodwise.web.pages import dashboard
from jaxedge.foodwise.web.pages import weigh_ins as weigh_in_pages
from tests.foodwise import weighing

WEEK = dt.date(2026, 3, 9)


@pytest.fixture
def site(app, monkeypatch):
    monkeypatch.setattr(dashboard, "today", lambda session: weighing.TODAY)
    return app.state.site


@pytest.fixture
def demo(site):
    """The site with the made-up campaign."""
    replay.load(site.database, site.settings, 0, weighing.TODAY, pictures=0)
    return site


def say(key, **fields):
    return words.say("en", key, **fields)


def sections(text):
    """Panel -> its HTML."""
    return dict(
        re.findall(
            r'<section[^>]*data-panel="([^"]+)"(.*?)</section>', text, re.S
        )
    )


def test_each_panel_has_all_its_parts(client, demo):
    for language, header in (("en", "en"), ("zh-Hant", "zh-HK")):
        answer = client.get("/", headers={"accept-language": header})
        assert answer.status_code == 200
        assert words.say(language, "dashboard.synthetic") in answer.text
        story = stories.story(demo.database, None, weighing.TODAY, language)
        found = sections(answer.text)
        assert [*found] == [*stories.NAMES]
        for name, part in found.items():
            panel = story.panels[name]
            assert (
                html.escape(panel.sentence, quote=True)
                .replace("&quot;", "&#34;")
                .replace("&#x27;", "&#39;")
                in part
            )
            assert len(panel.sentence) > 10
            assert words.say(language, f"dashboard.{panel.key}.note") in (
                html.unescape(part)
            )
            assert f"/data/{name}.csv?week=2026-03-09" in part
            assert part.count("<tr>") == len(panel.rows) + 1
            specs = re.findall(
                r'<script type="application/json">(.*?)</script>', part, re.S
            )
            assert [json.loads(spec) for spec in specs] == panel.specs
            for spec in panel.specs:
                assert spec["description"]
        assert 'src="/qr/join.svg"' in found["your-turn"]


def test_nothing_of_the_page_breaks_the_policy(client, demo):
    text = client.get("/").text
    assert not re.search(r"<style|\sstyle=|\son\w+=", text)
    kinds = re.findall(r"<script([^>]*)>", text)
    assert all("src=" in k or "application/json" in k for k in kinds)
    assert not re.search(r'(?:src|href)="(?:https?:)?//', text)


def test_files_are_what_the_tables_hold(client, demo):
    story = stories.story(demo.database, None, weighing.TODAY, "en")
    for name in stories.NAMES:
        answer = client.get(f"/data/{name}.csv")
        assert answer.headers["content-type"].startswith("text/csv")
        assert (
            f"synthetic-{name}-2026-03-09"
            in (answer.headers["content-disposition"])
        )
        head, *rows = csv.reader(io.StringIO(answer.text, newline=""))
        assert head == [*(c.name for c in story.panels[name].columns), "data"]
        assert len(rows) == len(story.panels[name].rows)
        assert {row[-1] for row in rows} == {"synthetic"}
    every = client.get("/data/weigh-ins.csv?week=2026-03-09").text
    rows = list(csv.DictReader(io.StringIO(every, newline="")))
    asked = sa.select(sa.func.sum(WasteRecord.grams)).where(
        WasteRecord.day >= WEEK
    )
    with demo.database.read() as session:
        assert sum(int(r["grams"]) for r in rows) == session.scalar(asked)
    assert client.get("/data/secret.csv").status_code == 404


def test_weeks_are_chosen(client, demo):
    text = client.get("/?week=2026-02-11").text
    assert re.search(r'value="2026-02-09" selected', text)
    # Before the campaign there is none to tell of.
    assert say("dashboard.say.no_campaign") in text
    for unknown in ("2030-01-07", "2024-01-01"):
        answer = client.get(f"/?week={unknown}")
        assert answer.status_code == 404
        assert say("error.week_unknown") in answer.text
    # This week may be empty yet.
    with demo.database.write() as session:
        session.execute(
            sa.delete(WasteRecord).where(
                WasteRecord.day >= dt.date(2026, 3, 16)
            )
        )
    text = client.get("/?week=2026-03-20").text
    assert say("dashboard.say.nothing", week="16 March 2026") in text
    for week in ("x", "2026-13-01", "1999-01-01", "9999-12-31", "0001-01-01"):
        answer = client.get(f"/?week={week}")
        assert answer.status_code == 422 and say("error.week") in answer.text


def test_a_big_screen_has_the_same_panels(client, demo):
    text = client.get("/?view=screen").text
    assert 'class="screen"' in text
    assert [*sections(text)] == [*stories.NAMES]
    # It is loaded anew by itself, and goes on to the next week with it.
    assert '<meta http-equiv="refresh" content="300">' in text
    usual = client.get("/").text
    assert "http-equiv" not in usual
    assert 'href="/?view=screen"' in usual
    earlier = client.get("/?week=2026-03-02").text
    assert 'href="/?view=screen&amp;week=2026-03-02"' in earlier


def test_an_empty_instance_says_what_to_do(client, site):
    for header in ("en", "zh-HK"):
        answer = client.get("/", headers={"accept-language": header})
        assert answer.status_code == 200
        assert "/weigh-ins" in answer.text and not sections(answer.text)
    for name in stories.NAMES:
        rows = client.get(f"/data/{name}.csv").text.strip().splitlines()
        assert len(rows) == 1


def test_one_weigh_in_is_enough(client, site):
    """No diners, no campaign, one day: everything else is unknown."""
    allowed = weighing.places(site.database, "north", "south")
    text = weighing.file_of(("north", "2026-03-09", "lunch", "rice", 1500, ""))
    weighing.take(site.database, text, allowed)
    for header in ("en", "zh-HK"):
        answer = client.get("/", headers={"accept-language": header})
        assert answer.status_code == 200
        assert say("dashboard.synthetic") not in answer.text
    text = client.get("/").text
    assert "1.5\u00a0kg" in text
    for key in ("no_diners", "where_unknown", "no_campaign", "turn_none"):
        assert say(f"dashboard.say.{key}") in text
    assert say("dashboard.say.missing", n=13, of=14) in text
    assert "NaN" not in text and "nan" not in text.replace("tenant", "")
    rows = client.get("/data/what.csv").text.splitlines()
    assert rows[1] == "rice,1500,100,,,measured"


def test_a_young_campaign_has_no_estimate(client, site):
    allowed = weighing.places(site.database, "north")
    text = weighing.file_of(
        *(("north", f"2026-03-{d:02d}", "lunch", "rice", 900 + d, 10)
          for d in range(1, 12))
    )  # fmt: skip
    weighing.take(site.database, text, allowed)
    with site.database.write() as session:
        session.add(Campaign(name="C", starts=WEEK, ends=dt.date(2026, 3, 22)))
    text = client.get("/").text
    told = say("dashboard.say.no_estimate_before", before=8, during=3, least=14)
    assert told in text


def interval(low, high):
    mean = series.Interval((low + high) / 2, low, high)
    return series.Estimate(mean, mean, mean, 0.0, 28, 14, ())


@pytest.mark.parametrize(
    "low, high, key, value",
    [(-9, -3, "less", "6.0"), (2, 4, "more", "3.0"), (-3, 1, "none", "1.0")],
)
def test_an_estimate_is_told_without_a_cause(low, high, key, value):
    for language in words.LANGUAGES:
        tell = functools.partial(words.say, language)

        told = sentences.did(tell, 1200, interval(low, high))
        ends = {"low": f"{low:.1f}", "high": f"{high:.1f}"}
        ends = {k: v.replace("-", "−") for k, v in ends.items()}
        key_ = f"dashboard.say.estimate_{key}"
        assert tell(key_, value=value, **ends) in told
        assert tell("dashboard.say.no_cause") in told
        assert "1,200" in told


def test_sentences_of_weeks():
    def total(grams, diners):
        return Total((WEEK,), grams, grams, diners, 5)

    told = sentences.how_much(
        say, total(90_000, 1000), total(100_000, 1000), WEEK
    )
    assert "90.0\u00a0g per diner" in told and "10.0\u00a0% less" in told
    told = sentences.how_much(say, total(100_040, 1000), total(1e5, 1000), WEEK)
    assert "as in the week before" in told
    far = [("a", series.Interval(9, 8, 10)), ("b", series.Interval(5, 4, 6))]
    near = [("a", series.Interval(9, 5, 13)), far[1]]
    unsure = [("a", series.Interval(9, math.nan, math.nan)), far[1]]
    overlap = say("dashboard.say.where_overlap")
    assert overlap not in sentences.where(say, far, [])
    assert overlap in sentences.where(say, near, [])
    assert overlap in sentences.where(say, unsure, [])
    assert "at c, d this week" in sentences.where(say, far, ["c", "d"])


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0"),
        (4_037_371, "4,040,000"),
        (123.4, "123"),
        (1.082, "1.08"),
        (0.00041, "0.000410"),
        (math.nan, "–"),
    ],
)
def test_numbers_have_three_digits_that_count(value, text):
    assert sentences.short(value) == text


def test_the_code_leads_to_joining(client, site):
    answer = client.get("/qr/join.svg")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert b"<title>http://127.0.0.1:8000/join</title>" in answer.content
    assert b"style" not in answer.content and b"script" not in answer.content


def test_sums_are_asked_by_programs(client, demo):
    asked = {"since": "2026-03-09", "until": "2026-03-15"}
    whole = client.get("/api/v1/waste", params=asked | {"by": "canteen"}).json()
    assert whole["synthetic"] and len(whole["rows"]) == 9
    assert whole["rows"][0]["day"] is None
    days = client.get("/api/v1/waste", params=asked).json()["rows"]
    assert [row["day"] for row in days] == [
        f"2026-03-{d:02d}" for d in range(9, 16)
    ]
    total = sum(row["grams"] for row in days)
    assert total == sum(row["grams"] for row in whole["rows"])
    asked = {"since": "2026-02-23", "until": "2026-03-08"}
    done = client.get("/api/v1/actions/daily", params=asked).json()["rows"]
    assert len(done) == 14 and sum(r["actions"] for r in done) >= 800
    wrong = ({"until": "2020-01-01"}, {"until": "2030-01-01"}, {"since": "x"})
    for fields in wrong:
        for path in ("waste", "actions/daily"):
            answer = client.get(f"/api/v1/{path}", params=asked | fields)
            assert answer.status_code == 422
    by = client.get("/api/v1/waste", params=asked | {"by": "person"})
    assert by.status_code == 422
    paths = client.get("/api/openapi.json").json()["paths"]
    for path in ("waste", "actions/daily", "weigh-ins"):
        assert f"/api/v1/{path}" in paths
    assert "/" not in paths


def test_a_week_is_summed_once_whichever_day_is_asked_for(
    client, demo, monkeypatch
):
    made, weighed = [], stories._weighed

    def counted(session, first, *more):
        made.append(first)
        return weighed(session, first, *more)

    monkeypatch.setattr(stories, "_weighed", counted)
    days = [*range(9, 16)]
    for day in days:
        path = f"/?week=2026-03-{day:02d}"
        assert client.get(path).status_code == 200
        assert client.get(f"/?week=2030-01-{day:02d}").status_code == 404
    assert client.get("/").status_code == 200  # The same week.
    assert made == [WEEK]


def test_made_up_actions_are_marked(client, demo):
    for since, until, told in (
        ("2026-02-23", "2026-03-08", True),
        ("2025-02-23", "2025-03-08", False),
    ):
        answer = client.get(
            "/api/v1/actions/daily", params={"since": since, "until": until}
        ).json()
        assert answer["synthetic"] is told
    with demo.database.write() as session:
        session.execute(sa.update(Campaign).values(synthetic=False))
    asked = {"since": "2026-02-23", "until": "2026-03-08"}
    answer = client.get("/api/v1/actions/daily", params=asked).json()
    assert answer["synthetic"] is False and len(answer["rows"]) == 14


def test_an_old_made_up_line_marks_the_page(client, site):
    """What a campaign is compared to may lie before the weeks shown."""
    allowed = weighing.places(site.database, "north")
    text = weighing.file_of(("north", "2026-03-09", "lunch", "rice", 900, 10))
    weighing.take(site.database, text, allowed)
    starts = dt.date(2026, 2, 2)
    with site.database.write() as session:
        session.add(
            Campaign(name="C", starts=starts, ends=dt.date(2026, 3, 22))
        )
        row = WasteRecord(
            canteen_id=allowed["north"], day=starts - dt.timedelta(days=40),
            meal="lunch", category="rice", grams=900, source="synthetic",
        )  # fmt: skip
        session.add(row)
    assert say("dashboard.synthetic") in client.get("/").text
    with site.database.write() as session:
        session.execute(
            sa.update(WasteRecord)
            .where(WasteRecord.source == "synthetic")
            .values(day=starts - dt.timedelta(days=90))
        )
        session.add(Canteen(slug="new", name="New"))  # Told anew by that.
    assert say("dashboard.synthetic") not in client.get("/").text


@pytest.mark.parametrize(
    "value, text",
    [(-1.5, "-1.5"), (-2.0, "-2"), (4_037_371.2, "4037370"), (1e-7, "1e-07"),
     (100.0, "100"), (0.123456789, "0.123457"), ("-1+2", "'-1+2")],
)  # fmt: skip
def test_a_negative_number_of_a_file_is_one(client, demo, value, text):
    story = stories.story(demo.database, None, weighing.TODAY, "en")
    panel = panels.Panel(
        "actions", "", (panels.Column("fit", "rate"),), [(value,)], []
    )
    told = stories.csv(story._replace(panels={"actions": panel}), "actions")
    assert told.splitlines()[1] == f"{text},synthetic"


def test_days_are_those_of_the_campaigns_clock(app, monkeypatch):
    at = dt.datetime(2026, 3, 9, 21, tzinfo=dt.UTC)  # 5:00 in Hong Kong.
    far = {"zone": "Pacific/Pago_Pago", "day_starts": 0}  # 10:00.
    for module in (dashboard, weigh_in_pages):
        monkeypatch.setattr(module, "now", lambda: at)
        with app.state.site.database.write() as session:
            assert module.today(session) == dt.date(2026, 3, 10)
            session.add(
                Campaign(
                    name="C", starts=WEEK, ends=dt.date(2026, 3, 22), rules=far
                )
            )
            session.flush()
            assert module.today(session) == WEEK
            session.rollback()


def test_charts_fetch_and_run_nothing():
    row = {"label": "a", "value": 1, "low": 0, "high": 2, "shown": "1"}
    made = charts.bars([row], say, axis="kg", description="d")
    text = json.dumps(made)
    assert "url" not in made["data"] and "https://" not in text.replace(
        charts.SCHEMA, ""
    )
