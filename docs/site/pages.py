"""Pages that are made and not written: notebooks, and the API of each room."""

import ast
import json
from pathlib import Path
import textwrap

# Rooms in the order of their floors.
ROOMS = (
    "core",
    "quantize",
    "hardware",
    "learn",
    "features",
    "models",
    "data",
    "recipes",
    "run",
    "flower",
    "foodwise",
)


def generated(root: Path) -> dict[str, str | bytes]:
    """Content by name of every page that is made, below docs/.

    Args:
        root: the project.
    """
    made: dict[str, str | bytes] = {"tutorials/index.md": _tutorials(root)}
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        made[f"tutorials/{path.stem}.md"] = notebook(path)
        made[f"tutorials/{path.name}"] = path.read_bytes()
    made["api/index.md"] = _rooms(root)
    for room in ROOMS:
        made[f"api/{room}.md"] = _room(root, room)
    return made


def notebook(path: Path) -> str:
    """A notebook as Markdown, without outputs: tests run it, not the site."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = []
    for cell in cells:
        source = "".join(cell["source"]).strip()
        if cell["cell_type"] == "code":
            source = f"```py\n{source}\n```"
        parts.append(source)
    title, rest = parts[0].split("\n", 1) if parts else (path.stem, "")
    note = (
        f"[Download the notebook]({path.name}); it opens in Jupyter and, by"
        " *File, Upload notebook*, in Colab. Its first cell installs what it"
        " needs."
    )
    return "\n\n".join([title, note, rest.strip(), *parts[1:]]) + "\n"


def _tutorials(root: Path) -> str:
    lines = [
        "# Tutorials",
        "",
        "Each is a notebook that runs on a CPU and that the tests run; here it"
        " is shown without its outputs.",
        "",
    ]
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        heading, _, text = "".join(cells[0]["source"]).partition("\n")
        name = heading.lstrip("# ")
        first = " ".join(text.strip().split("\n\n")[0].split())
        lines += [f"[{name}]({path.stem}.md)", f":   {first}", ""]
    return "\n".join(lines)


def _room(root: Path, room: str) -> str:
    """A page that shows every public module of a room."""
    folder = root / "jaxedge" / room
    parts = [f"# jaxedge.{room}", _docstring(folder / "__init__.py")]
    for path in sorted(folder.rglob("*.py")):
        package = path.name == "__init__.py"
        if path == folder / "__init__.py" or path.name == "__main__.py":
            continue
        # Migrations of a database are run and never imported.
        if not (path.parent / "__init__.py").exists():
            continue
        name = path.parent if package else path.with_suffix("")
        parts.append(f"::: {'.'.join(name.relative_to(root).parts)}")
    return "\n\n".join(parts) + "\n"


def _rooms(root: Path) -> str:
    lines = [
        "# API reference",
        "",
        "One page a room, from the docstrings. A room imports only rooms below"
        " it; this is their order from the ground up.",
        "",
        "| room | what it holds |",
        "|---|---|",
    ]
    for room in ROOMS:
        text = _docstring(root / "jaxedge" / room / "__init__.py")
        first = " ".join(text.split("\n\n")[0].split())
        lines.append(f"| [`jaxedge.{room}`]({room}.md) | {first} |")
    return "\n".join(lines) + "\n"


def _docstring(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    return textwrap.dedent(text or "")
