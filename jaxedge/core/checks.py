"""Errors that name the culprit, the value and the remedy.

Checks look at concrete values only: under jit, vmap or grad a traced value
passes, because its number is not known there.
"""

from collections.abc import Iterable
import difflib
from typing import Any

import jax
from jax.core import Tracer
import numpy as np

_SHOWN = 12  # More names than that help nobody.


class UsageError(ValueError):
    """An input that the user can mend; the message says how, in one line."""


def unknown(
    kind: str, name: object, options: Iterable[str], most: int = _SHOWN
) -> UsageError:
    """An error for a name that is not among `options`, with a did-you-mean.

    Args:
        kind: what the name should be one of.
        name: as given.
        options: the known names.
        most: how many of them are listed.
    """
    options = sorted(options)
    close = difflib.get_close_matches(str(name), options, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    shown = ", ".join(options[:most]) + (", ..." * (len(options) > most))
    return UsageError(f"unknown {kind} {name!r}.{hint} Known: {shown}.")


def concrete(value: Any) -> bool:
    """Whether `value` holds numbers now (no tracer, no bare object)."""
    return not isinstance(value, Tracer) and isinstance(
        value, (bool, int, float, np.ndarray, np.generic, jax.Array)
    )


def in_range(
    name: str,
    value: Any,
    low: float = -np.inf,
    high: float = np.inf,
    *,
    open_low: bool = False,
) -> None:
    """Raises unless every number of `value` is finite and in [low, high].

    Args:
        name: what the user calls the value.
        value: scalar or array; a tracer passes unchecked.
        low: smallest allowed value (excluded with `open_low`).
        high: largest allowed value.
        open_low: whether `low` itself is forbidden.

    Raises:
        UsageError: naming the value and the allowed range.
    """
    if isinstance(value, Tracer):
        return
    if not concrete(value) or not _real(np.asarray(value).dtype):
        raise UsageError(f"{name} must be a number, got {value!r}.")
    numbers = np.asarray(value)
    bad = ~np.isfinite(numbers) | (numbers > high) | (numbers < low)
    if open_low:
        bad |= numbers == low
    if bad.any():
        bracket = "(" if open_low else "["
        shown = numbers[bad].flat[0] if numbers.ndim else numbers[()]
        raise UsageError(
            f"{name} is {shown}, but must lie in {bracket}{low}, {high}]."
        )


def _real(dtype: np.dtype) -> bool:
    """Whether a dtype holds real numbers; numpy does not know bfloat16."""
    return dtype.kind in "biu" or jax.numpy.issubdtype(dtype, np.floating)


def ordered(low_name: str, low: Any, high_name: str, high: Any) -> None:
    """Raises unless `low` < `high` wherever both are known numbers."""
    if not (concrete(low) and concrete(high)):
        return
    if not np.all(np.less(low, high)):
        raise UsageError(
            f"{low_name} is {low} and {high_name} is {high}, but {low_name}"
            f" must be less than {high_name}."
        )


def whole(name: str, value: Any, low: int = 0) -> None:
    """Raises unless `value` is a whole number of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise UsageError(f"{name} must be a whole number, got {value!r}.")
    in_range(name, value, low)


def finite(name: str, array: Any) -> None:
    """Raises if an array with concrete values holds NaN or infinity.

    Raises:
        UsageError: with the count and the place of the first bad entry.
    """
    if not concrete(array):
        return
    bad = ~np.isfinite(np.asarray(array, dtype=np.float32))
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        raise UsageError(
            f"{name} holds {int(bad.sum())} NaN or infinite values, the first"
            f" at index {place}; clean the array before use."
        )


def choice(name: str, value: object, options: Iterable[str]) -> None:
    """Raises unless `value` is one of `options`."""
    options = tuple(options)
    if value not in options:
        raise unknown(name, value, options)
