"""Pickles of plain values and numpy arrays, read without running anything.

A pickle may name any function of any module and call it when it is read. Here
only what a pickled array itself names is known; all else is refused.
"""

from collections.abc import Callable, Mapping
import io
import math
import pickle
import re
from typing import Any

import numpy as np

# What a pickle that is cut, corrupt or of something else raises.
DAMAGED = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    ImportError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


def _encoded(text: str, encoding: str) -> bytes:
    """How protocol 2 has bytes."""
    if encoding not in ("latin1", "ascii"):
        raise pickle.UnpicklingError(f"bytes are encoded as {encoding!r}")
    return text.encode(encoding)


def _none_encoded() -> bytes:
    """Likewise, of no bytes."""
    return b""


# An array of numpy is made of the names below. Numpy's own functions of these
# names trust a pickle with addresses (arrays of objects) and sizes; here they
# stand for values that take kinds of numbers alone, and for bytes of the file.
_ARRAY = "ndarray"  # Named as a class, never called.


class _Kind:
    """A type of numbers, such as "f4", in some order of bytes."""

    def __init__(self, name: Any, *rest: Any) -> None:
        del rest  # align and copy
        name = _text(name)
        if not isinstance(name, str) or not re.fullmatch(_KIND, name):
            raise pickle.UnpicklingError(f"it has values of type {name!r}")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        order = _text(state[1])
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"it has bytes in order {order!r}")
        self.dtype = self.dtype.newbyteorder(order)


def _text(value: Any) -> Any:
    """Texts of Python 2 come as bytes, where they are left so."""
    return value.decode("ascii") if isinstance(value, bytes) else value


_KIND = r"[<>|=]?[biuf][1248]"


class _Array:
    """An array that a pickle fills once it has made it."""

    def __init__(self, kind: Any, shape: Any, code: Any) -> None:
        del shape, code  # Those of no array yet.
        if kind is not _ARRAY:
            raise pickle.UnpicklingError("it makes an array of another class")
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, columns, content = state
        self.value = _filled(content, kind, shape, "F" if columns else "C")


def _filled(
    content: Any, kind: Any, shape: Any, order: Any, *rest: Any
) -> np.ndarray:
    del rest  # of axes, which numpy gives for other orders alone
    if not isinstance(kind, _Kind) or order not in ("C", "F"):
        raise pickle.UnpicklingError("its array has no type or order")
    if isinstance(content, str):  # As protocol 2 has them.
        content = content.encode("latin1")
    if not isinstance(content, (bytes, bytearray)):
        raise pickle.UnpicklingError("its array holds no bytes")
    sizes = shape if isinstance(shape, tuple) else (shape,)
    if not all(type(n) is int and n >= 0 for n in sizes):
        raise pickle.UnpicklingError(f"its array has the shape {shape!r}")
    whole = np.frombuffer(content, kind.dtype)
    if math.prod(sizes) != whole.size:
        raise ValueError(f"an array of shape {sizes} has {whole.size} values")
    return whole.reshape(sizes, order=order).copy()


def _scalar(kind: Any, content: Any) -> Any:
    return _filled(content, kind, (), "C")[()]


_KNOWN: dict[tuple[str, str], Any] = {
    ("__builtin__", "bytes"): _none_encoded,
    ("numpy", "ndarray"): _ARRAY,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _encoded,
}
# By the names that numpy 1 and 2 give them.
for _core in ("numpy.core", "numpy._core"):
    _KNOWN |= {
        (f"{_core}.multiarray", "_reconstruct"): _Array,
        (f"{_core}.multiarray", "scalar"): _scalar,
        (f"{_core}.numeric", "_frombuffer"): _filled,
    }


def _plain(value: Any) -> Any:
    """What was read, with arrays in place of what they were made by."""
    if isinstance(value, _Array):
        if value.value is None:
            raise pickle.UnpicklingError("it leaves an array empty")
        return value.value
    if isinstance(value, _Kind):
        return value.dtype
    if type(value) in (list, tuple):
        return type(value)(map(_plain, value))
    if isinstance(value, dict):
        for name in value:  # Also where a tensor's file has its own kind.
            value[name] = _plain(value[name])
    return value


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows some names alone."""

    def __init__(
        self,
        content: bytes,
        encoding: str,
        known: Mapping[tuple[str, str], Any],
        persistent: Callable[[Any], Any] | None,
    ) -> None:
        super().__init__(io.BytesIO(content), encoding=encoding)
        self._known, self._persistent = known, persistent

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """What a name of the pickle stands for."""
        name = (module_name, global_name)
        if name not in self._known:
            raise pickle.UnpicklingError(
                f"it asks for {module_name}.{global_name}, which data do not"
                " need"
            )
        return self._known[name]

    def persistent_load(self, pid: Any) -> Any:
        """What lies outside the pickle."""
        if self._persistent is None:
            raise pickle.UnpicklingError("it refers to something outside")
        return self._persistent(pid)


def load(
    content: bytes,
    *,
    encoding: str = "ASCII",
    known: Mapping[tuple[str, str], Any] | None = None,
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """The value that a pickle holds.

    Args:
        content: the pickle.
        encoding: of texts of Python 2; "bytes" leaves them bytes.
        known: what else may be named: (module, name) -> what it stands for.
        persistent: a function from what the pickle calls an outer object to
            that object; None: it has none.

    Raises:
        One of `DAMAGED`: for a pickle that is no such thing, or that names
            something else. The caller knows which file it is of.
    """
    names = {**_KNOWN, **(known or {})}
    return _plain(_Unpickler(content, encoding, names, persistent).load())
