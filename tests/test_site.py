"""The documentation site builds without a warning and keeps to itself."""

from html.parser import HTMLParser
import importlib.util
import os
from pathlib import Path
import re
import resource
import subprocess
import sys
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
SITE = ROOT / "docs" / "site"
NEEDED = ("mkdocs", "material", "mkdocstrings", "latex2mathml")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
sys.path.insert(0, str(SITE))

includes: Any = importlib.import_module("includes")
pages: Any = importlib.import_module("pages")

needs_mkdocs = pytest.mark.skipif(
    bool(MISSING),
    reason=f"not installed: {', '.join(MISSING)}; pip install -e '.[docs]'",
)


class Built(NamedTuple):
    """A built site.

    Attributes:
        folder: of its files.
        told: what MkDocs said.
        status: how it ended.
        seconds: of the processor.
    """

    folder: Path
    told: str
    status: int
    seconds: float


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Built:
    folder = tmp_path_factory.mktemp("site")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"]
        + ["--config-file", "docs/site/mkdocs.yml", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime - before.ru_utime
    return Built(folder, done.stdout + done.stderr, done.returncode, seconds)


class Page(HTMLParser):
    """What a page loads, where it leads, and where it can be entered.

    Attributes:
        loads: addresses of scripts, styles, pictures and frames.
        leads: addresses of links.
        ids: names of its places.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.loads: list[str] = []
        self.leads: list[str] = []
        self.ids = {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given.get("id", ""), given.get("name", "")}
        if tag == "a":
            self.leads.append(given.get("href", ""))
        elif tag == "link" and given.get("rel") not in ("canonical", "next"):
            self.loads.append(given.get("href", ""))
        elif "src" in given:
            self.loads.append(given["src"])


def read(site: Built) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.folder.rglob("*.html"))}


@needs_mkdocs
def test_it_builds_without_a_warning_and_soon(site):
    assert site.status == 0, site.told[-3000:]
    assert not re.search("WARNING|ERROR", site.told), site.told
    assert site.seconds < 60


@needs_mkdocs
def test_no_page_loads_anything_from_another_host(site):
    wrong = [
        f"{path.name}: {address}"
        for path, page in read(site).items()
        for address in page.loads
        if urlsplit(address).netloc
    ]
    for path in site.folder.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        found = re.findall(r"(?:@import|url\()\s*['\"]?(?:https?:)?//", text)
        wrong += [f"{path.name}: {address}" for address in found]
    assert wrong == []


@needs_mkdocs
def test_every_link_inside_leads_somewhere(site):
    found = read(site)
    assert len(found) > 60
    wrong = []
    for path, page in found.items():
        for address in {*page.leads, *page.loads}:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            # The page of a missing page is shown at any address.
            start = site.folder if parts.path.startswith("/") else path.parent
            target = start / unquote(parts.path).lstrip("/")
            target = Path(os.path.normpath(target)) if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            other = found.get(target)
            if not target.exists():
                wrong.append(f"{path.name}: {address}")
            elif other and unquote(parts.fragment) not in other.ids | {
                "__search"  # Opens the search, which a script handles.
            }:
                wrong.append(f"{path.name}: no place {address}")
    assert wrong == []


@needs_mkdocs
def test_equations_are_drawn_by_the_browser(site):
    found = [*(site.folder / "physics").glob("*.html")]
    texts = [path.read_text(encoding="utf-8") for path in found]
    assert sum("<math" in text for text in texts) >= 5
    assert not any("arithmatex" in text for text in texts)


@needs_mkdocs
def test_numbers_are_those_of_the_results(site):
    table = (ROOT / "docs" / "results" / "sram_digits.md").read_text(
        encoding="utf-8"
    )
    numbers = re.findall(r"\d+\.\d\d", table)
    page = (site.folder / "systems" / "sram.html").read_text(encoding="utf-8")
    assert numbers and all(number in page for number in numbers)


# What pages include, without MkDocs.


def test_a_page_takes_sections_notes_and_results():
    text = "a\n<!-- config: sram -->\n<!-- results: sram_digits -->\nb"
    filled = includes.fill(text, ROOT, "systems/sram.md")
    assert "arXiv:2307.05944" in filled and "### sram_digits" in filled
    readme = includes.fill("<!-- readme: Layout -->", ROOT, "index.md")
    assert "`quantize`" in readme and "##" not in readme
    state = includes.fill(
        "<!-- state: arXiv:2312.02567 -->", ROOT, "systems/feal.md"
    )
    assert state.startswith("State: works") and "(../federated.md)" in state


@pytest.mark.parametrize(
    "comment",
    ["readme: Nothing", "state: arXiv:1", "config: none", "results: none"],
)
def test_what_is_not_there_cannot_be_included(comment):
    with pytest.raises(ValueError, match="a.md"):
        includes.fill(f"<!-- {comment} -->", ROOT, "a.md")


def test_a_pattern_may_find_nothing():
    found = includes.fill("<!-- results: nothing_* -->", ROOT, "a.md")
    assert found == "No result yet."


@pytest.mark.parametrize(
    "link, becomes",
    [
        ("[a](hardware.md#wires)", "[a](../hardware.md#wires)"),
        ("[a](../notebooks/radiomics.py)", "[a](../tutorials/radiomics.md)"),
        ("[`a`](../notebooks/a.ipynb)", "[`a`](../tutorials/a.md)"),
        ("[a](../configs/sram.py)", "[a](../systems/sram.md)"),
        ("[a](../README.md)", "[a](../index.md)"),
        ("[a](../pyproject.toml)", "a"),
        ("[a](https://x.org/b.md)", "[a](https://x.org/b.md)"),
        ("![a](results/b.svg)", "![a](../results/b.svg)"),
        ("```\n[a](../README.md)\n```", "```\n[a](../README.md)\n```"),
    ],
)  # fmt: skip
def test_links_to_files_become_links_to_pages(link, becomes):
    base = ROOT / "docs"
    assert includes.relink(link, ROOT, "guides/x.md", base) == becomes


def test_every_room_and_every_notebook_has_a_page():
    made = pages.generated(ROOT)
    rooms = {p.parent.name for p in (ROOT / "jaxedge").glob("*/__init__.py")}
    assert {f"api/{room}.md" for room in rooms} <= {*made}
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        page = made[f"tutorials/{path.stem}.md"]
        assert page.startswith("# ") and "```py" in page
