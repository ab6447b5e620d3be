"""Sentences that every Python has: the docstrings of its standard library.

They need no file of a data set. Which there are depends on the version of
Python.
"""

import ast
import functools
import os
from pathlib import Path

import numpy as np

# Characters of a sentence.
_LENGTHS = 20, 300


@functools.cache
def sentences() -> tuple[str, ...]:
    """First paragraphs of docstrings, each once, in a fixed random order.

    Reading them takes some seconds, once a process.
    """
    found: dict[str, None] = {}
    for path in sorted(Path(os.__file__).parent.glob("*.py")):
        try:
            tree = ast.parse(path.read_text(encoding="utf-8", errors="ignore"))
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            kinds = ast.Module, ast.ClassDef, ast.FunctionDef
            if isinstance(node, kinds) and (text := ast.get_docstring(node)):
                line = " ".join(text.split("\n\n")[0].split())
                if _LENGTHS[0] <= len(line) <= _LENGTHS[1]:
                    found[line] = None
    lines = list(found)
    order = np.random.default_rng(0).permutation(len(lines))
    return tuple(lines[i] for i in order)
