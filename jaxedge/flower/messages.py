"""Pytrees as Flower's records: an array a leaf, by its path."""

from typing import Any

from flwr.app import Array, ArrayRecord
import numpy as np

from jaxedge.flower import store


def pack(tree: Any) -> ArrayRecord:
    """A pytree of arrays as a record."""
    return record(store.flat(tree))


def record(arrays: dict[str, np.ndarray]) -> ArrayRecord:
    """Arrays by name as a record."""
    # Flower keeps the bytes of contiguous arrays alone.
    return ArrayRecord(
        {name: Array(np.asarray(a, order="C")) for name, a in arrays.items()}
    )


def unpack(sent: ArrayRecord, like: Any, what: str) -> Any:
    """The pytree of a record.

    Args:
        sent: as from `pack`.
        like: a pytree of arrays or their shapes.
        what: the record is, for a message.

    Raises:
        UsageError: naming an array that is missing, of another shape or dtype,
            or that nothing here is called.
    """
    return store.whole(arrays(sent), like, what)


def arrays(sent: ArrayRecord) -> dict[str, np.ndarray]:
    """The arrays of a record by name."""
    return {name: array.numpy() for name, array in sent.items()}
