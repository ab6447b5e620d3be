"""Tests of `jaxedge export`: what is written is what other readers find."""

import csv
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import hardware
from jaxedge.core.checks import UsageError
from jaxedge.hardware import crossbar, devices, weights
from jaxedge.models import arrays
from jaxedge.run import exports, main, workdir
from jaxedge.run.exports import cells, folder, pulses, sheets, source

h5py = pytest.importorskip("h5py")
safetensors = pytest.importorskip("safetensors")
pytest.importorskip("safetensors.numpy")
pytest.importorskip("flatbuffers")

pytestmark = pytest.mark.usefixtures("compile_quickly")

ROOT = Path(__file__).resolve().parents[2]
# Small tiles, so that there are several of a layer.
MLP = (
    f"--config={ROOT}/configs/edge_pruning.py:quick",
    "--config.model.widths=(16,)",
    "--config.hardware.rows=48",
    "--config.hardware.columns=24",
    "--config.chips.n=3",
)
CNN = (
    f"--config={ROOT}/configs/matrix.py:model=cnn,size=small,"
    "hardware=rram_analogue",
    "--config.hardware.input_bits=6",
    "--config.hardware.input_percentile=99.0",
    "--config.hardware.adc_bits=8",
    "--config.hardware.adc_percentile=99.0",
    "--config.chips.n=2",
    "--config.chips.batch=20",
)


def is_mask(node):
    return isinstance(node, hardware.MaskedRandom)


def rolled(node):
    """Another mask than training began with."""
    if not is_mask(node):
        return node
    return hardware.MaskedRandom(node.weights, jnp.roll(node.mask, 1))


def finished(job, place):
    """A workdir as a run of no epoch leaves it, but for other masks."""
    begun = source.start(source.Source(place, job, None, {}, ""))
    variables = jax.tree.map(rolled, begun, is_leaf=is_mask)
    workdir.create(place, job.config)
    arrays.save(place / arrays.FILE, variables)
    summary = {"metrics": {"test_accuracy": 0.25}, "versions": {"jax": "1"}}
    workdir.write_json(place / "summary.json", summary)
    return variables


@pytest.fixture(scope="module")
def mlp(resolve, tmp_path_factory):
    """Job, workdir and variables of a network with masks."""
    place = tmp_path_factory.mktemp("mlp") / "run"
    job = resolve(*MLP)
    return job, place, finished(job, place)


@pytest.fixture(scope="module")
def out(mlp, tmp_path_factory):
    """All of its second chip; do not write here."""
    place = tmp_path_factory.mktemp("out") / "export"
    flags = [f"--workdir={mlp[1]}", f"--out={place}", "--chip=1"]
    assert main.console(["export", *flags]) == 0
    return place


@pytest.fixture(scope="module")
def chip(mlp):
    """Variables of that chip."""
    return source.chip(source.opened(mlp[1]), 1)


def equal(a, b):
    same = jax.tree.map(np.array_equal, a, b)
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert all(jax.tree.leaves(same)), same


# Programs.


def test_a_program_is_the_network_at_any_batch(mlp, out):
    job, _, variables = mlp
    run = exports.load(out / "network.stablehlo")
    forward = jax.jit(job.recipe.forward)
    for n in (1, 6):
        x = job.splits["test"].x[:n]
        np.testing.assert_array_equal(run(x), forward(variables, x))
    with pytest.raises(UsageError, match="takes no key"):
        run(x, jax.random.key(0))


def test_a_program_of_a_chip_keeps_its_noise(mlp, out, chip):
    job, x = mlp[0], mlp[0].splits["test"].x[:3]
    run = exports.load(out / "chip1.stablehlo")
    forward = jax.jit(job.recipe.forward)
    first, second = jax.random.split(jax.random.key(7))
    np.testing.assert_array_equal(run(x, first), forward(chip, x, first))
    assert np.any(run(x, first) != run(x, second))
    with pytest.raises(UsageError, match="give key=jax.random.key"):
        run(x)
    listed = json.loads((out / folder.FILE).read_text("utf-8"))
    facts = listed["files"]["chip1.stablehlo"]
    assert facts["platforms"] == ["cpu", "cuda", "tpu"]
    assert facts["largest_difference"] == 0 and facts["noise"]


