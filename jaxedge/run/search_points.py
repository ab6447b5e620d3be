"""Points of a sweep over configs: a grid, random draws, or a config's own.

A point says to what fields of a config are set, in the words of a command line.
(What a study sweeps over its chips, within one run, is in `run.sweeps`.)
"""

from collections.abc import Mapping
import importlib.util
import itertools
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks
from jaxedge.core.keys import stream

Point = dict[str, str]


class NoSweepError(checks.UsageError):
    """A config file without a sweep of its own."""


KINDS = ("log", "linear", "whole", "choice")
_GRID = "--grid='optimizer.learning_rate=1e-3,1e-4;train.batch=32,64'"
_RANGES = (
    "--ranges='optimizer.learning_rate=log:1e-4:1e-2;train.batch=choice:32,64'"
)
# Of a drawn number; more would only make names long.
_DIGITS = 6
# Times as many draws as points that are asked for, at most.
_ROUNDS = 1000


class Range(NamedTuple):
    """Where a field is drawn from.

    Attributes:
        kind: "log" or "linear" (real numbers), "whole" (numbers) or "choice".
        low: least number.
        high: largest number, which "whole" may reach.
        options: of "choice", as text.
    """

    kind: str
    low: float = 0.0
    high: float = 0.0
    options: tuple[str, ...] = ()

    @property
    def size(self) -> float:
        """How many values there are."""
        if self.kind == "choice":
            return len(self.options)
        return self.high - self.low + 1 if self.kind == "whole" else math.inf

    def at(self, u: float) -> str:
        """The value at u in [0, 1) of the range, as text."""
        if self.kind == "choice":
            return self.options[int(u * len(self.options))]
        if self.kind == "whole":
            return str(int(self.low) + int(u * self.size))
        if self.kind == "log":
            low, high = math.log(self.low), math.log(self.high)
            value = math.exp(low + u * (high - low))
        else:
            value = self.low + u * (self.high - self.low)
        rounded = float(f"{value:.{_DIGITS}g}")
        return repr(min(max(rounded, self.low), self.high))


def split(text: str, mark: str) -> list[str]:
    """Cuts at a mark that is in no brackets and no quotes; strips the parts.

    Raises:
        UsageError: for brackets or quotes that do not close.
    """
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter == mark and not depth:
            parts.append("")
            continue
        depth += (letter in "([{") - (letter in ")]}") if not quote else 0
        parts[-1] += letter
    if depth or quote:
        what = f"the quote {quote}" if quote else "a bracket"
        raise checks.UsageError(f"{what} in {text!r} does not close.")
    return [part.strip() for part in parts]


def fields(text: str, flag: str, example: str) -> dict[str, str]:
    """Reads "name=text;name=text".

    Args:
        text: of the flag.
        flag: its name.
        example: of how it is written.

    Raises:
        UsageError: for a part without a name or a value, or a name twice.
    """
    found: dict[str, str] = {}
    for part in filter(None, split(text, ";")):
        name, _, value = (word.strip() for word in part.partition("="))
        name = name.removeprefix("config.")
        if not name or not value:
            raise checks.UsageError(
                f"{flag} has the part {part!r}, but its parts are name=values;"
                f" for example {example}."
            )
        if name in found:
            raise checks.UsageError(f"{flag} names {name} twice; join them.")
        found[name] = value
    if not found:
        raise checks.UsageError(f"{flag} is empty; for example {example}.")
    return found


def grid(text: str) -> list[Point]:
    """Every combination of some values; the last field changes fastest.

    Args:
        text: "field=value,value;field=value,value"; a value with commas stands
            in brackets or quotes.

    Raises:
        UsageError: for text that is none, or a value twice.
    """
    axes = {
        name: _values(name, values, "--grid")
        for name, values in fields(text, "--grid", _GRID).items()
    }
    return [
        dict(zip(axes, chosen, strict=True))
        for chosen in itertools.product(*axes.values())
    ]


def ranges(text: str) -> dict[str, Range]:
    """Reads "field=log:low:high;field=choice:value,value".

    Raises:
        UsageError: for text that is none, or a range without numbers.
    """
    return {
        name: _range(name, value)
        for name, value in fields(text, "--ranges", _RANGES).items()
    }


