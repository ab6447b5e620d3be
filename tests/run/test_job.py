"""Tests of a whole run: what it leaves, and that its figures agree."""

import functools
import json
from pathlib import Path
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import data, hardware, models
from jaxedge.core import checks
from jaxedge.core.keys import chip_keys, stream
from jaxedge.models import checkpoints
from jaxedge.run import cells, job, loop, main, metrics, workdir
from jaxedge.run.study import Study

pytestmark = pytest.mark.usefixtures("compile_quickly")

ROOT = Path(__file__).resolve().parents[2]


def read(folder):
    return json.loads((folder / "summary.json").read_text())


def arrays(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def of_chips(resolved, n):
    """The job with a study of n chips, whose programs are the same."""
    chips = {**resolved.config["chips"], "n": n}
    return resolved._replace(
        config={**resolved.config, "chips": chips},
        chips=resolved.chips._replace(n=n),
    )


def without_times(summary):
    """All figures but the times of this machine."""
    chips = {**summary["chips"], "chips_per_second": None}
    return {**summary, "chips": chips, "seconds": None}


@pytest.fixture(scope="module")
def summary(trained):
    return read(trained)


@pytest.fixture(scope="module")
def study(trained):
    return arrays(trained / "study.npz")


# What is there.


def test_a_run_leaves_its_files(trained):
    names = {path.name for path in trained.iterdir()}
    assert names == {
        "config.json", "metrics.jsonl", "tensorboard", "checkpoints",
        "study.npz", "studies", "pictures.npz", "summary.json", "report.html",
        "network.npz",
    }  # fmt: skip
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") + page.count("data:image") >= 5


def test_a_summary_has_the_promised_keys(summary):
    assert set(summary) == {
        "config", "metrics", "study", "score", "chips", "sweeps", "energy",
        "seconds", "versions",
    }  # fmt: skip
    assert {"test_accuracy", "valid_accuracy"} <= set(summary["metrics"])
    assert set(summary["chips"]) == {
        "n", "score_mean", "score_mean_low", "score_mean_high",
        "score_std", "score_p05", "score_p95", "score_min",
        "yield", "yield_low", "yield_high", "threshold", "confidence",
        "chips_per_second", "images",
    }  # fmt: skip
    assert {"train", "test", "chips"} <= set(summary["seconds"])
    assert all(value >= 0 for value in summary["seconds"].values())
    assert {"jaxedge", "jax", "numpy"} <= set(summary["versions"])
    assert summary["versions"]["jax"] == jax.__version__


def test_a_summary_is_json_for_any_reader(trained):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    text = (trained / "summary.json").read_text()
    json.loads(text, parse_constant=refuse)


def test_the_config_is_kept(trained, summary):
    config = json.loads((trained / "config.json").read_text())
    assert summary["config"] == config
    assert config["train"]["epochs"] == 3
    assert config["model"]["widths"] == [16]


# Figures agree.


def test_chips_are_those_of_the_study(summary, study):
    accuracy = study["score"].astype(np.float64)
    chips = summary["chips"]
    assert chips["n"] == accuracy.size == 12
    assert chips["threshold"] == 0.8
    assert chips["score_mean"] == pytest.approx(accuracy.mean())
    assert chips["score_std"] == pytest.approx(accuracy.std(), rel=1e-4)
    assert chips["score_min"] == pytest.approx(accuracy.min())
    p05 = np.percentile(accuracy, 5)
    assert chips["score_p05"] == pytest.approx(p05)
    # Half an example below the threshold: float32 is no reason to fail.
    good = accuracy >= 0.8 - 0.5 / 360
    assert chips["yield"] == pytest.approx(good.mean())
    assert chips["chips_per_second"] > 0


def test_sweeps_are_those_of_the_study(summary, study):
    assert list(summary["sweeps"]) == ["read_noise", "fault"]
    for name, found in summary["sweeps"].items():
        accuracy = study[f"{name}_score"]
        assert found["levels"] == study[f"{name}_levels"].tolist()
        np.testing.assert_allclose(found["score_mean"], accuracy.mean(1))
        good = (accuracy >= 0.8 - 0.5 / 360).mean(1)
        np.testing.assert_allclose(found["yield"], good)


def test_accuracies_are_shares_of_the_test_set(summary, study):
    # Digits have 360 test examples.
    for name in ("score", "read_noise_score", "fault_score"):
        right = study[name] * 360
        np.testing.assert_allclose(right, np.round(right), atol=1e-3)
        assert (study[name] >= 0).all() and (study[name] <= 1).all()
    right = summary["metrics"]["test_accuracy"] * 360
    assert right == pytest.approx(round(right), abs=1e-3)


def test_the_level_of_the_config_has_the_same_chips(study):
    # Read noise .02, and .1 % of cells stuck either way, are the config's.
    first = study["score"][:4]
    np.testing.assert_array_equal(study["read_noise_score"][1], first)
    np.testing.assert_array_equal(study["fault_score"][0], first)
    assert study["read_noise_score"][2].mean() < first.mean()
    assert study["fault_score"][1].mean() < first.mean()


def test_the_network_is_that_of_the_best_epoch(trained, summary):
    rows = metrics.read(trained / "metrics.jsonl")
    valid = [row["accuracy"] for row in rows if row["phase"] == "valid"]
    assert len(valid) == 3
    assert summary["metrics"]["valid_accuracy"] == pytest.approx(max(valid))
    # Far better than chance (.1) after three epochs.
    assert summary["metrics"]["test_accuracy"] > 0.6


def test_the_energy_of_layers_adds_up(summary):
    energy = summary["energy"]
    layers = energy["layers"]
    sizes = {(r["name"], r["rows"], r["cols"], r["cells"]) for r in layers}
    # 64 pixels to 16 to 10, a pair of cells a weight.
    assert sizes == {
        ("Dense_0", 64, 16, 2 * 64 * 16), ("Dense_1", 16, 10, 2 * 16 * 10),
    }  # fmt: skip
    for name in ("joules", "joules_digital"):
        total = energy["joules_hardware" if name == "joules" else name]
        assert sum(row[name] for row in layers) == pytest.approx(total)
    for row in layers:
        parts = ("array", "adc", "dac", "digital")
        total = sum(row[f"joules_{part}"] for part in parts)
        assert row["joules"] == pytest.approx(total) and total > 0


def test_training_takes_what_its_passes_take(summary):
    """All layers learn: 2 (first) and 4 operations a product, by hand."""
    first, second = 64 * 16, 16 * 10
    assert summary["energy"]["training"] == {
        "forward": first + second,
        "backward": 2 * first + 4 * second,
        "update": 2 * (first + second),
        "backpropagation": 5 * first + 7 * second,
    }


def test_pictures_show_the_first_chip(trained, resolve, small):
    pictures = arrays(trained / "pictures.npz")
    assert pictures["sparsity_names"].tolist() == ["Dense_0", "Dense_1"]
    np.testing.assert_allclose(pictures["sparsity_kept"], 0.5, atol=1e-3)
    first = pictures["conductance/Dense_0"]
    assert first.shape == (64, 32) and first.dtype == np.float32
    # Random resistive memory: tens of microsiemens, half the pairs kept.
    assert first.min() >= 0 and 2e-5 < first.max() < 1e-4
    assert 0.2 < (first > 1e-5).mean() < 0.3


def test_answers_are_those_of_the_test_and_of_the_study(
    trained, summary, study
):
    pictures = arrays(trained / "pictures.npz")
    ideal, chip = (pictures[f"confusion/{p}"] for p in ("ideal", "chip"))
    assert pictures["classes"].tolist() == [str(digit) for digit in range(10)]
    digits = np.bincount(data.load("digits", "test").y, minlength=10)
    np.testing.assert_array_equal(ideal.sum(1), digits)
    np.testing.assert_array_equal(chip.sum(1), digits)
    right = summary["metrics"]["test_accuracy"] * 360
    assert np.trace(ideal) == pytest.approx(right, abs=1e-3)
    # A program of its own may round a tie another way.
    right = float(study["score"][0]) * 360
    assert np.trace(chip) == pytest.approx(right, abs=1.001)
    assert summary["seconds"]["pictures"] > 0
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert "On the first chip" in page and "Confusion matrix" in page


def test_the_pictured_chip_is_the_first_of_the_study(resolve, small):
    resolved = resolve(*small)
    variables = {"params": {"a": {"kernel": jnp.ones((3, 2))}}}
    chip = job.one_chip(resolved, variables)
    keys = chip_keys(stream(stream(resolved.key, "study"), "chips"), 12)
    expected = jax.jit(hardware.deploy)(
        stream(keys[0], "chip"), variables["params"], resolved.spec
    )
    jax.tree.map(np.testing.assert_array_equal, chip, expected)


@pytest.mark.slow
def test_learned_ranges_reach_the_report_and_further_studies(
    tmp_path, resolve, small
):
    flags = (
        *small,
        "--config.train.epochs=1",
        "--config.train.hardware=fresh_chips",
        "--config.train.input_ranges=true",
        "--config.hardware.input_bits=4",
        "--config.chips.sweep=0",
    )
    resolved, folder = resolve(*flags), tmp_path / "run"
    job.run(resolved, folder)
    pictures = arrays(folder / "pictures.npz")
    np.testing.assert_allclose(pictures["sparsity_kept"], 0.5, atol=1e-3)
    state = job.train(resolved, folder)  # Restored.
    start, sizes = state.memory.start, state.learned.sizes
    assert (sizes != 0).all()
    chip = job.one_chip(resolved, resolved.recipe.finish(state))
    for i, layer in enumerate(chip.values()):
        found = layer["kernel"].spec.input_range
        # Neither pixels nor what a ReLU lets through is negative.
        want = np.exp(sizes[i]) * start.hi[i]
        np.testing.assert_allclose(found, [0, want], rtol=1e-5)
    before = arrays(folder / "study.npz")
    job.restudy(of_chips(resolved, 14), folder)
    again = arrays(folder / "study.npz")["score"]
    np.testing.assert_array_equal(again[:12], before["score"])


def test_learned_ranges_are_not_swept(resolve, small):
    flags = (
        *small,
        "--config.train.hardware=fresh_chips",
        "--config.hardware.input_bits=4",
        "--config.study=input_percentile=90,99",
    )
    assert resolve(*flags).swept
    with pytest.raises(checks.UsageError, match="sweeps input_percentile"):
        resolve(*flags, "--config.train.input_ranges=true")


def test_one_chip_is_the_first_of_the_study(resolve, small):
    resolved = resolve(
        *small,
        "--config.train.hardware=one_chip",
        # What a read adds belongs to no chip.
        "--config.hardware.overrides.read_noise=0.0",
    )
    recipe = resolved.recipe
    source = resolved.splits["train"]
    batch = data.Batch(source.x[:60], source.y[:60], np.ones(60, np.float32))
    # The key of the training decides the network and not the chip.
    state = jax.jit(recipe.init)(jax.random.key(7))
    _, sums = jax.jit(recipe.update)(state, batch)
    network = recipe.finish(state)
    chip = job.one_chip(resolved, network)
    forward = functools.partial(
        recipe.forward, train=True, mutable=["batch_stats"]
    )
    logits, _ = jax.jit(forward)({**network, "params": chip}, batch.x)
    logits = np.asarray(logits, np.float64)
    right = logits[np.arange(60), batch.y]
    loss = np.log(np.exp(logits).sum(1)) - right
    np.testing.assert_allclose(sums["loss"], loss.sum(), rtol=1e-4)
    # It chooses the best epoch too, on ideal reads.
    params = jax.jit(recipe.trial)(state)["params"]
    # The same cells, by programs that add in another order.
    # Conductances are about a microsiemens.
    same = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-12)
    jax.tree.map(same, params, chip)
    # And it is told apart from the others.
    result = Study({"score": np.array([0.75, 0.5])}, 1.0)
    assert job._found(resolved, result)["chips"]["trained_chip"] == 0.75
    ideal = job._found(resolve(*small), result)["chips"]
    assert "trained_chip" not in ideal