@pytest.mark.slow
def test_a_program_without_noise_of_a_network_of_convolutions(
    resolve, tmp_path, capsys
):
    job, place = resolve(*CNN), tmp_path / "run"
    finished(job, place)
    flags = ["--chip=1", "--noise=none", "--platforms=cpu"]
    flags += [f"--workdir={place}", f"--out={tmp_path / 'out'}"]
    assert main.console(["export", *flags, "--as=stablehlo,safetensors"]) == 0
    assert "equal to the last bit" in capsys.readouterr().out
    # With the ranges that the chip has set its converters to.
    path = tmp_path / "out/chip1.safetensors"
    settled = exports.load_variables(path)
    run = exports.load(tmp_path / "out/chip1.stablehlo")
    x = job.splits["test"].x[:2]
    forward = jax.jit(job.recipe.forward)
    np.testing.assert_array_equal(run(x), forward(settled, x))
    stored = safetensors.numpy.load_file(path)
    limit = stored["params/Dense_0/kernel/spec/adc_limit"]
    assert limit.size and (limit > 0).all()


# Arrays.


def test_safetensors_hold_the_network_and_its_story(mlp, out):
    path = out / "network.safetensors"
    stored = safetensors.numpy.load_file(path)
    with np.load(mlp[1] / arrays.FILE) as file:
        assert {*stored} == {*file.files}
        for name in file.files:
            np.testing.assert_array_equal(stored[name], file[name])
    with safetensors.safe_open(path, "np") as file:
        told = {k: json.loads(v) for k, v in file.metadata().items()}
    assert told["metrics"]["test_accuracy"] == 0.25
    assert told["data"]["name"] == "digits" and told["network"]["name"] == "mlp"
    equal(exports.load_variables(path), mlp[2])


def test_safetensors_hold_an_equal_chip(mlp, out, chip):
    path = out / "chip1.safetensors"
    again = exports.load_variables(path)
    equal(again, chip)
    x = jnp.asarray(mlp[0].splits["test"].x[:2])
    key = jax.random.key(3)
    forward = mlp[0].recipe.forward
    np.testing.assert_array_equal(forward(again, x, key), forward(chip, x, key))
    stored = safetensors.numpy.load_file(path)
    leaf = chip["params"]["Dense_0"]["kernel"]
    np.testing.assert_array_equal(
        stored["conductance_S/Dense_0/kernel"], leaf.conductance()
    )
    assert stored["target_S/Dense_0/kernel"].shape == (1, 2, 64, 16)


# Cells.


def by_hand(path, which="conductance_S"):
    """Effective weights of a layer from its CSV files alone, float64 [I, O]."""
    noted = json.loads((path / "design.json").read_text("utf-8"))
    design = noted["design"]
    laid = design["layout"]
    weight = np.zeros((laid["inputs"], laid["outputs"]))
    count = 0
    for tile in noted["tiles"]:
        with (path / f"{tile}.csv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                power = design["powers"][int(row.get("slice", 0))]
                siemens = float(row[which]) * int(row["sign"])
                weight[int(row["input"]), int(row["output"])] += power * siemens
                assert int(row["row"]) < design["spec"]["rows"]
                assert int(row["column"]) < design["spec"]["columns"]
                count += 1
    assert count == np.prod(list(laid.values())[:4])
    scale = np.asarray(design["weight_per_siemens"])
    return scale * (weight - design["origin_S"])


def test_conductances_times_volts_are_the_product_of_the_chip(out, chip):
    rng = np.random.default_rng(0)
    for name, inputs in (("Dense_0", 64), ("Dense_1", 16)):
        x = rng.standard_normal((5, inputs)).astype(np.float32)
        wanted = x.astype(np.float64) @ by_hand(
            out / f"chip1.cells/{name}.kernel"
        )
        y = hardware.dot(jnp.asarray(x), chip["params"][name]["kernel"])
        # Sums of 64 products in float32.
        np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)


