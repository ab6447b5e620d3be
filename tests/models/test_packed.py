"""Networks of small numbers on disk: the same codes again, in one step."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.core.trees import map_named
from jaxedge.models import packed, quantized
from jaxedge.models.encoder import Encoder
from jaxedge.models.transformer import Decoder, Stretch
from jaxedge.quantize import fpq, minifloat

library = pytest.importorskip("safetensors.numpy")
SafetensorError = pytest.importorskip("safetensors").SafetensorError

pytestmark = pytest.mark.usefixtures("compile_quickly")

ENCODER = Encoder(11, 32, 16, 1, 2, positions=9)
DECODER = Decoder(
    11, 32, 16, 1, 4, 2,
    theta=500.0, rotary="adjacent", eps=1e-6, head_size=6,
    stretch=Stretch(4.0, 1.0, 4.0, 16), biased=("q", "down"), kv="mxfp4",
)  # fmt: skip
# What a matrix may be: arguments of the search.
HOW = {
    "rows": {},
    "exact activations": {"bits": (4, 16)},
    "8 bits": {"bits": (8, 8)},
    "3 bits": {"bits": (3, 8)},
    "factors": {"method": "smoothquant"},
    "rotation": {"method": "hadamard"},
    "mxfp4": {"grain": "mxfp4"},
    "nvfp4, two formats": {"grain": "nvfp4_searched"},
    "6 bits": {"grain": "mxfp6_e3m2", "bits": (6, 6)},
    "blocks and factors": {"grain": "mxfp4", "method": "awq"},
}


def leaf(inputs=32, outputs=6, **how):
    rng = np.random.default_rng(0)
    w = jnp.asarray(rng.normal(size=(inputs, outputs)), jnp.float32)
    x = jnp.asarray(rng.normal(size=(8, inputs)), jnp.float32)
    return quantized.quantise("w", w, x, **{"method": "minmax", **how})


def drawn(model):
    """Variables by numpy: nothing compiles."""
    rng = np.random.default_rng(1)
    tokens = np.zeros((1, 1), np.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), tokens)
    return {
        "params": jax.tree.map(
            lambda a: rng.normal(size=a.shape).astype(np.float32),
            shapes["params"],
        )
    }


def with_leaf(variables, path, small):
    return map_named(lambda p, a: small if p == path else a, variables)


def same(a, b):
    """The same bits and the same statics."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def content(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A folder with a decoder, what is in it, and its table."""
    variables = drawn(DECODER)
    table = fpq.table(variables["params"]["embedding"], 4, "paper")
    layer = variables["params"]["layer_0"]
    # The library writes arrays that are no rows in memory as they lie there.
    layer["up"]["kernel"] = layer["up"]["kernel"].T.copy().T
    small = with_leaf(
        variables, "params/layer_0/gate/kernel", leaf(32, 16, grain="mxfp4")
    )
    folder = tmp_path_factory.mktemp("packed") / "network"
    note = {"model": "of a test", "seconds": 1.5}
    packed.save(
        folder,
        DECODER,
        small,
        tables={"params/embedding": table},
        note=note,
        files={"words.txt": Path(__file__)},
    )
    return folder, small, table


@pytest.mark.parametrize("how", HOW)
def test_a_matrix_comes_back_bit_for_bit(how, tmp_path):
    want = leaf(**HOW[how])
    path = tmp_path / "a.b.safetensors"
    packed.save_leaf(path, want)
    found = packed.load_leaf(path)
    assert found is not None
    same(found, want)
    assert found.shape == (32, 6)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_kernel_and_shifts_come_back(tmp_path):
    flat = leaf()
    shift = jnp.asarray(np.arange(32) % 4, jnp.int8)
    layer = dataclasses.replace(flat.layer, shift_I=shift)
    want = quantized.Quantized(layer, (2, 4))
    packed.save_leaf(tmp_path / "w.safetensors", want)
    found = packed.load_leaf(tmp_path / "w.safetensors")
    assert found is not None and found.shape == (2, 4, 4, 6)
    same(found, want)


