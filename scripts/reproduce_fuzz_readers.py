"""Every reader of files, a small sound file of each, and what it promises.

Used by `reproduce_fuzz`. A reader that hands over what its contract excludes,
such as NaN where it says finite, has accepted a damaged file in silence.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
import gzip
import json
from pathlib import Path
import pickle
import struct
from typing import Any, NamedTuple
import zipfile

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks
from jaxedge.core.trees import map_named
from jaxedge.data import (
    aedat,
    archives,
    byte_pairs,
    cifar,
    cifar100,
    fkd,
    idx,
    off,
    pair_folder,
    pictures,
    tables,
    torch_files,
    volume_files,
    volume_images,
)
from jaxedge.models import (
    architectures,
    arrays,
    checkpoints,
    hugging_face,
    llama2c,
    packed,
    torch_arrays,
)
from jaxedge.models.encoder import Encoder
from jaxedge.models.quantized import Quantized
from jaxedge.quantize import layer, minifloat
from jaxedge.run import metrics, radiomics_parameters, results, workdir


class Accepted(Exception):
    """A reader handed over what its contract excludes."""


class Reader(NamedTuple):
    """A reader.

    Attributes:
        make: writes sound files to a folder; those that may be damaged.
        read: reads them from there, and checks the contract.
    """

    make: Callable[[Path], Sequence[Path]]
    read: Callable[[Path], Any]


def _promised(holds: Any, what: str) -> None:
    if not holds:
        raise Accepted(what)


def _numbers(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _one(name: str, content: Callable[[], bytes]) -> Any:
    """A format of one file."""

    def make(folder: Path) -> list[Path]:
        path = folder / name
        path.write_bytes(content())
        return [path]

    return make


def _finite(array: Any, what: str) -> None:
    _promised(np.isfinite(np.asarray(array, np.float64)).all(), what)


# Data sets.


def _idx() -> bytes:
    head = b"\0\0\x08\x03" + struct.pack(">3I", 2, 5, 4)
    return head + _numbers().integers(0, 256, 40, np.uint8).tobytes()


def _read_idx(path: Path) -> None:
    found = idx.read(path, 3)
    _promised(found.dtype == np.uint8 and found.ndim == 3, "an array of bytes")
    _promised(found.size > 0, "an array that is not empty")


_CUBE = b"""OFF
4 3 0
0 0 0
1 0 0
1 1 0
0 1 0.5
4 0 1 2 3
3 0 1 3
3 1 2 3
"""


def _read_off(folder: Path) -> None:
    found = off.triangles((folder / "a.off").read_bytes(), "a.off")
    _promised(found.dtype == np.float32, "float32")
    _promised(found.shape[1:] == (3, 3) and len(found), "triangles")
    _finite(found, "finite corners")


def _aedat() -> bytes:
    rng, packets = _numbers(), []
    for _ in range(2):
        words = rng.integers(0, 2**31, (5, 2)).astype("<u4")
        words[:, 0] |= 1
        packets.append(struct.pack("<HH6i", 1, 1, 8, 4, 0, 5, 5, 5))
        packets.append(words.tobytes())
    return b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + b"".join(packets)


def _read_aedat(folder: Path) -> None:
    t, x, y, p = map(np.asarray, aedat.read(folder / "a.aedat"))
    _promised((np.diff(t) >= 0).all() and (t >= 0).all(), "times in order")
    _promised(0 <= x.min() and x.max() < 2**15, "columns")
    _promised(0 <= y.min() and y.max() < 2**15, "rows")
    _promised(np.isin(p, (0, 1)).all(), "polarities")


def _archive(path: Path) -> None:
    np.savez_compressed(
        path, x=np.arange(12.0).reshape(3, 4), y=np.arange(3), n=np.array("a")
    )


def _make_archive(folder: Path) -> list[Path]:
    _archive(folder / "a.npz")
    return [folder / "a.npz"]


def _read_archive(folder: Path) -> None:
    for array in archives.read(folder / "a.npz", ("x", "y"), "numbers"):
        _promised(isinstance(array, np.ndarray), "an array")
        _promised(array.dtype.kind != "O", "no objects")


def _make_npy(folder: Path) -> list[Path]:
    np.save(folder / "a.npy", _numbers().normal(size=(2, 4, 3)))
    return [folder / "a.npy"]


def _read_npy(folder: Path) -> None:
    _volume(pair_folder._volume(folder / "a.npy"))


def _read_cifar_binary(folder: Path) -> None:
    found = cifar.records(folder / "a.bin", 1, 2, "CIFAR")
    x = cifar.images(found[:, 1:])
    _promised(x.shape == (2, 32, 32, 3), "images")
    _promised(x.min() >= 0 and x.max() <= 1, "pixels in [0, 1]")


def _cifar_pickle() -> bytes:
    planes = _numbers().integers(0, 256, (3, cifar.PLANES), np.uint8)
    content = {
        b"data": planes,
        b"fine_labels": [1, 50, 99],
        b"coarse_labels": [4, 0, 13],
    }
    return pickle.dumps(content, 2)


def _read_cifar_pickle(folder: Path) -> None:
    path, labels, planes = cifar100._from_pickle(folder, "train")
    cifar100._check(path, labels, planes, 3)


def _torch() -> bytes:
    """A list of an array and a dictionary, as `torch.save` writes them."""
    rng = _numbers()
    boxes = rng.uniform(0.1, 0.4, (2, 4))
    index = np.array([[3, 1], [0, 2]], np.float64)
    value = np.full((2, 2), 0.4)
    content = [boxes, np.array([True, False]), np.stack([index, value], 1)]
    return pickle.dumps(content, 2)


def _make_torch(folder: Path) -> list[Path]:
    path = folder / "a.tar"
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\n"
        b"FloatStorage\nX\x01\0\0\0" + b"0X\x03\0\0\0cpuK\x06tQK\0K\x02K\x03"
        b"\x86K\x03K\x01\x86\x89ccollections\nOrderedDict\n)RtR"
    )
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02](" + tensor + b"K\x05e.")
        file.writestr("archive/byteorder", "little")
        file.writestr("archive/data/0", np.arange(6, dtype="<f4").tobytes())
    return [path]


def _make_fkd(folder: Path) -> list[Path]:
    path = folder / "a.tar"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", _torch())
        file.writestr("archive/byteorder", "little")
    return [path]


def _read_fkd(folder: Path) -> None:
    box, flip, index, value = fkd._read(str(folder / "a.tar"), 4, "even")
    _promised((box >= 0).all() and (box <= 1).all(), "boxes in [0, 1]")
    _promised(flip.dtype == bool and (index < 4).all(), "classes")
    _promised((value >= 0).all() and (value <= 1).all(), "probabilities")


def _volume_file(name: str) -> Reader:
    def make(folder: Path) -> list[Path]:
        array = _numbers().integers(-99, 99, (3, 4, 5)).astype(np.int16)
        made = volume_images.make(array, (2.5, 0.8, 0.7), (1.0, -2.0, 3.0))
        volume_files.write(folder / name, made)
        return [folder / name]

    def read(folder: Path) -> None:
        _volume(volume_files.read(folder / name))

    return Reader(make, read)


def _volume(found: volume_images.Volume) -> None:
    _promised(found.array_ZxYxX.ndim == 3, "three axes")
    _promised(found.array_ZxYxX.dtype.kind in "biuf", "real numbers")
    _finite(found.spacing, "finite spacing")
    _promised((found.spacing > 0).all(), "positive spacing")
    _promised(found.spacing.shape == (3,), "three spacings")
    _promised(found.origin.shape == (3,), "an origin of three numbers")
    _promised(found.direction.shape == (3, 3), "three directions")
    _finite(found.origin, "a finite origin")
    _finite(found.direction, "finite directions")


def _picture(name: str) -> Reader:
    def make(folder: Path) -> list[Path]:
        from PIL import Image

        pixels = _numbers().integers(0, 256, (9, 12, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
        return [folder / name]

    def read(folder: Path) -> None:
        x = pictures.middle(folder / name, 8)
        _promised(x.shape == (8, 8, 3) and x.dtype == np.float32, "pixels")
        _promised(x.min() >= 0 and x.max() <= 1, "pixels in [0, 1]")

    return Reader(make, read)


def _read_table(folder: Path) -> None:
    found = tables.read(folder / "a.csv", "a.csv", columns=3, delimiter=",")
    _promised(found.shape[1:] == (3,) and len(found), "three columns")
    _finite(found, "finite numbers")


def _byte_pairs() -> bytes:
    pieces = [b"<unk>", b"<s>", b"</s>"]
    pieces += [b"<0x%02X>" % i for i in range(256)] + [b" a"]
    rows = [
        struct.pack("<fi", -float(i), len(p)) + p for i, p in enumerate(pieces)
    ]
    return struct.pack("<i", 6) + b"".join(rows)


def _read_byte_pairs(folder: Path) -> None:
    found = byte_pairs.load(folder / "a.bin", 260)
    _promised(len(found.pieces) == len(found.scores) == 260, "260 tokens")
    _finite(found.scores, "finite scores")
    found.decode(found.encode("a ba"))


# Networks.

_SIZES = {"hidden_size": 8, "intermediate_size": 6, "vocab_size": 11}
_LLAMA = {
    "model_type": "llama", **_SIZES, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "hidden_act": "silu",
}  # fmt: skip


def _make_hugging_face(folder: Path) -> list[Path]:
    import safetensors.numpy

    config, weights = folder / "config.json", folder / "model.safetensors"
    config.write_text(json.dumps(_LLAMA), "utf-8")
    network = architectures.network(_LLAMA, config)
    tokens, tensors = np.zeros((1, 1), np.int32), {}
    shapes = jax.eval_shape(network.model.init, jax.random.key(0), tokens)

    def one(path: str, leaf: Any) -> None:
        shape = leaf.shape[::-1] if path.endswith("kernel") else leaf.shape
        drawn = _numbers().normal(size=shape).astype(np.float32)
        tensors[f"model.{network.tensor(path)}"] = drawn

    map_named(one, shapes["params"])
    safetensors.numpy.save_file(tensors, weights)
    return [config, weights]


def _read_hugging_face(folder: Path) -> None:
    found = hugging_face.load(folder)
    for leaf in jax.tree.leaves(found.variables):
        _promised(leaf.dtype == jnp.float32, "float32")
        _finite(leaf, "finite weights")


@functools.lru_cache(8)
def _shapes(model: Any) -> Any:
    tokens = np.zeros((1, 1), np.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), tokens)
    return jax.tree.map(lambda a: a.shape, shapes["params"])


def _llama2c() -> bytes:
    width, hidden, depth, heads, vocabulary, length = 8, 6, 1, 2, 11, 4
    each = 2 * width + 4 * width**2 + 3 * width * hidden
    count = vocabulary * width + depth * each + width
    count += length * (width // heads // 2) * 2
    head = (width, hidden, depth, heads, heads, vocabulary, length)
    weights = _numbers().normal(size=count).astype("<f4")
    return struct.pack("<7i", *head) + weights.tobytes()


def _read_llama2c(folder: Path) -> None:
    model, variables = llama2c.load(folder / "a.bin")
    made = jax.tree.map(np.shape, variables["params"])
    wanted = _shapes(model)  # type: ignore[arg-type] - hashed by its fields
    _promised(made == wanted, "the network's shapes")
    for leaf in jax.tree.leaves(variables):
        _finite(leaf, "finite weights")


_VARIABLES = {
    "params": {"Dense_0": {"kernel": np.ones((3, 2), np.float32)}},
    "batch_stats": {"mean": np.zeros(2, np.float32)},
}


def _make_arrays(folder: Path) -> list[Path]:
    arrays.save(folder / arrays.FILE, _VARIABLES)
    return [folder / arrays.FILE]


def _read_arrays(folder: Path) -> None:
    found = arrays.load(folder, _VARIABLES)
    _same_shapes(found, _VARIABLES)


def _same_shapes(found: Any, wanted: Any) -> None:
    shapes = [jax.tree.map(np.shape, tree) for tree in (found, wanted)]
    _promised(shapes[0] == shapes[1], "the network's shapes")
    for leaf in jax.tree.leaves(found):
        _promised(leaf.dtype == np.float32, "float32")
        _finite(leaf, "finite weights")


_DENSE = nn.Dense(2)
_NAMING = torch_arrays.Naming("timm", ("a.weight",), {"": "a"})


def _make_tensors(folder: Path) -> list[Path]:
    weights: dict[str, Any] = {
        "a.weight": np.ones((2, 3), np.float32),
        "a.bias": np.ones(2, np.float32),
    }
    np.savez(folder / "a.npz", **weights)
    return [folder / "a.npz"]


def _read_tensors(folder: Path) -> None:
    found = checkpoints._read(folder / "a.npz")
    made = torch_arrays.variables(nn.Sequential([_DENSE]), (3,), found, _NAMES)
    wanted = {"layers_0": {"kernel": np.ones((3, 2)), "bias": np.ones(2)}}
    _same_shapes(made["params"], wanted)


_NAMES = (_NAMING._replace(places={"layers_0": "a"}),)
_ENCODER = Encoder(11, 8, 6, 1, 2, positions=5)


def _leaf(inputs: int, outputs: int) -> Quantized:
    w = jnp.asarray(_numbers().normal(size=(inputs, outputs)), jnp.float32)
    form, scale = minifloat.of("E2M1"), jnp.ones(outputs, jnp.float32)
    coded = layer.rows(w, form, scale)
    made = layer.QuantizedLinear(
        coded, jnp.float32(1), jnp.zeros(inputs, jnp.int8), None, form
    )
    return Quantized(made)


def _make_packed(folder: Path) -> list[Path]:
    tokens = np.zeros((1, 1), np.int32)
    shapes = jax.eval_shape(_ENCODER.init, jax.random.key(0), tokens)

    def one(path: str, leaf: Any) -> Any:
        if path.endswith("layer_0/up/kernel"):
            return _leaf(*leaf.shape)
        return _numbers().normal(size=leaf.shape).astype(np.float32)

    variables = {"params": map_named(one, shapes["params"])}
    at = packed.save(folder / "small", _ENCODER, variables)
    return [at / packed.NOTE, at / packed.TENSORS]


def _read_packed(folder: Path) -> None:
    found = packed.load(folder / "small")
    for leaf in jax.tree.leaves(found.variables):
        _promised(not _nan(leaf), "finite weights and scales")


def _nan(leaf: Any) -> bool:
    array = np.asarray(leaf)
    return array.dtype.kind == "f" and not np.isfinite(array).all()


def _make_leaf(folder: Path) -> list[Path]:
    packed.save_leaf(folder / "a.safetensors", _leaf(8, 6))
    return [folder / "a.safetensors"]


def _read_leaf(folder: Path) -> None:
    found = packed.load_leaf(folder / "a.safetensors")
    if found is None:  # Its way to say so.
        raise checks.UsageError("it is damaged")
    for leaf in jax.tree.leaves(found):
        _promised(not _nan(leaf), "finite scales")


# Runs.


def _read_results(folder: Path) -> None:
    for array in results.Archive(folder / "a.npz").values():
        _promised(array.dtype.kind != "O", "no objects")


_SCORES = np.linspace(0, 1, 7, dtype=np.float32)


def _make_stream(folder: Path) -> list[Path]:
    stream = results.Stream(folder / "a.jsonl")
    stream.append(_SCORES[:4])
    stream.append(_SCORES[4:])
    return [folder / "a.jsonl"]


def _read_stream(folder: Path) -> None:
    stream = results.Stream(folder / "a.jsonl")
    found = stream.read(99)
    same = np.array_equal(found, _SCORES[: len(found)])
    _promised(same and stream.count() == len(found), "what was written")
    _promised(stream.mend() == len(found), "what was written, mended")


_ROWS = b'{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n'


def _read_metrics(folder: Path) -> None:
    for row in metrics.read(folder / "a.jsonl"):
        _promised(isinstance(row["step"], int), "steps")


_CONFIG = {"seed": 0, "data": {"name": "digits"}, "chips": {"levels": [0.1]}}


def _read_workdir(folder: Path) -> None:
    workdir.check(folder, _CONFIG, study=False)


_PARAMETERS = {
    "setting": {"binWidth": 25, "distances": [1, 2], "force2D": True},
    "imageType": {"Original": {}, "LoG": {"sigma": [1.0, 2.5]}},
    "featureClass": {"firstorder": ["Mean", "Energy"], "glcm": None},
    "voxelSetting": {"kernelRadius": 2},
}
_YAML = b"""setting:
  binWidth: 25.0
  distances: [1, 2]
  label: 1