def test_csv_and_hdf5_read_back_equal(out):
    from_csv = exports.read_cells(out / "chip1.cells")
    from_hdf5 = exports.read_cells(out / "chip1.h5")
    assert {*from_csv} == {*from_hdf5} == {"Dense_0/kernel", "Dense_1/kernel"}
    for name, layer in from_csv.items():
        other = from_hdf5[name]
        assert layer.design == other.design
        for tile, maps in layer.tiles.items():
            for key, values in maps.items():
                found = other.tiles[tile][key]
                assert values.dtype == found.dtype
                np.testing.assert_array_equal(values, found)
        for key in pulses.COLUMNS:
            np.testing.assert_array_equal(
                layer.programme[key], other.programme[key]
            )
    # 64 inputs on 48 rows, 32 cells on 24 columns.
    assert len(from_csv["Dense_0/kernel"].tiles) == 4
    with h5py.File(out / "chip1.h5") as file:
        data = file["Dense_0.kernel/tiles/tile_0_0/conductance_S"]
        assert data.attrs["units"] == "siemens" and data.shape == (48, 24)


def test_a_programme_brings_the_first_mask_and_then_the_learned_one(mlp, out):
    job, _, variables = mlp
    layer = exports.read_cells(out / "chip1.h5")["Dense_0/kernel"]
    start = source.start(source.Source(Path(), job, None, {}, ""))
    early = np.asarray(start["params"]["Dense_0"]["kernel"].mask)
    leaf = variables["params"]["Dense_0"]["kernel"]
    late, weight = np.asarray(leaf.mask), np.asarray(leaf.weights)
    high = {}  # Cells by place, as an instrument leaves them.
    told = layer.programme
    for stage, mask in (("initial", early), ("learned", late)):
        count = 0
        for place in np.flatnonzero(told["stage"] == stage):
            where = told["tile"][place], told["row"][place]
            where += (told["column"][place],)
            assert told["operation"][place] in ("set", "reset")
            new = told["operation"][place] == "set"
            if stage == "learned":  # Only what changes is touched.
                assert high[where] != new
            high[where] = new
            count += 1
        assert count == (2 * mask.size if stage == "initial" else (
            # Of a pair one cell is low whatever the mask.
            np.sum(early != late)
        ))  # fmt: skip
        for (tile, row, column), found in high.items():
            maps = layer.tiles[tile]
            i, o = maps["input"][row, column], maps["output"][row, column]
            sign = maps["sign"][row, column]
            assert found == (mask[i, o] > 0 and weight[i, o] * sign > 0)
    kept = layer.tiles["tile_0_0"]["kept"]
    np.testing.assert_array_equal(kept[:, ::2], late[:48, :12])


@pytest.mark.parametrize("pair", ["interleaved", "separate", "offset"])
def test_every_layout_tells_its_weights(tmp_path, pair):
    spec = crossbar.Spec(
        devices.get("pcm_nandakumar2019"), rows=20, columns=8, rows_on=6,
        pair=pair, weight_bits=7, slice_bits=3, packing="kernel",
    )  # fmt: skip
    w = jax.random.normal(jax.random.key(1), (2, 2, 9, 3))
    leaf = jax.jit(weights.program)(jax.random.key(0), w, spec)
    layer = cells.layer(leaf, w)
    out = tmp_path / "out"
    folder.prepare(out, "x")
    folder.note(out, {}, sheets.write_csv(out / "chip", {"a/b": layer}))
    found = by_hand(out / "chip/a.b")
    np.testing.assert_allclose(
        found.reshape(w.shape), leaf.weights(), rtol=1e-4, atol=1e-5
    )
    again = sheets.read(out / "chip")["a/b"]
    for tile, maps in layer.tiles.items():
        for key, values in maps.items():
            np.testing.assert_array_equal(again.tiles[tile][key], values)
    # 7 bits have 63 levels a sign, the highest for the largest weight.
    step = np.abs(w).max() / 63
    np.testing.assert_allclose(
        by_hand(out / "chip/a.b", "target_S").reshape(w.shape),
        np.round(w / step) * step,
        atol=1e-5,
    )


# What is wrong.