def test_a_decoder_comes_back(network):
    folder, variables, table = network
    found = packed.load(folder)
    assert found.model == DECODER
    assert found.note == {"model": "of a test", "seconds": 1.5}
    want = with_leaf(variables, "params/embedding", table.values)
    same(found.variables, want)
    assert (folder / "words.txt").read_bytes() == Path(__file__).read_bytes()
    assert packed.holds(folder) and not packed.holds(folder.parent)
    assert packed.nbytes(folder) == (folder / packed.TENSORS).stat().st_size
    # The table is on disk as codes, two a byte, and a scale a row.
    tensors = library.load_file(folder / packed.TENSORS)
    assert tensors["params/embedding#codes"].shape == (11, 16)
    assert minifloat.of("E2M1").bits == 4 and "params/embedding" not in tensors
    assert table.nbytes == 11 * (16 + 4)


def test_an_encoder_comes_back(tmp_path):
    small = with_leaf(
        drawn(ENCODER), "params/layer_0/attention/q/kernel", leaf(32, 32)
    )
    found = packed.load(packed.save(tmp_path / "a" / "b", ENCODER, small))
    assert found.model == ENCODER and found.note == {}
    same(found.variables, small)
    (found_leaf,) = quantized.leaves(found.variables)
    assert found_leaf[0] == "params/layer_0/attention/q/kernel"


def test_bytes_on_disk_are_those_of_the_format(tmp_path):
    packed.save_leaf(
        tmp_path / "w.safetensors", leaf(512, 512, grain="mxfp4_searched")
    )
    size = 512 * 512
    tensors = library.load_file(tmp_path / "w.safetensors")
    numbers = tensors["#codes"].nbytes + tensors["#scale"].nbytes
    assert 8 * numbers / size == 4.25
    # And some bytes for each input, and what the file says of itself.
    whole = (tmp_path / "w.safetensors").stat().st_size
    assert whole - numbers < 512 + 1500


@pytest.mark.parametrize("fault", [OSError(28, "full"), SafetensorError("28")])
def test_a_full_disk_leaves_what_was_there(fault, network, monkeypatch):
    folder, variables, _ = network
    before = content(folder)

    def save_file(arrays, path, metadata=None):
        Path(path).write_bytes(b"some")
        raise fault

    monkeypatch.setattr(library, "save_file", save_file)
    with pytest.raises(UsageError, match="cannot be written.*is as it was"):
        packed.save(folder, DECODER, variables)
    with pytest.raises(UsageError, match="cannot be written.*goes on from"):
        packed.save_leaf(folder.parent / "w.safetensors", leaf())
    assert content(folder) == before
    assert [p.name for p in folder.parent.iterdir()] == ["network"]


def test_a_rename_that_fails_is_taken_back(network, monkeypatch):
    folder, variables, _ = network
    before, rename = content(folder), Path.rename

    def once(self, target):
        if self.name.endswith(".new"):
            raise OSError(28, "full")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", once)
    with pytest.raises(UsageError, match="is as it was"):
        packed.save(folder, DECODER, variables)
    assert content(folder) == before
    assert [p.name for p in folder.parent.iterdir()] == ["network"]


def test_a_kill_between_the_renames_is_mended(tmp_path):
    folder = packed.save(tmp_path / "out", ENCODER, drawn(ENCODER))
    before = content(folder)
    folder.rename(tmp_path / ".out.old")
    (tmp_path / ".out.new").mkdir()
    packed.check_target(folder)
    assert content(folder) == before
    packed.save(folder, ENCODER, drawn(ENCODER), note={"a": 1})
    assert packed.load(folder).note == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_folders_with_something_else_are_left_alone(tmp_path):
    for name in ("out.old", "out.new", ".out.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("")
    for name in ("out.old", "file", "."):
        with pytest.raises(UsageError, match="holds no network of jaxedge"):
            packed.save(tmp_path / name, ENCODER, {})
    (tmp_path / "out").mkdir()  # An empty one is taken.
    packed.save(tmp_path / "out", ENCODER, drawn(ENCODER))
    assert (tmp_path / "out.old" / "mine.txt").read_text() == "mine"
    assert (tmp_path / "out.new" / "mine.txt").read_text() == "mine"


def test_the_current_folder_may_be_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="holds no network"):
        packed.check_target(Path("/"))
    packed.check_target(Path("."))


def changed(**fields):
    def harm(folder):
        path = folder / packed.NOTE
        said = json.loads(path.read_text())
        for name, value in fields.items():
            said[name] = value
        path.write_text(json.dumps(said))

    return harm


