"""The texts of the pages, by language: texts/LANGUAGE/*.json."""

from functools import cache
import json
from pathlib import Path
from typing import Any

LANGUAGES = ("en", "zh-Hant")
_FOLDER = Path(__file__).parent / "texts"


@cache
def texts(language: str) -> dict[str, str]:
    """Key -> text with {fields}, of all files of a language."""
    found: dict[str, str] = {}
    for path in sorted((_FOLDER / language).glob("*.json")):
        for key, text in json.loads(path.read_text("utf-8")).items():
            if key in found:
                raise ValueError(f"{path}: {key!r} is told twice")
            found[key] = text
    return found


def say(language: str, key: str, /, **values: Any) -> str:
    """A text with its fields filled in.

    Raises:
        KeyError: for a key that no file of the language has.
    """
    return texts(language)[key].format(**values)


__all__ = ["LANGUAGES", "say", "texts"]
