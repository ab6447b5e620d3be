"""A whole run on in-SRAM macros, and what its report says of them."""

import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import hardware
from jaxedge.core import checks
from jaxedge.hardware import energy, sram
from jaxedge.run import job, macros

pytestmark = pytest.mark.usefixtures("compile_quickly")

ROOT = Path(__file__).resolve().parents[2]
FLAGS = (
    f"--config={ROOT}/configs/sram.py:quick",
    "--config.model.widths=(16,)",
    "--config.train.epochs=2",
    "--config.chips.n=6",
    "--config.chips.sweep=3",
    "--config.chips.sigma=(0.0,4.0)",
    "--config.chips.chunk=6",
    "--config.energy.macro_share=0.5",
)


@pytest.fixture(scope="module")
def finished(resolve, tmp_path_factory):
    """A job and its workdir."""
    one = resolve(*FLAGS)
    folder = tmp_path_factory.mktemp("macros") / "run"
    job.run(one, folder)
    return one, folder


@pytest.mark.slow
def test_a_run_on_macros(finished):
    resolved, folder = finished
    summary = json.loads((folder / "summary.json").read_text())
    assert isinstance(resolved.spec, sram.Spec)
    assert summary["chips"]["score_mean"] > 0.8
    # Four times all errors are worse than none.
    none, large = summary["sweeps"]["sigma"]["score_mean"]
    assert none > large
    layers = summary["macros"]
    assert list(layers) == ["Dense_0", "Dense_1"]
    for row, priced in zip(
        layers.values(), summary["energy"]["layers"], strict=True
    ):
        assert row["clipped"] <= 2e-3
        # Half of a conversion is drawn by its lines, in proportion to their
        # drop (sram_cim 5.3).
        each = 128 / 137.5e12 * (0.5 + 0.5 * row["drop"] / 0.25)
        want = priced["conversions"] * each
        np.testing.assert_allclose(priced["joules_array"], want, rtol=1e-5)
    page = (folder / "report.html").read_text("utf-8")
    assert "<h2>Macros</h2>" in page and "One chip's cells" not in page
    assert "of the largest INL" in page and "Folding point" in page


@pytest.mark.slow
def test_layers_are_those_of_a_chip_that_has_set_its_ranges(finished):
    resolved, folder = finished
    summary = json.loads((folder / "summary.json").read_text())
    state = job.train(resolved, folder)
    variables = resolved.recipe.finish(state)
    chip = job.one_chip(resolved, variables)
    x = jnp.asarray(resolved.samples).reshape(len(resolved.samples), -1)
    # By hand: the first layer sees the samples.
    leaf = chip["Dense_0"]["kernel"]
    limits = hardware.converters.calibrate(x, 4, 100.0)
    spec = jax.tree.map(lambda a: a, leaf.spec)
    spec = hardware.sram.Spec(spec.config, input_range=limits)
    leaf = sram.SramMacro(leaf.columns, leaf.scale, spec, leaf.shape)
    codes = np.asarray(leaf.inputs(x)[0])
    best = sram.choose(codes, leaf.columns.codes[0], spec.config, 1e-3)
    row = summary["macros"]["Dense_0"]
    assert row["fold"] == best.fold and row["lsb_units"] == best.lsb_units
    # The ideal weights and the chip's cells differ by 3 %.
    np.testing.assert_allclose(row["drop"], best.line, rtol=0.02)


def test_a_network_that_cannot_be_looked_at_has_no_drops():
    class Twice(NamedTuple):
        """A recurrent network, whose product stands inside a scan."""

        def forward(self, variables, x):
            def step(h, _):
                return hardware.dot(h, variables["params"]["a"]["w"]), None

            return jax.lax.scan(step, x, None, 2)[0]

    leaf = sram.Spec().program(jax.random.key(0), jnp.ones((3, 3)))
    variables = {"params": {"a": {"w": leaf}}}
    rows = macros.layers(Twice(), variables, jnp.ones((2, 3)))  # type: ignore
    assert rows["a"] == {
        "fold": 8, "lsb_units": 14, "clipped": None, "drop": None
    }  # fmt: skip
    assert macros.drops(rows) == {}


def test_what_layers_choose_is_not_swept(resolve):
    with pytest.raises(checks.UsageError, match="sweeps fold.*clip_rate=None"):
        resolve(*FLAGS, "--config.study=fold=0,4")
    free = "--config.hardware.macro.clip_rate=None"
    (sweep,) = resolve(*FLAGS, free, "--config.study=fold=0,4").swept
    assert sweep.levels == (0, 4)


def test_other_hardware_has_no_such_part(resolve, small):
    resolved = resolve(*small)
    variables = resolved.recipe.finish(
        jax.jit(resolved.recipe.init)(jax.random.key(0))
    )
    first = {**variables, "params": job.one_chip(resolved, variables)}
    assert macros.layers(resolved.recipe, first, resolved.samples[:2]) == {}
    assert macros.section({}, {}) == ""


def test_the_population_is_told_in_words_and_drawn():
    rng = np.random.default_rng(0)
    inl, dnl = rng.normal(size=(2, 40, 16))
    found = {
        "max_inl": abs(inl).max(1),
        "max_dnl": abs(dnl).max(1),
        "missing": np.array([0.0] * 30 + [2.0] * 10),
        "one_sigma": np.full(40, 0.9),
        "one_sigma_percent": np.full(40, 0.35),
    }
    said = macros.caption(found)
    middle, high = np.quantile(found["max_inl"], [0.5, 0.95])
    assert f"{middle:.2f} (19 of 20 columns below {high:.2f})" in said
    assert "0.5 codes a column" in said and "0.35 % of full scale" in said
    figure = macros.picture(np.arange(-8, 8), inl, dnl)
    line = figure.axes[0].get_lines()[0]
    np.testing.assert_array_equal(line.get_ydata(), inl[0])
    with pytest.raises(checks.UsageError, match="INL has shape .40, 16."):
        macros.picture(np.arange(5), inl, dnl)
    with pytest.raises(checks.UsageError, match="DNL"):
        macros.picture(np.arange(16), inl[:, :16], dnl * np.nan)


def test_the_energy_of_a_layer_takes_its_drop():
    leaf = sram.Spec().program(jax.random.key(0), jnp.ones((4, 3)))
    costs = energy.Costs(macro_share=0.4, macro_drop=0.2)
    low, high = (energy.layer("a", leaf, 1, costs, d) for d in (0.1, 0.3))
    ratio = high.joules_array / low.joules_array
    np.testing.assert_allclose(ratio, (0.6 + 0.6) / (0.6 + 0.2), rtol=1e-6)
