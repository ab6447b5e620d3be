"""Tests of the points of a sweep: grids, draws, what a config makes."""

import math
import zlib

import jax
import numpy as np
import pytest
import scipy.stats

from jaxedge.core import checks
from jaxedge.run import search_plan, search_points

RANGES = (
    "optimizer.learning_rate=log:1e-4:1e-2;train.batch=choice:32,64,128;"
    "train.epochs=whole:3:5;learn.keep=linear:0.25:0.75"
)


def test_a_grid_is_every_combination_in_order():
    made = search_points.grid("a.b=1,2; config.c=x,(3,4),'5,6'")
    expected = []
    for first in ("1", "2"):
        for second in ("x", "(3,4)", "5,6"):
            expected.append({"a.b": first, "c": second})
    assert made == expected


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a", ["a"]),
        ("a, b ,c", ["a", "b", "c"]),
        ("(1,2),[3,(4,5)]", ["(1,2)", "[3,(4,5)]"]),
        ("'a,b',\"c,(\"", ["'a,b'", '"c,("']),
        ("", [""]),
    ],
)
def test_marks_in_brackets_and_quotes_do_not_cut(text, parts):
    assert search_points.split(text, ",") == parts


@pytest.mark.parametrize(
    ("make", "text", "word"),
    [
        (search_points.grid, "a", "name=values"),
        (search_points.grid, "a=", "name=values"),
        (search_points.grid, "=1", "name=values"),
        (search_points.grid, ";", "is empty"),
        (search_points.grid, "a=1;a=2", "a twice"),
        (search_points.grid, "a=1,1", "a value twice"),
        (search_points.grid, "a=1,,2", "empty value"),
        (search_points.grid, "a=(1,2", "does not close"),
        (search_points.grid, "a='1", "does not close"),
        (search_points.ranges, "a=lgo:1:2", "Did you mean 'log'"),
        (search_points.ranges, "a=log:1", "log:low:high"),
        (search_points.ranges, "a=log:0:1", "above 0"),
        (search_points.ranges, "a=linear:2:1", "less than high"),
        (search_points.ranges, "a=linear:1:nan", "less than high"),
        (search_points.ranges, "a=whole:1:2.5", "whole numbers"),
        (search_points.ranges, "a=choice:1,1", "a value twice"),
    ],
)
def test_a_mistake_is_named(make, text, word):
    with pytest.raises(checks.UsageError, match=word):
        make(text)


def test_a_range_of_one_number_in_six_digits_is_told():
    where = search_points.ranges("a=linear:1000000:1000001")
    assert len(search_points.draw(where, 1, 0)) == 1
    with pytest.raises(checks.UsageError, match="hold 1 different points"):
        search_points.draw(where, 2, 0)


def test_draws_are_those_of_streams_by_name():
    """A number is that of its field's stream, at the place of its point."""
    where = search_points.ranges(RANGES)
    made = search_points.draw(where, 4, seed=7)
    key = jax.random.key(7)
    for name in ("sweep", "optimizer.learning_rate"):
        key = jax.random.fold_in(key, zlib.crc32(name.encode()))
    for place, point in enumerate(made):
        u = float(jax.random.uniform(jax.random.fold_in(key, place)))
        # Rounded to six digits.
        np.testing.assert_allclose(
            float(point["optimizer.learning_rate"]), 10 ** (-4 + 2 * u), 1e-5
        )


def test_more_points_or_fields_change_none():
    where = search_points.ranges(RANGES)
    made = search_points.draw(where, 40, seed=1)
    assert made[:7] == search_points.draw(where, 7, seed=1)
    assert made != search_points.draw(where, 40, seed=2)
    assert len({tuple(point.values()) for point in made}) == 40
    name = "optimizer.learning_rate"
    alone = search_points.draw({name: where[name]}, 40, seed=1)
    assert [p[name] for p in alone] == [point[name] for point in made]


