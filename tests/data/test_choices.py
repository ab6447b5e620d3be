"""Questions of every set, and files that hold none."""

import gzip
import json
from pathlib import Path

import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import choices

ROW = {"question": "Why _ so?", "choices": ["a b", "c"], "label": 1}
# By hand, from the tasks of lm-evaluation-harness.
PROMPTS = {
    "arc_easy": ("Question: Why _ so?\nAnswer:", " a b"),
    "arc_challenge": ("Question: Why _ so?\nAnswer:", " a b"),
    "openbookqa": ("Why _ so?", " a b"),
    "piqa": ("Question: Why _ so?\nAnswer:", " a b"),
    "social_iqa": ("Q: Why _ so?\nA:", " a b"),
    "winogrande": ("Why a b", " so?"),
    "boolq_no_passage": ("Question: Why _ so?\nAnswer:", " a b"),
}


def write(path, *rows):
    path.parent.mkdir(exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


def fails(match, f, *args):
    with pytest.raises(UsageError, match=match) as error:
        f(*args)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", choices.FILES)
def test_a_set_asks_in_its_own_way(name, tmp_path, monkeypatch):
    monkeypatch.setitem(choices.FILES, name, ("own.gz", 2))
    write(tmp_path / "mcq" / "own.gz", ROW, {**ROW, "label": 0})
    first, second = choices.load(name, tmp_path)
    assert first.prompts[0] == PROMPTS[name]
    assert (first.question, first.choices) == ("Why _ so?", ("a b", "c"))
    assert (first.label, second.label) == (1, 0)
    assert len(first.prompts) == 2 and first.prompts == second.prompts
    monkeypatch.setenv(data.ROOT_VARIABLE, str(tmp_path))
    assert choices.load(name) == (first, second)


def test_true_and_false_are_asked_as_yes_and_no():
    ask = choices.PROMPTS["boolq_no_passage"]
    assert [ask("is it?", c)[1] for c in ("true", "false")] == [" yes", " no"]


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ("{", "line 2 of .* is no question .JSONDecodeError"),
        ("", "line 2 of .* is no question"),
        ("3", "line 2 of .* is no question .TypeError"),
        ({"question": "?", "label": 0}, "KeyError: 'choices'"),
        ({**ROW, "choices": "ab"}, "choices 'ab'; give a text, and a list"),
        ({**ROW, "choices": ["a"]}, "two or more"),
        ({**ROW, "choices": ["a", 3]}, "two or more"),
        ({**ROW, "question": None}, "the question None"),
        ({**ROW, "label": 2}, "label of line 2 of .* is 2, but must lie in"),
        ({**ROW, "label": -1}, "label of line 2 of .* is -1"),
        ({**ROW, "label": "1"}, "must be a whole number, got '1'"),
        ({**ROW, "label": True}, "must be a whole number, got True"),
    ],
)
def test_a_line_that_is_no_question_is_named(row, match, tmp_path):
    fails(match, choices.read, write(tmp_path / "own.gz", ROW, row, ROW))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "own.gz"
    fails("own.gz is missing", choices.read, path)
    write(path, ROW)
    raw = path.read_bytes()
    for bad in (raw[:-9], b"question", gzip.compress(b"\xff\xfe")):
        path.write_bytes(bad)
        fails("own.gz is no gzipped text", choices.read, path)


def test_a_set_is_complete(tmp_path, monkeypatch):
    fails(
        "questions 'boolq'. .*: arc_challenge,", choices.load, "boolq", tmp_path
    )
    fails(
        "arc_easy_test.jsonl.gz is missing", choices.load, "arc_easy", tmp_path
    )
    write(tmp_path / "mcq" / "arc_easy_test.jsonl.gz", ROW)
    fails("has 1 questions, but arc_easy has 2376", choices.load, "arc_easy",
          tmp_path)  # fmt: skip
    monkeypatch.delenv(data.ROOT_VARIABLE, raising=False)
    fails("folder that holds mcq/", choices.load, "arc_easy")


def test_the_real_sets_are_whole(real_file):
    root = Path(real_file("mcq/arc_easy_test.jsonl.gz")).parents[1]
    counts = {}
    for name in choices.FILES:
        found = choices.load(name, root)
        counts[name] = {len(asked.choices) for asked in found}
        assert all(end.strip() for asked in found for _, end in asked.prompts)
        assert {asked.label for asked in found} >= {0, 1}
    # A few of the questions of ARC have three or five choices.
    assert counts["arc_easy"] == counts["arc_challenge"] == {3, 4, 5}
    assert counts["social_iqa"] == {3} and counts["openbookqa"] == {4}
    pairs = ("piqa", "winogrande", "boolq_no_passage")
    assert all(counts[name] == {2} for name in pairs)