# Again.


def test_a_second_call_changes_times_only(
    workdir, summary, study, resolve, small, monkeypatch
):
    def refuse(*args, **kwargs):
        raise AssertionError("trained or studied again")

    monkeypatch.setattr(loop, "_check_loss", refuse)
    monkeypatch.setattr("jaxedge.run.study.chip_map", refuse)
    names = ("metrics.jsonl", "config.json")
    kept = {name: (workdir / name).read_bytes() for name in names}
    steps = sorted(path.name for path in (workdir / "checkpoints").iterdir())
    job.run(resolve(*small), workdir)
    after = read(workdir)
    assert without_times(after) == without_times(summary)
    assert kept == {name: (workdir / name).read_bytes() for name in names}
    assert steps == sorted(p.name for p in (workdir / "checkpoints").iterdir())
    jax.tree.map(
        np.testing.assert_array_equal, arrays(workdir / "study.npz"), study
    )
    # Nothing is trained or studied again, and what it took is kept.
    for stage in ("train", "chips"):
        assert after["seconds"][stage] == summary["seconds"][stage]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_figures(
    tmp_path, trained, summary, study, resolve, small
):
    job.run(resolve(*small), tmp_path / "again")
    assert without_times(read(tmp_path / "again")) == without_times(summary)
    again = arrays(tmp_path / "again" / "study.npz")
    assert set(again) == set(study)
    for name in set(study) - {"rate/chips"}:  # a time of this machine
        np.testing.assert_array_equal(again[name], study[name])
    rows = (tmp_path / "again" / "metrics.jsonl").read_bytes()
    assert rows == (trained / "metrics.jsonl").read_bytes()