def fails(capsys, *flags):
    assert main.console(["export", *flags]) == 2
    captured = capsys.readouterr().err
    assert captured.count("\n") == 1
    return captured


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--as=stablehol"], "stablehlo"),
        (["--as=onnx"], "scripts/export_onnx"),
        (["--noise=some"], "--noise"),
        (["--platforms=gpu"], "cuda"),
        (["--platforms="], "names none"),
        (["--chip=-1"], "--chip is -1"),
        (["--batch=0"], "--batch is 0"),
        (["--tolerance=0"], "--tolerance"),
        (["--chip=one"], "chip"),
        (["--chips=1"], "chips"),
        (["stray"], "'stray' is no flag"),
        (["--out="], "no --out"),
        (["--workdir="], "no --workdir"),
    ],
)
def test_a_mistake_is_one_line(capsys, tmp_path, flags, words):
    given = [f"--workdir={tmp_path}", f"--out={tmp_path / 'out'}"]
    assert words in fails(capsys, *given, *flags)
    assert not (tmp_path / "out").exists()


def test_a_run_that_is_not_finished(capsys, tmp_path, mlp):
    out = f"--out={tmp_path / 'out'}"

    def said(place):
        return fails(capsys, f"--workdir={place}", out)

    assert "there is no run" in said(tmp_path / "nothing")
    place = tmp_path / "run"
    workdir.create(place, mlp[0].config)
    assert "not finished" in said(place)
    (place / arrays.FILE).write_bytes((mlp[1] / arrays.FILE).read_bytes())
    assert "summary.json is missing" in said(place)
    workdir.write_json(place / "summary.json", {})
    damaged = bytearray((mlp[1] / arrays.FILE).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (place / arrays.FILE).write_bytes(damaged)
    assert "damaged" in said(place)
    with np.load(mlp[1] / arrays.FILE) as file:
        known = {name: file[name] for name in file.files}
    del known["params/Dense_0/kernel/mask"]
    np.savez(place / arrays.FILE, **known)
    assert "params/Dense_0/kernel/mask is missing" in said(place)
    assert not (tmp_path / "out").exists()


def test_a_chip_that_the_study_does_not_have(capsys, tmp_path, mlp):
    out = tmp_path / "out"
    flags = [f"--workdir={mlp[1]}", f"--out={out}", "--chip=3"]
    assert "3 chips, 0 to 2" in fails(capsys, *flags)
    assert not out.exists()


def test_a_folder_that_is_no_export(capsys, tmp_path, mlp):
    def said(place):
        return fails(capsys, f"--workdir={mlp[1]}", f"--out={place}")

    (tmp_path / "file").touch()
    assert "is a file" in said(tmp_path / "file")
    assert "it is no export" in said(tmp_path)
    other = tmp_path / "other"
    folder.prepare(other, "another")
    folder.note(other, {"run": "another"}, {})
    assert "another network" in said(other)


@pytest.mark.parametrize(
    "name, read",
    [
        ("chip1.stablehlo", exports.load),
        ("chip1.stablehlo.npz", lambda p: exports.load(p.with_suffix(""))),
        ("chip1.safetensors", exports.load_variables),
        ("chip1.h5", exports.read_cells),
        ("chip1.cells/Dense_0.kernel/tile_0_0.csv", None),
        ("chip1.cells/Dense_0.kernel/programme.csv", None),
        ("chip1.cells/Dense_0.kernel/design.json", None),
    ],
)
def test_a_damaged_file_is_named(out, tmp_path, name, read):
    copy = tmp_path / "copy"
    parts = ["export.json", name]
    if read is exports.load or name.endswith(".npz"):
        parts += ["chip1.stablehlo", "chip1.stablehlo.npz"]
    if read is None:
        within = out / "chip1.cells"
        parts += [p.relative_to(out) for p in within.rglob("*.*")
                  if p.is_file()]  # fmt: skip
    for part in {*map(Path, parts)}:
        (copy / part).parent.mkdir(parents=True, exist_ok=True)
        (copy / part).write_bytes((out / part).read_bytes())
    path = copy / name
    open_it = read or (lambda p: exports.read_cells(copy / "chip1.cells"))
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content, words in ((flipped, "checksum"), (whole[:-3], "bytes of")):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=words) as error:
            open_it(path)
        assert path.name in str(error.value)
    path.unlink()
    with pytest.raises(UsageError):
        open_it(path)
    (copy / folder.FILE).unlink()
    path.write_bytes(whole)
    with pytest.raises(UsageError, match="export.json"):
        open_it(path)
