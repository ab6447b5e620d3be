"""What MkDocs asks while it builds the site.

Generated pages are those of `pages`; what a page takes from elsewhere is named
in a comment and put in by `includes`, so that a number is written once.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import equations
import includes
from mkdocs.structure.files import File
import pages

ROOT = Path(__file__).resolve().parents[2]


def on_config(config: Any) -> Any:
    """Fills the navigation: what is there, in the order of the file."""
    made = pages.generated(ROOT)
    listed = {name for name in _names(config.nav) if name.endswith(".md")}
    config.nav = [
        part for part in (_filled(p, listed, made) for p in config.nav) if part
    ]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that are no file of docs/."""
    for name, content in pages.generated(ROOT).items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Puts in what the page includes, and turns links to files into pages."""
    name = page.file.src_uri
    return includes.relink(includes.fill(markdown, ROOT, name), ROOT, name)


def on_page_content(html: str, **_: Any) -> str:
    """Equations become MathML, which browsers draw without a script."""
    return equations.convert(html)


def _names(nav: Any) -> Iterator[str]:
    """Every entry of a navigation, however deep."""
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict):
        for value in nav.values():
            yield from _names(value)
    else:
        for value in nav:
            yield from _names(value)


def _filled(part: Any, listed: set[str], made: dict[str, Any]) -> Any:
    """A part of the navigation without what is missing, or None.

    "folder/" stands for the pages of a folder, and "*" for those at the head
    of docs/, that are not listed elsewhere.
    """
    if isinstance(part, dict):
        ((title, value),) = part.items()
        inside = _filled(value, listed, made)
        return {title: inside} if inside else None
    if isinstance(part, list):
        found: list[Any] = []
        for value in part:
            inside = _filled(value, listed, made)
            found += inside if isinstance(inside, list) else [inside]
        return [value for value in found if value]
    if part == "*" or part.endswith("/"):
        folder = part.rstrip("/*")
        # An index first, then what is made in its order, then the rest.
        names = [n for n in made if Path(n).parent == Path(folder)]
        names += sorted(
            p.relative_to(ROOT / "docs").as_posix()
            for p in (ROOT / "docs" / folder).glob("*.md")
        )
        names = [n for n in names if n.endswith(".md") and n not in listed]
        return sorted(dict.fromkeys(names), key=lambda n: "index" not in n)
    return part if (ROOT / "docs" / part).exists() or part in made else None