@pytest.mark.slow
def test_a_study_stopped_in_a_run_goes_on(workdir, summary, resolve, small):
    shutil.rmtree(workdir / "studies")
    (workdir / "study.npz").unlink()
    (workdir / "summary.json").unlink()
    stop = loop.Stop()
    stop.asked = True  # the training is done: it is the study that looks
    with pytest.raises(loop.Preempted, match="after 0 of .* chips"):
        job.run(resolve(*small), workdir, stop)
    assert not (workdir / "summary.json").exists()
    job.run(resolve(*small), workdir)
    assert without_times(read(workdir)) == without_times(summary)


def test_a_stop_before_anything_leaves_a_run_to_go_on(tmp_path, resolve, small):
    stop = loop.Stop()
    stop.asked = True
    with pytest.raises(loop.Preempted, match="step 0"):
        job.run(resolve(*small), tmp_path / "run", stop)
    assert (tmp_path / "run" / "config.json").is_file()
    assert (tmp_path / "run" / "checkpoints" / "0").is_dir()


def test_another_config_is_refused(workdir, resolve, small):
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    changed = resolve(*small, "--config.seed=1")
    for stage in (job.run, job.restudy):
        with pytest.raises(checks.UsageError, match="seed: 0 there, 1 now"):
            stage(changed, workdir)
    assert before == {p: p.stat().st_mtime_ns for p in workdir.rglob("*")}


