"""The matrix: networks, hardware and rules that one line of config joins."""

import importlib
import importlib.util
import json
from pathlib import Path
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import recipes
from jaxedge.core.checks import UsageError
from jaxedge.hardware import devices, digital, sram
from jaxedge.recipes import edge_pruning, settings

pytestmark = pytest.mark.usefixtures("compile_quickly")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def matrix():
    """The module of the config."""
    path = ROOT / "configs" / "matrix.py"
    spec = importlib.util.spec_from_file_location("matrix", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def scripts(monkeypatch):
    """A function from the name of a script to its module."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    monkeypatch.chdir(ROOT)
    yield importlib.import_module
    for name in [name for name in sys.modules if name.startswith("reproduce")]:
        del sys.modules[name]


@pytest.fixture
def smoke(scripts):
    """The module of the script of the matrix."""
    return scripts("reproduce_matrix")


def test_every_combination_is_a_config_of_its_recipe(matrix):
    pairs = {(c["model"], c["learn"]) for c in matrix.combinations()}
    for model, learn in sorted(pairs):
        for size in matrix.SIZES:
            c = matrix.get_config(f"learn={learn},model={model},size={size}")
            module = recipes.get(c.recipe)
            given = module.parse(c)  # Raises for a field out of place.
            on = "fresh_chips" if matrix.LEARN[learn].chips else "ideal"
            if hasattr(given.train, "hardware"):
                assert given.train.hardware == on, (model, learn)
            sections = getattr(module, "sections", lambda c: ())(c)
            known = {*(sections or module.Settings._fields)}
            own = {"recipe", "seed", "study", "chips", "energy"}
            assert {*c} <= known | own, (model, learn)


def test_the_matrix_has_all_networks_rules_and_kinds_of_hardware(matrix):
    own = {network.name for network in matrix.MODELS.values()}
    assert {*settings.NETWORKS} <= own
    learned = {rule.recipe for rule in matrix.LEARN.values()}
    # "pretrained" learns nothing; the others have networks of their own.
    alone = {"language", "ridl", "sequential_gan"}
    assert learned == {*recipes.RECIPES} - alone - {"pretrained"}
    assert alone <= own
    presets = {*devices.PRESETS, *sram.PRESETS, *digital.PRESETS}
    assert {*matrix.HARDWARE.values()} <= presets
    cells = list(matrix.combinations())
    assert len(cells) == len({tuple(c.values()) for c in cells})
    # Nine rules of images for 15 networks and seven of pixels for two, pulses
    # for one, and of networks of their own one rule or two.
    rules = 15 * 9 + 2 * 7 + 1 + 1 + 3 * 2
    assert len(cells) == rules * len(matrix.HARDWARE)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("model=resnet7", "resnet7"),
        ("learn=masks", "masks"),
        ("size=huge", "huge"),
        ("modell=mlp", "modell=mlp"),
        ("mlp", "'mlp'"),
        ("model=", "model="),
        ("model=vit,learn=pulses", "takes weights, chips, mask"),
        ("model=gan,learn=qat", "takes weights, chips"),
        ("model=unet,learn=feal", "learn=feal does not fit model=unet"),
    ],
)
def test_words_that_mean_nothing_are_named(matrix, words, what):
    with pytest.raises(UsageError) as told:
        matrix.get_config(words)
    assert what in str(told.value)


def test_any_preset_goes_by_its_own_name(matrix):
    assert matrix.get_config("hardware=sram").hardware.device == "sram_wang2023"
    c = matrix.get_config("hardware=fp8_e4m3,data=fashion_mnist")
    assert c.hardware.device == "fp8_e4m3" and c.data.name == "fashion_mnist"


def test_cells_are_run_once_and_faults_are_told(smoke, tmp_path, monkeypatch):
    stop = type("Never", (), {"asked": False})()
    monkeypatch.setattr(smoke, "RUN", ("mlp",))
    kept = [("mlp", "mask", "int4"), ("resnet8", "mask", "rram")]
    every = smoke._config_module()
    words = ("model", "learn", "hardware")
    cells = [dict(zip(words, k, strict=True)) for k in kept]
    every.combinations = lambda: iter(cells)
    monkeypatch.setattr(smoke, "_config_module", lambda: every)
    found = smoke.reproduce("matrix", 1, [], tmp_path, stop)["cells"]
    assert [c["level"] for c in found] == ["run", "traced"]
    assert [c["fault"] for c in found] == [None, None]
    assert 0 <= found[0]["score"] <= 1 and found[1]["score"] is None
    page = "\n".join(smoke.page("matrix", {"cells": found}))
    assert "| mlp | 1 of 1 |" in page and "| resnet8 | 1 of 1 t |" in page

    def never(*args, **kwargs):
        raise AssertionError("a finished cell is run again")

    monkeypatch.setattr(smoke, "_row", never)
    again = smoke.reproduce("matrix", 1, [], tmp_path, stop)["cells"]
    assert again == found
    broken = {**found[1], "fault": "UsageError: a | b"}
    page = "\n".join(smoke.page("matrix", {"cells": [found[0], broken]}))
    assert "0 of 1 t" in page and "resnet8, rram, mask" in page


def test_a_comparison_tells_what_the_summaries_do(scripts, tmp_path):
    study = scripts("reproduce_hardware")
    energy = {
        "joules_hardware": 3e-9, "joules_digital": 1e-9,
        "seconds_hardware": 2e-7,
    }  # fmt: skip
    chips = {
        "n": 4, "score_mean": 0.8, "score_std": 0.1, "score_p05": 0.6,
        "yield": 0.5, "threshold": 0.9,
    }  # fmt: skip
    sweeps = {"read_noise": {"levels": [0.0, 0.1], "score_mean": [0.8, 0.7]}}
    found = {"metrics": {"test_accuracy": 0.9}, "chips": chips}
    found |= {"energy": energy, "sweeps": sweeps}
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(found), encoding="utf-8")
    row = study.figures(tmp_path)
    # Digital sums are a part of what the hardware takes.
    assert row["joules"] == 3e-9 and row["latency"] == 2e-7
    row |= {"task": "digits", "hardware": "PCM", "rule": "chips", "seed": 0}
    ideal = row | {"hardware": "ideal", "joules": None, "latency": None}
    lines = study.page("hardware_study", {"runs": [row, ideal]})
    (told,) = [line for line in lines if line.startswith("| PCM")]
    assert "| 80.00 | 10.00 |" in told and "| 3 | 0.2 | - | 70.00 |" in told
    (told,) = [line for line in lines if line.startswith("| ideal")]
    assert "| - | - | - | 70.00 |" in told


def test_runs_elsewhere_are_compared_to_the_bit(scripts, tmp_path):
    devices = scripts("reproduce_devices")
    for name, weight, score in (("a", 2.0, 0.5), ("b", 2.0, 0.5)):
        folder = tmp_path / name
        folder.mkdir()
        w = np.array([weight, -1.0], np.float32)
        np.savez(folder / "network.npz", w=w)
        np.savez(folder / "study.npz", score=np.array([score, 0.25]))
        found = {"metrics": {"test_accuracy": 0.5}, "score": "accuracy"}
        text = json.dumps(found)
        (folder / "summary.json").write_text(text, encoding="utf-8")
    a, b = tmp_path / "a", tmp_path / "b"
    assert devices.compared(a, b)["same"]
    np.savez(b / "network.npz", w=np.array([2.0, -1.5], np.float32))
    found = devices.compared(a, b)
    assert not found["same"] and found["apart"] == 0.25
    np.savez(b / "network.npz", w=np.array([2.0, -1.0], np.float32))
    np.savez(b / "study.npz", score=np.array([0.5, 0.375]))
    found = devices.compared(a, b)
    assert not found["same"]
    assert (found["apart"], found["scores"]) == (0.0, 0.125)


def test_a_mask_leaves_tokens_and_tables_alone():
    # A class token is no matrix, and a table multiplies nothing.
    params = {
        "Dense_0": {"kernel": jnp.ones((4, 6)), "bias": jnp.ones(6)},
        "token": jnp.ones((1, 1, 6)),
        "position_embedding": jnp.ones((5, 6)),
        "Conv_0": {"kernel": jnp.ones((3, 3, 2, 4))},
    }
    learn = edge_pruning.Learn("mask", 0.5, "signed", 0.0, 0.0, 1)
    rule = edge_pruning.mask_rule(learn)
    learned, memory = rule.init(jax.random.key(0), params)
    masked = {
        jax.tree_util.keystr(path)
        for path, _ in jax.tree_util.tree_leaves_with_path(memory.mask)
    }
    assert masked == {"['Dense_0']['kernel']", "['Conv_0']['kernel']"}
    shown = rule.view(learned, memory)
    for name in ("token", "position_embedding"):
        np.testing.assert_array_equal(shown[name], params[name])
    kept = [int(m.sum()) for m in jax.tree.leaves(memory.mask)]
    assert sorted(kept) == [12, 36]  # Half of 24 and of 72.
