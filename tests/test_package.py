"""Tests of the package as a whole: imports, rooms, docstrings."""

import ast
import importlib
import json
from pathlib import Path
import re
import subprocess
import sys
import types

import pytest

import jaxedge

PACKAGE = Path(jaxedge.__file__).parent
# Floors of the rooms; a room imports from lower floors only.
FLOORS = {
    "core": -1,
    "hardware": 0,
    "quantize": -0.5,  # Number formats, which hardware knows.
    "learn": 0,
    "features": 0,
    "models": 1,
    "data": 1,
    "recipes": 2,
    "run": 3,
}
# On top of all rooms, each an extra that nothing else imports.
APPLICATIONS = {"flower": 4, "foodwise": 4}
PURE = ("core", "hardware", "quantize", "learn", "features")
HEAVY = (
    "cv2", "equinox", "flax", "haiku", "jaxlib", "librosa", "matplotlib",
    "ml_collections",
    "optax", "orbax", "sklearn", "tensorboardX", "tensorflow",
    "tensorflow_datasets",
)  # fmt: skip
# What only an extra installs, so that no command may need it; and scipy, which
# only work on the host needs.
EXTRAS = (
    "equinox", "haiku", "tensorflow", "tensorflow_datasets", "array_record",
    "PIL", "cv2", "librosa", "safetensors", "scipy", "tokenizers",
    "alembic", "argon2", "fastapi", "itsdangerous", "jinja2", "segno",
    "sqlalchemy", "starlette", "uvicorn",
)  # fmt: skip

FILES = sorted(PACKAGE.rglob("*.py"))


def room(path):
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else None


def imports(path):
    """Every module that a file imports, anywhere in it, with the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno} imports relatively"
            module = str(node.module)
            yield module, node.lineno
            if module == "jaxedge":
                for alias in node.names:
                    yield f"jaxedge.{alias.name}", node.lineno


def imported_by(statement):
    """Modules that a fresh process holds after a statement, and the time."""
    code = (
        "import sys, time; start = time.perf_counter()\n"
        f"{statement}\n"
        "seconds = time.perf_counter() - start\n"
        "import json; print(json.dumps([seconds, sorted(sys.modules)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    seconds, names = json.loads(done.stdout)
    return seconds, {name.split(".")[0] for name in names}


# Imports.


def test_import_is_quick_and_light():
    times = []
    for _ in range(3):
        seconds, names = imported_by("import jaxedge")
        times.append(seconds)
        assert names.isdisjoint(HEAVY)
        if seconds < 1:
            break
    assert min(times) < 1


@pytest.mark.parametrize("pure", PURE)
def test_a_pure_room_loads_jax_alone(pure):
    _, names = imported_by(f"import jaxedge.{pure}")
    heavy = {*HEAVY} - {"jaxlib"}
    # What JAX itself loads is not the room's doing.
    _, of_jax = imported_by("import jax")
    assert names.isdisjoint(heavy - of_jax)


def test_commands_need_no_extra():
    _, names = imported_by("import jaxedge.run.job, jaxedge.run.main")
    # matplotlib loads PIL, scikit-learn and JAX load scipy.
    assert names.isdisjoint({*EXTRAS} - {"PIL", "scipy"})


def test_rooms_load_on_first_use():
    for name in FLOORS:
        module = getattr(jaxedge, name)
        assert isinstance(module, types.ModuleType)
        assert module is importlib.import_module(f"jaxedge.{name}")
    assert {*FLOORS} <= {*dir(jaxedge)}
    with pytest.raises(AttributeError, match="'hardwear'"):
        _ = jaxedge.hardwear


def test_the_version_is_that_of_the_package():
    import importlib.metadata

    assert jaxedge.__version__ == importlib.metadata.version("jaxedge")
    assert (PACKAGE / "py.typed").is_file()


# Rooms.


def test_every_room_has_its_floor():
    rooms = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()}
    assert rooms == {*FLOORS, *APPLICATIONS}


@pytest.mark.parametrize("name", [*FLOORS, *APPLICATIONS])
def test_a_room_imports_from_below(name):
    floors = FLOORS | APPLICATIONS
    wrong = []
    for path in (PACKAGE / name).rglob("*.py"):
        for module, line in imports(path):
            parts = module.split(".")
            if parts[0] != "jaxedge" or len(parts) == 1:
                continue
            other = parts[1]
            if other != name and floors[other] >= floors[name]:
                wrong.append(f"{path.name}:{line} imports {module}")
    assert wrong == []


@pytest.mark.parametrize("name", PURE)
def test_a_pure_room_knows_jax_numpy_and_scipy_alone(name):
    known = {"jax", "numpy", "scipy", "jaxedge", *sys.stdlib_module_names}
    known |= {"cv2", "librosa"} if name == "features" else set()  # On the host.
    wrong = [
        f"{path.name}:{line} imports {module}"
        for path in (PACKAGE / name).rglob("*.py")
        for module, line in imports(path)
        if module.split(".")[0] not in known
    ]
    assert wrong == []


def test_extras_are_imported_where_they_are_used():
    """Never at the head of a file, where every user would need them."""
    wrong = []
    for path in FILES:
        if room(path) in APPLICATIONS:  # Itself an extra.
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [str(node.module)]
            for name in names:
                if name.split(".")[0] in EXTRAS:
                    wrong.append(f"{path.name}:{node.lineno} imports {name}")
    assert wrong == []


# Habits.


@pytest.mark.parametrize("name", ["recipes", "run"])
def test_configs_have_no_hidden_defaults(name):
    """`.get(` on a config turns a typo into a default."""
    pattern = re.compile(r"\b(config|cfg|c|given|section)\.get\(")
    wrong = [
        f"{path.name}: {line.strip()}"
        for path in (PACKAGE / name).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if pattern.search(line)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "path", FILES, ids=[str(p.relative_to(PACKAGE)) for p in FILES]
)
def test_public_names_have_docstrings(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    bare = [
        node.name
        for node in tree.body
        if isinstance(node, kinds)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert ast.get_docstring(tree), "the module has no docstring"
    assert bare == []


@pytest.mark.parametrize("name", FLOORS)
def test_a_room_exports_what_it_has(name):
    module = importlib.import_module(f"jaxedge.{name}")
    assert module.__doc__
    exported = getattr(module, "__all__", ())
    assert len({*exported}) == len(exported)
    for public in exported:
        value = getattr(module, public)
        if callable(value) or isinstance(value, types.ModuleType):
            assert value.__doc__, f"{public} has no docstring"