def test_a_study_needs_a_trained_network(tmp_path, resolve, small):
    with pytest.raises(checks.UsageError, match="holds no run"):
        job.restudy(resolve(*small), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_lost_pictures_and_report_are_made_again(workdir, resolve, small):
    for name in ("pictures.npz", "report.html"):
        (workdir / name).unlink()
    shutil.rmtree(workdir / "tensorboard")
    job.run(resolve(*small), workdir)
    assert (workdir / "report.html").is_file()
    assert (workdir / "pictures.npz").is_file()


# A network that comes trained.


@pytest.fixture
def given(monkeypatch, tmp_path):
    """Flags of a small published network for the digits, with biases."""
    model = models.ResNet(
        10, 8, channels=(2,), mean=(0.5,), std=(0.5,), eps=1e-3
    )
    image = np.zeros((1, 8, 8, 1), np.float32)
    variables = dict(jax.jit(model.init)(jax.random.key(0), image))
    variables.pop("counts")
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
    named = {"/".join(k.key for k in path): leaf for path, leaf in leaves}
    np.savez(tmp_path / "own.npz", **named)
    layout = {name: checkpoints.Entry((name,)) for name in named}
    entry = checkpoints.Checkpoint(
        model, lambda model: layout, (8, 8, 1), "drawn", None
    )
    monkeypatch.setitem(checkpoints.CHECKPOINTS, "small", entry)
    return (
        f"--config={ROOT}/configs/resnet.py:quick",
        "--config.data.name=digits",
        "--config.model.checkpoint=small",
        f"--config.model.path={tmp_path / 'own.npz'}",
    )


@pytest.mark.slow
def test_a_network_is_studied_as_it_was_given(given, resolve, tmp_path):
    folder = tmp_path / "run"
    resolved = resolve(*given)
    job.run(resolved, folder)
    found = read(folder)
    assert found["chips"]["images"] == 40 and found["chips"]["n"] == 2
    right = arrays(folder / "study.npz")["score"] * 40
    np.testing.assert_allclose(right, np.round(right), atol=1e-3)
    # Arrays alone are in the ledger: biases are digital.
    names = [row["name"] for row in found["energy"]["layers"]]
    units = ["Block_0/Unit_0", "Block_0/Unit_1", "Unit_0"]
    assert sorted(names) == sorted([*(f"{u}/Conv_0" for u in units), "Dense_0"])
    assert "Nothing was trained" in (folder / "report.html").read_text("utf-8")
    # There is no training that a new study would have to wait for.
    stop = loop.Stop()
    stop.asked = True
    with pytest.raises(loop.Preempted, match="after 2 of 3 chips"):
        job.restudy(of_chips(resolved, 3), folder, stop)


# Parts.


def test_resolving_creates_nothing(tmp_path, monkeypatch, resolve, small):
    monkeypatch.chdir(tmp_path)
    found = resolve(*small)
    assert list(tmp_path.iterdir()) == []
    assert set(found.splits) == {"train", "valid", "test"}
    assert found.chips.n == 12 and found.given.model.widths == (16,)


def test_json_knows_arrays_and_nan():
    found = workdir.jsonable(
        {
            "a": (jnp.float32(0.5), np.int64(2), float("nan")),
            "b": {"c": np.array(3.0), "d": [float("inf"), None, "x"]},
        }
    )
    assert found == {
        "a": [0.5, 2, None],
        "b": {"c": 3.0, "d": [None, None, "x"]},
    }
    json.dumps(found, allow_nan=False)


def test_pairs_lie_side_by_side():
    positive = np.array([[1, 2], [3, 4], [5, 6]])
    pairs = cells.interleave(np.stack([positive, -positive]))
    assert pairs.tolist() == [[1, -1, 2, -2], [3, -3, 4, -4], [5, -5, 6, -6]]


def test_chips_that_want_more_lessons_than_there_are_train_nothing():
    path = ROOT / "configs" / "deplm.py"
    flags = [f"--config={path}:quick", "--config.learn.chip_examples=1258"]
    config = main.parse([*flags, "--workdir=unused"]).config
    with pytest.raises(checks.UsageError, match="from 1258 examples.*are 1257"):
        job.resolve(config, None)
