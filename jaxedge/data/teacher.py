"""Outputs of a teacher, stored for training without it (FKD, vvtq 2).

A folder holds HEADER and one numpy file an array of `Rows`. Each image has M
crops; of a crop it tells where it lies, whether it is mirrored, and the k
likeliest classes with their probabilities, from which `learn.distill.recover`
makes a distribution, as `features.images.resized_crop` makes the crop.

Letters: N images, M crops of each, k classes of each; B rows that are asked
for.
"""

from collections.abc import Callable
import functools
import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks, keys, npz
from jaxedge.data.image_folders import Images
from jaxedge.data.source import Source
from jaxedge.features import images
from jaxedge.learn import distill

HEADER = "header.json"
_PROGRESS = "progress.json"
_VERSION = 1
_SAMPLED = 16  # About as many values of each image enter the checksum.
_COMPARED = 4  # Crops an image by which a teacher is known again, and how near:
_TOLERANCE = 0.02  # on another device; float16 alone moves it by 5e-4.


class Rows(NamedTuple):
    """What is stored of some crops, or where it is stored.

    Attributes:
        boxes: (top, left, height, width) in shares, [..., 4] float32.
        flips: whether the crop is mirrored left and right, [...] bool.
        index: the likeliest classes, [..., k] uint16, or uint32 where there
            are more than 65,536.
        value: their probabilities, falling, [..., k] float16.
    """

    boxes: np.ndarray
    flips: np.ndarray
    index: np.ndarray
    value: np.ndarray


class Teacher(NamedTuple):
    """Stored outputs that fit a data set; from `open` or `write`.

    Attributes:
        size: rows and columns of the crops that the teacher saw.
        classes: how many there are.
        stored: [N, M, ...] each, on disk until they are asked for.
    """

    size: tuple[int, int]
    classes: int
    stored: Rows

    def rows(self, indices: ArrayLike, crop_choice: ArrayLike) -> Rows:
        """The stored outputs of some crops; only these are read.

        Args:
            indices: of the images, integers in [0, N), [B] or any shape.
            crop_choice: which crop of each, integers in [0, M), of a shape
                that goes with it: indices [B, 1] and choices [B, 4] are four
                crops of each image.

        Returns:
            [B, ...] each, in memory.

        Raises:
            UsageError: for numbers out of range, or that are no integers.
        """
        n, m = self.stored.flips.shape
        picked = []
        for name, given, count in (
            ("indices", indices, n),
            ("crop_choice", crop_choice, m),
        ):
            numbers = np.asarray(given)
            if numbers.dtype.kind not in "iu":
                raise checks.UsageError(
                    f"{name} are {numbers.dtype}, but must be integers."
                )
            checks.in_range(name, numbers, 0, count - 1)
            picked.append(numbers)
        try:
            place = np.broadcast_arrays(*picked)
        except ValueError:
            raise checks.UsageError(
                f"indices have shape {picked[0].shape} and crop_choice"
                f" {picked[1].shape}; give one choice an image."
            ) from None
        return Rows(*(np.asarray(array[tuple(place)]) for array in self.stored))