imageType:
  Original: {}
  Wavelet:
    wavelet: coif1
featureClass:
  firstorder:
    - Mean
  glcm:
"""


def _read_parameters(name: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        found = radiomics_parameters.read(folder / name)
        known = radiomics_parameters.SETTINGS
        _promised({*found.setting} == {*known}, "all settings")
        _promised(len(found.images) > 0, "an image type")

    return read


def _json(name: str, content: Any) -> Any:
    return _one(name, lambda: json.dumps(content).encode())


def _at(name: str, read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    return lambda folder: read(folder / name)


_TABLE = b"".join(b"%.3f,%d,1e-3\n" % (i / 7, i) for i in range(6))
_BATCH = bytes(range(256)) * 24 + b"\1\2"
READERS: Mapping[str, Reader] = {
    "idx": Reader(_one("a-idx", _idx), _at("a-idx", _read_idx)),
    "idx gzipped": Reader(
        _one("a.gz", lambda: gzip.compress(_idx(), mtime=0)),
        _at("a.gz", _read_idx),
    ),
    "off": Reader(_one("a.off", lambda: _CUBE), _read_off),
    "aedat": Reader(_one("a.aedat", _aedat), _read_aedat),
    "archives (.npz)": Reader(_make_archive, _read_archive),
    "pair folder (.npy)": Reader(_make_npy, _read_npy),
    "CIFAR binary": Reader(_one("a.bin", lambda: _BATCH), _read_cifar_binary),
    "CIFAR-100 pickle": Reader(
        _one("train", _cifar_pickle), _read_cifar_pickle
    ),
    "torch files": Reader(_make_torch, _at("a.tar", torch_files.read)),
    "FKD": Reader(_make_fkd, _read_fkd),
    "volume NRRD": _volume_file("a.nrrd"),
    "volume NIfTI": _volume_file("a.nii"),
    "volume NIfTI gzipped": _volume_file("a.nii.gz"),
    "volume MetaImage": _volume_file("a.mha"),
    "volume .npz": _volume_file("a.npz"),
    "picture PNG": _picture("a.png"),
    "picture JPEG": _picture("a.jpg"),
    "picture BMP": _picture("a.bmp"),
    "picture TIFF": _picture("a.tif"),
    "tables": Reader(_one("a.csv", lambda: _TABLE), _read_table),
    "byte pairs": Reader(_one("a.bin", _byte_pairs), _read_byte_pairs),
    "tensors of PyTorch": Reader(_make_tensors, _read_tensors),
    "network.npz": Reader(_make_arrays, _read_arrays),
    "llama2.c": Reader(_one("a.bin", _llama2c), _read_llama2c),
    "Hugging Face": Reader(_make_hugging_face, _read_hugging_face),
    "small numbers network": Reader(_make_packed, _read_packed),
    "small numbers matrix": Reader(_make_leaf, _read_leaf),
    "results archive": Reader(_make_archive, _read_results),
    "results stream": Reader(_make_stream, _read_stream),
    "metrics": Reader(_one("a.jsonl", lambda: _ROWS), _read_metrics),
    "config of a run": Reader(_json("config.json", _CONFIG), _read_workdir),
    "parameters JSON": Reader(
        _json("a.json", _PARAMETERS), _read_parameters("a.json")
    ),
    "parameters YAML": Reader(
        _one("a.yaml", lambda: _YAML), _read_parameters("a.yaml")
    ),
}

__all__ = ["READERS", "Accepted", "Reader"]
