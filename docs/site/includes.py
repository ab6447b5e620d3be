"""What a page takes from elsewhere, so that nothing is written twice.

A page names it in a comment, which nobody sees where Markdown is shown as it
lies:

    <!-- readme: Two commands -->              a section of the README
    <!-- state: arXiv:2311.07164 -->           what the README says of a system
    <!-- config: edge_pruning -->              the lab note of a config
    <!-- results: edge_pruning_* -->           pages of docs/results
    <!-- gallery -->                           every picture of docs/
"""

import ast
import os
from pathlib import Path
import re

_COMMENT = re.compile(r"^<!-- (\w+)(?:: (.*?))? -->$", re.MULTILINE)
# A picture or not, its text, which may hold brackets, a target and an anchor.
_LINK = re.compile(
    r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]*)(#[^)\s]*)?\)"
)
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_PICTURES = (".svg", ".png", ".jpg")


def fill(markdown: str, root: Path, page: str) -> str:
    """A page with what its comments name.

    Args:
        markdown: of the page.
        root: the project.
        page: path of the page below docs/.

    Raises:
        ValueError: for something that is not there.
    """

    def put(match: re.Match[str]) -> str:
        maker = _MAKERS.get(match[1])
        return maker(root, match[2] or "", page) if maker else match[0]

    return _COMMENT.sub(put, markdown)


def relink(
    markdown: str, root: Path, page: str, base: Path | None = None
) -> str:
    """Links to files of the project as links to pages of the site.

    A notebook is its tutorial, a config the system that it belongs to, and
    README the first page; of other files that are not below docs/ the text
    alone stays.

    Args:
        markdown: of the page, or of a part of it.
        root: the project.
        page: path of the page below docs/.
        base: what links are relative to; by default the page's folder.
    """
    docs = root / "docs"
    here = (docs / page).parent
    base = base or here

    def one(match: re.Match[str]) -> str:
        picture, text, target, anchor = match.groups()
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        path = Path(os.path.normpath(base / target))
        if not path.is_relative_to(docs):
            found = _page_of(path, root)
            if found is None:
                return text
            path = docs / found
        relative = Path(os.path.relpath(path, here)).as_posix()
        return f"{picture}[{text}]({relative}{anchor or ''})"

    def outside_fences(part: str) -> str:
        return part if part.startswith("```") else _LINK.sub(one, part)

    return "".join(outside_fences(part) for part in _FENCE.split(markdown))


def _page_of(path: Path, root: Path) -> str | None:
    """The page below docs/ that shows a file from outside of it."""
    if path == root / "README.md":
        return "index.md"
    if path.parent == root / "notebooks":
        return f"tutorials/{path.stem}.md"
    if path.parent == root / "configs":
        page = f"systems/{path.stem}.md"
        return page if (root / "docs" / page).exists() else None
    return None


def _readme(root: Path, name: str, page: str) -> str:
    text = (root / "README.md").read_text(encoding="utf-8")
    section = rf"^## {re.escape(name)}\n(.*?)(?=^## |\Z)"
    found = re.search(section, text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ValueError(f"{page} includes {name!r}, which README.md lacks.")
    return relink(found[1].strip(), root, page, root)


def _state(root: Path, name: str, page: str) -> str:
    text = (root / "README.md").read_text(encoding="utf-8")
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) == 3 and cells[1] == name:
            return "State: " + relink(cells[2].rstrip(" |"), root, page, root)
    raise ValueError(f"{page} asks for {name!r}; README.md has no such row.")


def _config(root: Path, name: str, page: str) -> str:
    path = root / "configs" / f"{name}.py"
    if not path.exists():
        raise ValueError(f"{page} includes the config {name!r}; there is none.")
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    return f"{text}\n"


def _results(root: Path, names: str, page: str) -> str:
    """Result pages, whose names may be patterns, as sections of a page."""
    parts = []
    for name in names.split(","):
        name = name.strip()
        found = sorted((root / "docs" / "results").glob(f"{name}.md"))
        if not found and "*" not in name:
            raise ValueError(f"{page} includes {name!r}, which is no result.")
        for path in found:
            text = path.read_text(encoding="utf-8")
            text = re.sub(r"^#", "###", text, flags=re.MULTILINE)
            parts.append(relink(text, root, page, path.parent))
    return "\n\n".join(parts) or "No result yet."


def _gallery(root: Path, _: str, page: str) -> str:
    docs = root / "docs"
    parts = []
    for path in sorted((docs / "results").glob("*.svg")):
        text = path.with_suffix(".md")
        name = path.stem.replace("_", " ")
        if text.exists():
            name = f"[{name}]({text.relative_to(docs).as_posix()})"
        picture = path.relative_to(docs).as_posix()
        parts.append(f"### {name}\n\n![{path.stem}]({picture})")
    for path in sorted((docs / "pictures").rglob("*")):
        if path.suffix in _PICTURES:
            name = path.stem.replace("_", " ")
            picture = path.relative_to(docs).as_posix()
            parts.append(f"### {name}\n\n![{name}]({picture})")
    return relink("\n\n".join(parts), root, page, docs)


_MAKERS = {
    "config": _config,
    "gallery": _gallery,
    "readme": _readme,
    "results": _results,
    "state": _state,
}
