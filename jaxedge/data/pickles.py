"""Pickles of plain values and numpy arrays, read without running anything.

A pickle may name any function of any module and call it when it is read. Here
only what a pickled array itself names is known; all else is refused.
"""

from collections.abc import Callable, Mapping
import io
import pickle
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


_KNOWN: dict[tuple[str, str], Any] = {
    ("__builtin__", "bytes"): _none_encoded,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encoded,
}
# By the names that numpy 1 and 2 give them.
for _core in ("numpy.core", "numpy._core"):
    _KNOWN |= {
        (f"{_core}.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
        (f"{_core}.multiarray", "scalar"): np.float32(0).__reduce__()[0],
        (f"{_core}.numeric", "_frombuffer"): np.zeros(0).__reduce_ex__(5)[0],
    }


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
    return _Unpickler(content, encoding, names, persistent).load()