def model_with(**fields):
    """The network is said to have other sizes."""

    def harm(folder):
        said = json.loads((folder / packed.NOTE).read_text())["model"]
        changed(model={**said, **fields})(folder)

    return harm


def with_more(name):
    def harm(folder):
        tensors = library.load_file(folder / packed.TENSORS)
        tensors[name] = np.zeros(3, np.float32)
        library.save_file(tensors, folder / packed.TENSORS)

    return harm


def without(name):
    def harm(folder):
        tensors = library.load_file(folder / packed.TENSORS)
        del tensors[name]
        library.save_file(tensors, folder / packed.TENSORS)

    return harm


def cut(name):
    def harm(folder):
        path = folder / name
        path.write_bytes(path.read_bytes()[:-9])

    return harm


FAULTS = [
    (lambda f: (f / packed.NOTE).unlink(), r"jaxedge.json cannot be read"),
    (cut(packed.NOTE), r"jaxedge.json cannot be read"),
    (lambda f: (f / packed.NOTE).write_text("[]"), "jaxedge.json cannot be r"),
    (changed(version=2), "jaxedge.json has version 2, but 1 is known"),
    (lambda f: (f / packed.TENSORS).unlink(), "model.safetensors is missing"),
    (cut(packed.TENSORS), "model.safetensors cannot be read"),
    (without("params/norm/scale"), "damaged: it has no 'params/norm/scale'"),
    (
        without("params/layer_0/gate/kernel#codes"),
        "damaged: it has no 'params/layer_0/gate/kernel#codes'",
    ),
    (changed(model={"class": "Mlp"}), "damaged: unknown network 'Mlp'"),
    (changed(model={"class": "Decoder", "w": 1}), "damaged: .*unexpected"),
    (changed(model=None), "damaged: "),
    (
        changed(model={**dataclasses.asdict(ENCODER), "class": "Encoder"}),
        "damaged: ",
    ),
    (changed(leaves={"params/embedding": {}}), "damaged: it has no 'format'"),
    (model_with(depth=10**7), "damaged: depth is 10000000, but"),
    (model_with(depth=0), "damaged: depth is 0, but"),
    (with_more("params/layer_7/up"), "damaged: the network has no place for p"),
    (model_with(vocabulary=10**20), "damaged: "),
    (model_with(width=0), "damaged: "),
]  # fmt: skip


@pytest.mark.parametrize(("harm", "message"), FAULTS)
def test_damaged_files_are_named(harm, message, network, tmp_path):
    folder = packed.save(tmp_path / "out", DECODER, network[1])
    harm(folder)
    with pytest.raises(UsageError, match=message) as caught:
        packed.load(folder)
    assert "out" in str(caught.value)


def test_sizes_that_do_not_fit_are_named(network, tmp_path):
    folder = packed.save(tmp_path / "out", DECODER, network[1])
    said = json.loads((folder / packed.NOTE).read_text())
    said["model"]["vocabulary"] = 12
    (folder / packed.NOTE).write_text(json.dumps(said))
    with pytest.raises(UsageError, match=r"embedding has shape \(11, 32\), bu"):
        packed.load(folder)


def test_weights_that_are_no_numbers_are_named(network, tmp_path):
    folder = packed.save(tmp_path / "out", DECODER, network[1])
    arrays = library.load_file(folder / packed.TENSORS)
    name = "params/norm/scale"
    arrays[name] = np.full_like(arrays[name], np.nan)
    library.save_file(arrays, folder / packed.TENSORS)
    with pytest.raises(UsageError, match=f"{packed.TENSORS}: {name} holds"):
        packed.load(folder)
    packed.save_leaf(tmp_path / "w.safetensors", leaf())
    small = dataclasses.replace(leaf().layer, act_scale=jnp.float32(np.inf))
    packed.save_leaf(tmp_path / "v.safetensors", quantized.Quantized(small))
    assert packed.load_leaf(tmp_path / "w.safetensors") is not None
    assert packed.load_leaf(tmp_path / "v.safetensors") is None


@pytest.mark.parametrize("raw", [b"", b"x" * 40])
def test_a_damaged_matrix_is_none(raw, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(raw)
    assert packed.load_leaf(path) is None


def test_the_library_is_needed_before_anything_is_done(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "safetensors.numpy", None)
    with pytest.raises(UsageError, match=r"pip install 'jaxedge\[language\]'"):
        packed.check_target(tmp_path / "out")
