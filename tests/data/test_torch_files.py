"""Tests of files of `torch.save`, and of pickles that run nothing."""

import pickle

import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.data import pickles, torch_files
from tests.data.torch_zip import Tensor, number, saved, text

RNG = np.random.default_rng(0)


def read(tmp_path, content):
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    return torch_files.read(path)


@pytest.mark.parametrize(
    "kind", ["float32", "float16", "float64", "int64", "uint8", "bool"]
)
def test_tensors_of_every_kind(tmp_path, kind):
    array = RNG.integers(0, 2, (2, 3)).astype(kind)
    (found,) = read(tmp_path, saved(Tensor(array)))
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_views_arrays_and_plain_values(tmp_path):
    """A view of a storage: its strides count values, not bytes."""
    whole = np.arange(24, dtype=np.float32)
    turned = Tensor(whole, (3, 2), (1, 6), 4)
    empty = Tensor(whole, (0, 5), (5, 1))
    one = Tensor(whole, (), (), 7)
    array = RNG.normal(size=(2, 4))
    flags = [True, False]
    found = read(tmp_path, saved(turned, empty, one, array, flags, {"a": 2}))
    np.testing.assert_array_equal(found[0], [[4, 10], [5, 11], [6, 12]])
    assert found[1].shape == (0, 5) and found[2] == 7
    np.testing.assert_array_equal(found[3], array)
    assert found[4:] == [flags, {"a": 2}]


class Trap:
    """A pickle that shows that it was run."""

    def __reduce__(self):
        return pytest.fail, ("a function of a pickle was called",)


OTHER = b"\x80\x02](" + b"".join([
    b"(", text("module"), b"ctorch\nFloatStorage\n", text("0"), text("cpu"),
    number(1), b"tQ",
]) + b"e."  # fmt: skip


@pytest.mark.parametrize(
    "content, message",
    [
        (b"no zip", "is no readable file of torch.save.*not a zip file"),
        (b"", "is no readable file of torch.save"),
        (saved(pickled=pickle.dumps(Trap())), "asks for _pytest.outcomes"),
        (saved(pickled=b"\x80\x02]"), "is no readable file of torch.save"),
        (saved(pickled=b"\x80\x02](ios\nsystem\ne."), "is no readable file"),
        (saved(pickled=OTHER), "refers to 'module'"),
        (saved(Tensor(np.ones(3)), order="big"), "in another order"),
        (saved(Tensor(np.ones(3), (2, 2), (2, 1))), "beyond its values"),
        (saved(Tensor(np.ones(3), (2,), (-1,), 2)), "negative sizes"),
        (saved(Tensor(np.ones(3), (2,), (1,), -1)), "negative sizes"),
        (saved(Tensor(np.ones(3), (2, 1), (1,))), "is no readable file"),
        # As the form of before begins.
        (
            b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.",
            "has the form of PyTorch before 1.6",
        ),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    with pytest.raises(UsageError, match=f"a.tar .*{message}") as error:
        read(tmp_path, content)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "at, value, message",
    [
        (8, 77, "compression method is not supported"),
        (6, 1, "encrypted"),
        (4, 99, "zip file version 9.9"),
    ],
)
def test_archives_of_another_kind_are_refused(tmp_path, at, value, message):
    """What zipfile cannot read, by the heads of the first member."""
    content = bytearray(saved(Tensor(np.ones(3))))
    for mark, more in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        content[content.index(mark) + at + more] = value
    with pytest.raises(UsageError, match=f"no readable file.*{message}") as e:
        read(tmp_path, bytes(content))
    assert "\n" not in str(e.value)


def test_sizes_beyond_memory_are_refused(tmp_path):
    vast = b"\x80\x05\x96" + b"\xff" * 8  # Bytes, 2^64 - 1 of them.
    with pytest.raises(UsageError, match="no readable file"):
        read(tmp_path, saved(pickled=vast))


def test_a_corrupt_byte_and_a_missing_storage_are_found(tmp_path):
    content = saved(Tensor(np.full(50, 0.7)))
    place = content.index(np.full(50, 0.7).tobytes())
    spoilt = bytearray(content)
    spoilt[place + 9] ^= 1
    with pytest.raises(UsageError, match="Bad CRC-32"):
        read(tmp_path, bytes(spoilt))
    with pytest.raises(UsageError, match="no readable file"):
        read(tmp_path, content.replace(b"archive/data/0", b"archive/data/1"))
    with pytest.raises(UsageError, match="cannot be read"):
        torch_files.read(tmp_path / "none.tar")


def test_a_file_of_pytorch_itself(tmp_path):
    torch = pytest.importorskip("torch", reason="not needed by the package")
    path = tmp_path / "a.tar"
    tensor = torch.arange(6.0).reshape(2, 3).t()
    torch.save([tensor, np.float32([[1, 2]]), np.array([True, False])], path)
    found = torch_files.read(path)
    np.testing.assert_array_equal(found[0], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(found[1], [[1, 2]])
    np.testing.assert_array_equal(found[2], [True, False])


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_pickles_of_arrays_are_read(protocol):
    array = RNG.integers(0, 9, (3, 2), np.uint8)
    content = pickle.dumps({"a": array, "b": np.float32(0.5)}, protocol)
    found = pickles.load(content)
    np.testing.assert_array_equal(found["a"], array)
    assert found["b"] == 0.5


def test_pickles_that_call_or_refer_are_refused():
    with pytest.raises(pickle.UnpicklingError, match="_pytest.outcomes"):
        pickles.load(pickle.dumps(Trap()))
    # `_codecs.encode` with a codec that does more than turn text into bytes.
    other = b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x04\x00\x00\x00zliptR."
    with pytest.raises(pickle.UnpicklingError, match="encoded as 'zlip'"):
        pickles.load(other)
    with pytest.raises(pickle.UnpicklingError, match="outside"):
        pickles.load(b"X\x01\x00\x00\x00aQ.")


def _forged(second):
    """An array of objects over bytes of its own, and what is done with it."""
    dtype = b"cnumpy\ndtype\n(X\x01\x00\x00\x00OtR"
    array = b"cnumpy\nndarray\n((K\x01t" + dtype + b"C\x08AAAAAAAAtR"
    return b"\x80\x02" + array + second + b"."


@pytest.mark.parametrize(
    "content",
    [
        _forged(b""),
        b"\x80\x02cnumpy\nndarray\n("
        + _forged(b"")[2:-1]
        + b"tR.",  # as the shape of another
        b"\x80\x02cnumpy\ndtype\n(X\x01\x00\x00\x00OtR.",
        b"\x80\x02cnumpy\ndtype\n(X\x02\x00\x00\x00V8tR.",
    ],
)
def test_pickles_make_no_array_of_objects(content):
    with pytest.raises(pickles.DAMAGED):
        pickles.load(content)


def test_an_array_holds_the_bytes_of_its_shape():
    whole = pickle.dumps(np.arange(6, dtype="<f4").reshape(2, 3), protocol=2)
    assert pickles.load(whole).tolist() == [[0, 1, 2], [3, 4, 5]]
    longer = whole.replace(b"K\x02K\x03\x86", b"K\x09K\x03\x86")
    assert longer != whole
    with pytest.raises(pickles.DAMAGED, match="shape"):
        pickles.load(longer)
    looped = []
    looped.append(looped)
    with pytest.raises(pickles.DAMAGED):
        pickles.load(pickle.dumps(looped))
    fortran = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(
        pickles.load(pickle.dumps(fortran, protocol=4)), fortran
    )