def write(
    folder: str | os.PathLike[str],
    source: Source,
    forward: Callable[[jax.Array], ArrayLike],
    *,
    crops: int,
    k: int,
    key: jax.Array,
    size: int | tuple[int, int] | None = None,
    scale: tuple[float, float] = (0.08, 1.0),
    batch: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> Teacher:
    """Runs a teacher over random crops of every image and stores its outputs.

    Killed at any moment, the same call goes on where it was. Until all is
    there, it is in .NAME.partial beside the folder, whose place it then takes
    in one step; what is stored is never written over. Crops depend on the key
    and the image alone, not on the batch.

    Args:
        folder: is made. If it holds the outputs of such a call, nothing is
            computed but one batch, to tell another teacher.
        source: images, [N, H, W, C], and labels [N].
        forward: crops [batch, *size, C] in float32 -> logits [batch, classes];
            compiled, if it shall be fast.
        crops: M, at least 1.
        k: how many classes are stored, at most all.
        key: draws the crops; not consumed.
        size: of the crops, rows and columns or one number; None: H and W.
        scale: least and largest share of the image's area, see
            `features.images.draw_boxes`.
        batch: images at a time, at least 1; the last ones are filled up.
        progress: called with the images done and N after each batch.

    Returns:
        What `open` returns.

    Raises:
        UsageError: for a bad argument; a teacher whose outputs have another
            shape or are not finite; a folder or a beginning that is of another
            data set, teacher or call; or a disk that is full.
    """
    _check_source(source)
    for name, value in (("crops", crops), ("k", k), ("batch", batch)):
        checks.whole(name, value, 1)
    classes = len(source.classes)
    if k > classes:
        raise checks.UsageError(
            f"k is {k}, but {source.name} has {classes} classes; store at most"
            " those."
        )
    keys.check_key(key)
    if size is None:
        size = source.x.shape[1:3]
    rows, columns = size if isinstance(size, tuple) else (size, size)
    request = {
        **_described(source),
        "crops": int(crops),
        "k": int(k),
        "size": [int(rows), int(columns)],
        "scale": [float(s) for s in scale],
        "key": np.asarray(jax.random.key_data(key)).tolist(),
    }
    folder = Path(folder).resolve()
    ask = _Asked(source, forward, key, request, min(batch, len(source.x)))
    if folder.exists():
        _check_request(folder, _read(folder / HEADER), request)
        teacher = open(folder, source)
        _check_teacher(folder, ask, teacher.stored, len(source.x))
        return teacher
    partial = _partial(folder)
    try:
        _continue(partial, ask, progress)
        _replace(partial / HEADER, request)
        (partial / _PROGRESS).unlink(missing_ok=True)
        partial.rename(folder)
    except OSError as error:
        raise checks.UsageError(
            f"{partial} cannot be written ({error}); make room: the same call"
            " goes on from there."
        ) from error
    return open(folder, source)


def open(folder: str | os.PathLike[str], source: Source) -> Teacher:
    """The stored outputs of a folder, once they fit the data set.

    Args:
        folder: of `write`.
        source: what it was written of, in the same order.

    Returns:
        The outputs, still on disk.

    Raises:
        UsageError: for a folder that is missing, unfinished or damaged, or of
            another data set: another name, split, count, shape or number of
            classes, or other labels, pixels or order.
    """
    _check_source(source)
    folder = Path(folder).resolve()
    partial = _partial(folder)
    if not folder.exists() and (partial / _PROGRESS).exists():
        done = _read(partial / _PROGRESS)["done"]
        raise checks.UsageError(
            f"{folder} is not finished: {done} of {len(source.x)} images are"
            f" done, in {partial}; call write as before, it goes on."
        )
    header = _read(folder / HEADER)
    _check_request(folder, header, _described(source))
    rows, columns = header["size"]
    stored = Rows(*_arrays(folder, header))
    return Teacher((rows, columns), header["classes"], stored)


# Running the teacher.


class _Asked(NamedTuple):
    """What `write` was asked for; `request` is what the header will say."""

    source: Source
    forward: Callable[[jax.Array], ArrayLike]
    key: jax.Array
    request: dict[str, Any]
    batch: int


def _continue(
    partial: Path, ask: _Asked, progress: Callable[[int, int], None] | None
) -> None:
    """Runs the teacher on all images that are not done yet."""
    done, total = _begin(partial, ask), len(ask.source.x)
    while done < total:
        block = _outputs(ask, done, ask.request["crops"])
        for name, array in block._asdict().items():
            _put(partial / f"{name}.npy", array, done)
        done += len(block.flips)
        # Only now, when the arrays are on disk.
        _replace(partial / _PROGRESS, {"done": done, "request": ask.request})
        if progress is not None:
            progress(done, total)


def _begin(partial: Path, ask: _Asked) -> int:
    """How many images are done; makes the files if there are none."""
    if (partial / HEADER).exists():  # Killed before the folder got its name.
        _check_request(partial, _read(partial / HEADER), ask.request)
        return len(ask.source.x)
    path = partial / _PROGRESS
    if path.exists():
        content = _read(path)
        _check_request(partial, content["request"], ask.request)
        if content["done"]:
            stored = Rows(*_arrays(partial, ask.request))
            _check_teacher(partial, ask, stored, content["done"])
        return content["done"]
    partial.mkdir(parents=True, exist_ok=True)
    for name, (shape, dtype) in _layout(ask.request).items():
        _make(partial / f"{name}.npy", shape, dtype)
    _replace(path, {"done": 0, "request": ask.request})
    return 0


def _outputs(ask: _Asked, start: int, crops: int) -> Rows:
    """The first crops of a batch of images from `start` on."""
    request, total = ask.request, len(ask.source.x)
    picked_B = np.arange(start, start + ask.batch)
    picked_B[picked_B >= total] = 0
    x = jnp.asarray(ask.source.x[picked_B])
    boxes, flips = _draw(ask.key, picked_B, request["crops"], request["scale"])
    found = []
    for crop in range(crops):
        seen = images.resized_crop(
            x, boxes[:, crop], tuple(request["size"]), flips[:, crop]
        )
        logits = jnp.asarray(ask.forward(seen))
        wanted = (ask.batch, request["classes"])
        if logits.shape != wanted:
            raise checks.UsageError(
                f"the teacher gives {logits.shape} for crops {seen.shape}, but"
                f" must give {wanted}: a number for each class of"
                f" {ask.source.name}."
            )
        where = f"{start} to {min(start + ask.batch, total) - 1}"
        checks.finite(f"what the teacher says of images {where}", logits)
        found.append(_likeliest(logits, request["k"]))
    index, value = (np.stack(a, axis=1) for a in zip(*found, strict=True))
    block = np.asarray(boxes)[:, :crops], np.asarray(flips)[:, :crops]
    kinds = [dtype for _, dtype in _layout(request).values()]
    pairs = zip((*block, index, value), kinds, strict=True)
    return Rows(*(a[: total - start].astype(kind) for a, kind in pairs))


@functools.partial(jax.jit, static_argnames="crops")
def _draw(
    key: jax.Array, picked_B: jax.Array, crops: int, scale: Any
) -> tuple[jax.Array, jax.Array]:
    """Boxes [B, M, 4] and flips [B, M], of each image by its number."""

    def draw(number):
        root = keys.stream(key, "teacher", number)
        boxes = images.draw_boxes(keys.stream(root, "boxes"), crops, scale)
        flips = jax.random.bernoulli(keys.stream(root, "flips"), 0.5, (crops,))
        return boxes, flips

    return jax.vmap(draw)(picked_B)


@functools.partial(jax.jit, static_argnames="k")
def _likeliest(logits: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return distill.compress(jax.nn.softmax(wide), k)


# Whether what is stored is what is asked for.


def _check_source(source: Source) -> None:
    if source.x.ndim != 4 or source.y.ndim != 1:
        raise checks.UsageError(
            f"{source.name} has inputs {source.x.shape} and labels"
            f" {source.y.shape}, but a teacher needs images [N, H, W, C] and"
            " one label each."
        )


def _described(source: Source) -> dict[str, Any]:
    """What tells one data set, and one order of it, from another."""
    if isinstance(source.x, Images):
        # To read them all takes hours; an order of files is one of images.
        names = ["/".join(f.split(os.sep)[-2:]) for f in source.x.files]
        known = {
            "files": _sha256(np.frombuffer("\n".join(names).encode(), "u1"))
        }
    else:
        flat_NxF = source.x.reshape(len(source.x), -1)
        few = flat_NxF[:, :: math.ceil(flat_NxF.shape[1] / _SAMPLED)]
        known = {"pixels": _sha256(few.astype("<f4"))}
    return {
        "version": _VERSION,
        "name": source.name,
        "split": source.split,
        "images": len(source.x),
        "shape": list(source.x.shape[1:]),
        "classes": len(source.classes),
        "labels": _sha256(source.y.astype("<i4")),
        **known,
    }


def _sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _check_request(
    folder: Path, found: dict[str, Any], wanted: dict[str, Any]
) -> None:
    """Raises unless the header agrees with all that is wanted."""
    differ = [
        f"{name}: {found.get(name, 'absent')!r} there, {value!r} here"
        for name, value in wanted.items()
        if found.get(name) != value
    ]
    if differ:
        raise checks.UsageError(
            f"{folder} holds the outputs of another call or data set"
            f" ({'; '.join(differ)}); use the same, in the same order, or"
            " another folder."
        )


def _check_teacher(folder: Path, ask: _Asked, stored: Rows, done: int) -> None:
    """Raises unless the teacher says again what it said of the first images."""
    crops = min(ask.request["crops"], _COMPARED)
    now = _outputs(ask, 0, crops)
    n = min(len(now.flips), done)
    before = Rows(*(a[:n, :crops] for a in stored))
    now = Rows(*(a[:n] for a in now))
    whole = [
        np.asarray(distill.recover(a.index, a.value, ask.request["classes"]))
        for a in (before, now)
    ]
    gap = np.abs(whole[0] - whole[1]).max(axis=-1)
    # Of classes as likely as each other, another device may store others.
    if np.mean(gap > _TOLERANCE) > 0.1:
        raise checks.UsageError(
            f"{folder} holds the outputs of another teacher: probabilities of"
            f" the first images differ by up to {gap.max():.2g}; use that"
            " teacher, or another folder."
        )


# Files.


def _partial(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")


def _layout(
    header: dict[str, Any],
) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Shape and dtype of each array."""
    n, m, k = header["images"], header["crops"], header["k"]
    return {
        "boxes": ((n, m, 4), np.dtype("<f4")),
        "flips": ((n, m), np.dtype("?")),
        "index": (
            (n, m, k),
            np.dtype("<u2" if header["classes"] <= 2**16 else "<u4"),
        ),
        "value": ((n, m, k), np.dtype("<f2")),
    }


def _arrays(folder: Path, header: dict[str, Any]) -> list[np.ndarray]:
    """The arrays of a folder, on disk."""
    found = []
    for name, (shape, dtype) in _layout(header).items():
        path = folder / f"{name}.npy"
        try:
            array = np.load(path, mmap_mode="r")
        except npz.DAMAGED as error:
            raise _damaged(path, npz.reason(error)) from error
        if array.shape != shape or array.dtype != dtype:
            fault = f"it holds {array.dtype} of shape {array.shape}"
            raise _damaged(path, f"{fault} instead of {dtype} of {shape}")
        found.append(array)
    return found


def _make(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """A numpy file of zeros that take no room yet."""
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + math.prod(shape) * dtype.itemsize)


def _put(path: Path, rows: np.ndarray, start: int) -> None:
    """Writes rows at their place.

    Not through a map, for which a full disk ends the process.
    """
    with path.open("r+b") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        file.seek(start * rows[0].nbytes, os.SEEK_CUR)
        file.write(rows.tobytes())
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON so that a kill leaves the old or the new file."""
    new = path.with_suffix(".new")
    with new.open("w", encoding="utf-8") as file:
        file.write(json.dumps(content, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise checks.UsageError(
            f"{path} is missing, so that {path.parent} holds no outputs of a"
            " teacher; write them there, or choose another folder."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no JSON object")
    except (OSError, RecursionError, ValueError) as error:
        raise _damaged(path, error) from error
    return content


def _damaged(path: Path, reason: object) -> checks.UsageError:
    return checks.UsageError(
        f"{path} is damaged ({reason}); remove {path.parent} and write anew."
    )