def test_draws_fill_their_ranges():
    n = 2000
    made = search_points.draw(search_points.ranges(RANGES), n, seed=3)
    rate = [float(point["optimizer.learning_rate"]) for point in made]
    keep = [float(point["learn.keep"]) for point in made]
    # Kolmogorov-Smirnov at 1 %: 1.63 / sqrt(n) = 0.036.
    limit = 1.63 / math.sqrt(n)
    log = scipy.stats.kstest(np.log10(rate), "uniform", (-4, 2))
    linear = scipy.stats.kstest(keep, "uniform", (0.25, 0.5))
    assert max(log.statistic, linear.statistic) < limit
    for name, values in (
        ("train.batch", ["32", "64", "128"]),
        ("train.epochs", ["3", "4", "5"]),
    ):
        counts = [sum(p[name] == value for p in made) for value in values]
        assert sum(counts) == n
        # Binomial, p = 1/3: four standard deviations are 84.
        assert max(abs(count - n / 3) for count in counts) < 84


def test_draws_of_few_values_are_all_of_them():
    where = search_points.ranges("a=whole:1:3;b=choice:x,y")
    made = search_points.draw(where, 6, seed=0)
    pairs = {(point["a"], point["b"]) for point in made}
    assert pairs == {(a, b) for a in "123" for b in "xy"}
    with pytest.raises(checks.UsageError, match="6 points only"):
        search_points.draw(where, 7, seed=0)


CONFIG = '''
def sweep(variant="small"):
    """Rates, and one that has another width."""
    for rate in (0.1, 1e-05):
        yield {"optimizer.learning_rate": rate}
    yield {"config.model.widths": [16, 8], "model.bits": None, "study": "time"}
    if variant == "large":
        yield {"train.epochs": 3, "flag": True}
'''


def test_a_config_makes_its_own_points(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CONFIG, encoding="utf-8")
    made = search_points.configured(str(path))
    assert made == [
        {"optimizer.learning_rate": "0.1"},
        {"optimizer.learning_rate": "1e-05"},
        {"model.widths": "(16, 8)", "model.bits": "None", "study": "time"},
    ]
    large = search_points.configured(f"{path}:large")
    assert large == [*made, {"train.epochs": "3", "flag": "True"}]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("x = 1", "defines no sweep"),
        ("def sweep(): return []", "makes no points"),
        ("def sweep(): return [3]", "dicts of"),
        ("def sweep(): return [{'a': object()}]", "sets a to a object"),
        ("def sweep(): return [1 / 0]", "ZeroDivisionError"),
        ("def sweep(variant): return []", "missing 1 required"),
        ("def sweep(:", "SyntaxError"),
    ],
)
def test_a_sweep_with_a_mistake_is_named(tmp_path, body, word):
    path = tmp_path / "mine.py"
    path.write_text(body, encoding="utf-8")
    with pytest.raises(checks.UsageError, match=word):
        search_points.configured(str(path))


def names(runs):
    return [run.name for run in runs]


def test_names_tell_the_point_and_more_seeds_change_none():
    points = search_points.grid("a.rate=1e-3,1;b.widths=(16,),(8,4)")
    assert names(search_plan.name(points, None, 0)) == [
        "000-rate-1e-3-widths-16",
        "001-rate-1e-3-widths-8_4",
        "002-rate-1-widths-16",
        "003-rate-1-widths-8_4",
    ]
    two, three = (search_plan.name(points, seeds, 5) for seeds in (2, 3))
    assert names(two)[:2] == [
        "000-rate-1e-3-widths-16-seed5",
        "000-rate-1e-3-widths-16-seed6",
    ]
    assert two[1].point == {**points[0], "seed": "6"}
    assert [run for run in three if run.point["seed"] != "7"] == two
    assert two[0].flags == [
        "--config.a.rate=1e-3",
        "--config.b.widths=(16,)",
        "--config.seed=5",
    ]


def test_fields_of_one_name_are_told_apart():
    runs = search_plan.name([{"x.n": "1", "y.n": "2", "n": "3"}], None, 0)
    assert names(runs) == ["000-x.n-1-y.n-2-n-3"]
    with pytest.raises(checks.UsageError, match="seed"):
        search_plan.name([{"seed": "1"}], 2, 0)
