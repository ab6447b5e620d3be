"""Sentences of the standard library."""

import os
import random

import pytest

from jaxedge.data import docstrings


def test_sentences_are_unique_whole_lines_of_a_length():
    found = docstrings.sentences()
    # Every version of Python has thousands.
    assert len(found) > 1000
    assert len({*found}) == len(found)
    assert all(20 <= len(line) <= 300 for line in found)
    assert all(" ".join(line.split()) == line for line in found)
    # A sentence that many versions have had.
    assert " ".join(random.__doc__.split("\n\n")[0].split()) in found
    assert docstrings.sentences() is found


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A standard library of two files, one of them no Python of now."""
    bodies = "".join(
        f'def f{i}():\n    """The sentence with\n\n    the number."""\n'
        f'class C{i}:\n    """Class {i} does\n    nothing at all.\n\n'
        '    More."""\n'
        for i in range(30)
    )
    (tmp_path / "a.py").write_text(f'"""Short."""\n{bodies}')
    (tmp_path / "b.py").write_text("print 'old'")
    monkeypatch.setattr(os, "__file__", str(tmp_path / "os.py"))


def test_first_paragraphs_have_a_fixed_and_mixed_order(library):
    read = docstrings.sentences.__wrapped__
    found = read()
    want = [f"Class {i} does nothing at all." for i in range(30)]
    # "The sentence with" is too short.
    assert sorted(found) == sorted(want)
    assert list(found) != want and read() == found
