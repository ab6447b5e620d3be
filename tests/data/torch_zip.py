"""Files in the form of `torch.save`, written from its definition.

A zip archive of a pickle of protocol 2, in which a tensor is a call of
`torch._utils._rebuild_tensor_v2` on a storage that lies beside it.
"""

import io
import pickle
import struct
import zipfile

import numpy as np

KINDS = {
    "bool": "BoolStorage",
    "float16": "HalfStorage",
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "int64": "LongStorage",
    "uint8": "ByteStorage",
}


class Tensor:
    """A view of stored values that is saved as a tensor; strides in values."""

    def __init__(self, values, shape=None, strides=None, offset=0):
        self.values = np.asarray(values)
        self.shape = self.values.shape if shape is None else shape
        width = self.values.itemsize
        whole = [step // width for step in self.values.strides]
        self.strides = whole if strides is None else strides
        self.offset = offset

    def pickled(self, key):
        kind = KINDS[str(self.values.dtype)]
        return b"".join([
            b"ctorch._utils\n_rebuild_tensor_v2\n(",
            b"(", text("storage"), f"ctorch\n{kind}\n".encode(),
            text(key), text("cpu"), number(self.values.size), b"tQ",
            number(self.offset), row(self.shape), row(self.strides),
            b"\x89", b"ccollections\nOrderedDict\n)R", b"tR",
        ])  # fmt: skip


def text(value):
    return b"X" + struct.pack("<I", len(value)) + str(value).encode()


def number(value):
    return b"J" + struct.pack("<i", value)


def row(values):
    return b"(" + b"".join(map(number, values)) + b"t"


def plain(value):
    """What pickle makes of it, without the mark of the protocol and the end."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, 2)
    pickler.fast = True  # Without numbers of what was met before.
    pickler.dump(value)
    # As a program with numpy 1 names its modules.
    return file.getvalue()[2:-1].replace(b"numpy._core.", b"numpy.core.")


def saved(*values, pickled=None, order="little"):
    """The bytes of a file that holds a list.

    Args:
        *values: tensors, or what pickle knows, such as numpy arrays.
        pickled: the pickle itself, instead.
        order: of the bytes of numbers, as it is told.
    """
    tensors = [value for value in values if isinstance(value, Tensor)]
    body = b"".join(
        value.pickled(str(tensors.index(value)))
        if isinstance(value, Tensor)
        else plain(value)
        for value in values
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        content = b"\x80\x02](" + body + b"e."
        archive.writestr("archive/data.pkl", pickled or content)
        archive.writestr("archive/byteorder", order)
        for key, tensor in enumerate(tensors):
            archive.writestr(f"archive/data/{key}", tensor.values.tobytes())
    return file.getvalue()