def draw(where: Mapping[str, Range], n: int, seed: int) -> list[Point]:
    """Random points, all different.

    A point does not change when more are drawn, nor a field of it when another
    field is added (unless two points are then no longer the same).

    Args:
        where: fields are drawn from.
        n: how many points, at least 1.
        seed: of the draws.

    Raises:
        UsageError: if there are not so many points.
    """
    checks.whole("--random", n, 1)
    checks.in_range("--sweep_seed", seed, 0, 2**31 - 1)
    size = math.prod(entry.size for entry in where.values())
    if n > size:
        raise checks.UsageError(
            f"--random is {n}, but --ranges holds {size:.0f} points only; ask"
            " for fewer, or for all of them with --grid."
        )
    key = stream(jax.random.key(seed), "sweep")
    found: dict[tuple[str, ...], Point] = {}
    for first in range(0, _ROUNDS * n, n):
        drawn = {
            name: _uniform(stream(key, name), first, n).tolist()
            for name in where
        }
        for place in range(n):
            point = {
                name: entry.at(drawn[name][place])
                for name, entry in where.items()
            }
            found.setdefault(tuple(point.values()), point)
            if len(found) == n:
                return list(found.values())
    raise checks.UsageError(
        f"--random is {n}, but {_ROUNDS * n:,} draws from --ranges hold"
        f" {len(found)} different points only (values have six digits);"
        " widen the ranges, or ask for fewer."
    )


def configured(source: str) -> list[Point]:
    """The points that `sweep` of a config file makes.

    Args:
        source: "path.py" or "path.py:variant"; the variant is given to `sweep`.

    Raises:
        NoSweepError: if there is no such function.
        UsageError: if it fails, or makes no points.
    """
    path, _, variant = source.partition(":")
    make = getattr(_module(path), "sweep", None)
    if make is None:
        raise NoSweepError(
            f"{path} defines no sweep(variant), and neither --grid nor --random"
            f" is given; for example {_GRID}."
        )
    try:
        made = list(make(*([variant] if variant else [])))
    except checks.UsageError:
        raise
    except Exception as error:  # noqa: BLE001 - a config is a program
        raise checks.UsageError(
            f"sweep() of {path} fails with {type(error).__name__}:"
            f" {' '.join(str(error).split())}."
        ) from error
    for point in made:
        named = isinstance(point, Mapping) and all(
            isinstance(name, str) for name in point
        )
        if not named:
            raise checks.UsageError(
                f"sweep() of {path} makes {point!r}, but must make dicts of"
                " values by field, such as {'optimizer.learning_rate': 0.01}."
            )
    if not made:
        raise checks.UsageError(f"sweep() of {path} makes no points.")
    return [
        {
            name.removeprefix("config."): as_text(name, value)
            for name, value in point.items()
        }
        for point in made
    ]


def as_text(name: str, value: Any) -> str:
    """A value of a field in the words of a command line.

    Raises:
        UsageError: for a value that has no such words.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list):
        value = tuple(value)
    if value is None or isinstance(value, (bool, int, float, tuple)):
        return repr(value)
    if isinstance(value, str):
        return value
    raise checks.UsageError(
        f"sweep() sets {name} to a {type(value).__name__}, but values are"
        " numbers, text, tuples or None."
    )


def _uniform(key: jax.Array, first: int, n: int) -> np.ndarray:
    """Numbers `first` to `first + n` of a stream, [n] in [0, 1)."""
    steps = jnp.arange(first, first + n)
    one = jax.vmap(
        lambda step: jax.random.uniform(jax.random.fold_in(key, step))
    )
    return np.asarray(one(steps), np.float64)


def _values(name: str, text: str, flag: str) -> list[str]:
    found = split(text, ",")
    if not all(found):
        raise checks.UsageError(
            f"{flag} gives {name} an empty value ({text!r}); write '' for empty"
            " text."
        )
    found = [_unquoted(value) for value in found]
    if len(set(found)) < len(found):
        raise checks.UsageError(f"{flag} gives {name} a value twice: {text}.")
    return found


def _unquoted(text: str) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted and text[0] not in text[1:-1] else text


def _range(name: str, text: str) -> Range:
    kind, _, rest = text.partition(":")
    checks.choice(f"kind of range of {name}", kind, KINDS)
    if kind == "choice":
        options = _values(name, rest, "--ranges")
        return Range(kind, options=tuple(options))
    try:
        low, high = (float(word) for word in rest.split(":"))
    except ValueError:
        raise checks.UsageError(
            f"--ranges has {text!r} for {name}, but a range of kind {kind} is"
            f" {kind}:low:high."
        ) from None
    finite = math.isfinite(low) and math.isfinite(high) and low < high
    if not finite or (kind == "log" and low <= 0):
        raise checks.UsageError(
            f"--ranges has {text!r} for {name}, but low must be less than high"
            f"{' and above 0' if kind == 'log' else ''}."
        )
    if kind == "whole" and not (low.is_integer() and high.is_integer()):
        raise checks.UsageError(
            f"--ranges has {text!r} for {name}, but the ends of {kind} are"
            " whole numbers."
        )
    return Range(kind, low, high)


def _module(path: str) -> Any:
    """The program that a config file is."""
    spec = importlib.util.spec_from_file_location("_swept_config", Path(path))
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise checks.UsageError(f"no config file {path!r}.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # noqa: BLE001 - a config is a program
        raise checks.UsageError(
            f"{path} fails with {type(error).__name__}:"
            f" {' '.join(str(error).split())}."
        ) from error
    return module
