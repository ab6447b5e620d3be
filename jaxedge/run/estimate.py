"""The mean over chips to a wanted precision, with as few chips as it takes.

Four ways, each with the same mean:

- "plain": independent chips.
- "antithetic": chips in pairs of a key and its mirrored twin, whose random
  numbers have the opposite sign. What is odd in them cancels. Any network, any
  hardware (Owen, Monte Carlo theory, methods and examples, 2013, section 8.2).
- "control": from each chip a control of known mean is subtracted, such as the
  response of the linearised network (`control`), times a fitted factor (Owen
  2013, section 8.9; Glasserman, Monte Carlo methods in financial engineering,
  2003, section 4.1).
- any of them on `hardware.ensemble`, where each example has a chip of its own:
  examples no longer fail together, and no cell is drawn.
"""

from collections.abc import Callable, Sequence
import functools
import time
from typing import Any, NamedTuple
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import hardware
from jaxedge.core import checks
from jaxedge.core.keys import chip_keys, mirror, stream
from jaxedge.core.trees import map_named, path_name
from jaxedge.hardware import crossbar, ensemble
from jaxedge.run.chips import chip_map

METHODS = ("plain", "antithetic", "control")


class Estimate(NamedTuple):
    """A mean over chips.

    Attributes:
        mean: the estimate.
        low: lower end of the confidence interval.
        high: its upper end.
        std_error: standard error of the mean.
        chips: how many were computed.
        seconds: that it took, with compilation if there was one.
        variance_ratio: plain chips of the same precision / chips computed.
    """

    mean: float
    low: float
    high: float
    std_error: float
    chips: int
    seconds: float
    variance_ratio: float


def estimate(
    f: Callable[..., Any],
    key: jax.Array,
    half_width: float,
    *,
    args: Sequence[Any] = (),
    method: str = "plain",
    confidence: float = 0.95,
    batch: int = 64,
    most: int = 65536,
) -> Estimate:
    """The mean of `f(key, *args)` over chips, to a confidence interval.

    Adds batches of chips until the interval, from Student's distribution, is
    narrow enough. The factors of controls are fitted on the other half of the
    chips, so that the mean has no bias. (Stopping when the interval looks
    narrow makes its coverage smaller by a little that falls with `batch`.)

    Args:
        f: pure function of a chip key and `args` to a number; for "control"
            to a pair of a number and controls [K] (or []) of mean 0.
        key: chips are a prefix of its stream "chips".
        half_width: wanted half of the interval, > 0.
        args: further arguments of `f`.
        method: "plain", "antithetic" or "control".
        confidence: of the interval, in (0, 1).
        batch: keys between two looks, at least 8; an antithetic key makes two
            chips.
        most: keys to end with, whatever the interval, with a warning.

    Returns:
        The estimate.

    Raises:
        UsageError: for an argument out of range.
    """
    checks.choice("method", method, METHODS)
    checks.in_range("half_width", half_width, 0, open_low=True)
    checks.in_range("confidence", confidence, 0, 1 - 1e-9, open_low=True)
    checks.whole("batch", batch, 8)
    checks.whole("most", most, batch)
    from scipy import stats  # Slow to load, and needed here alone.

    start = time.perf_counter()
    work = _pair(f) if method == "antithetic" else f
    rows: list[Any] = []
    while True:
        n = batch * (len(rows) + 1)
        keys = chip_keys(stream(key, "chips"), n)[n - batch :]
        out = chip_map(work, keys, args=args)
        _check_result(out, method)
        rows.append(jax.tree.map(np.asarray, out))
        values, terms = _terms(rows, method)
        error = float(terms.std(ddof=1) / np.sqrt(n))
        reach = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * error
        if reach <= half_width or n + batch > most:
            break
    if reach > half_width:
        warnings.warn(
            f"{n} keys give the mean to {reach:.3g} only, not to"
            f" {half_width:.3g}: raise `most` or choose another method.",
            stacklevel=2,
        )
    mean, chips = float(terms.mean()), values.size
    plain = values.var(ddof=1) / chips
    return Estimate(
        mean,
        mean - reach,
        mean + reach,
        error,
        chips,
        time.perf_counter() - start,
        float(plain / error**2) if error else 1.0,
    )


class Linear(NamedTuple):
    """A network linearised in its weights; made by `linearise`.

    Attributes:
        slope: of a smooth score to each weight on hardware, by path.
        mean: the weights that chips hold in the mean, by path.
    """

    slope: dict[str, jax.Array]
    mean: dict[str, jax.Array]


def linearise(
    score: Callable[[Any], jax.Array], params: Any, spec: crossbar.Spec
) -> Linear:
    """Linearises a score of the network around the mean chip.

    Args:
        score: smooth stand-in of what is estimated, a function of parameters
            (plain arrays) to a number; for the accuracy the mean probability
            of the right class, at a softmax temperature near the spread that
            chips give the logits. A poor one costs precision, not truth.
        params: to be deployed with `spec`, matrices and kernels.
        spec: the hardware of all of them.

    Returns:
        What `control` needs.

    Raises:
        UsageError: for hardware that is no crossbar, or weights that are no
            plain arrays.
    """
    if not isinstance(spec, crossbar.Spec):
        raise checks.UsageError(
            f"a {type(spec).__module__.split('.')[-1]} design is no crossbar,"
            " whose cells a score is linearised in; estimate it with"
            " method='antithetic', or a digital one by a single chip."
        )
    mean: dict[str, jax.Array] = {}

    def middle(path: str, w: Any) -> Any:
        if hardware.is_weight(w):
            raise checks.UsageError(
                f"{path} is a {type(w).__name__}, but linearise needs plain"
                " arrays; estimate it with method='antithetic'."
            )
        if jnp.ndim(w) not in (2, 4):
            return w
        mean[path] = ensemble.mean_weights(spec, w)
        return mean[path]

    at = map_named(middle, params, is_leaf=hardware.is_weight)
    slopes = jax.tree_util.tree_leaves_with_path(jax.grad(score)(at))
    named = {path_name(path): slope for path, slope in slopes}
    return Linear({path: named[path] for path in mean}, mean)


def control(linear: Linear, chip: Any) -> jax.Array:
    """What the linearised network says of a chip, []; its mean is 0.

    Args:
        linear: from `linearise`, for the parameters and hardware of the chip.
        chip: deployed parameters.

    Raises:
        UsageError: when the chip has other weights on crossbars.
    """
    leaves = jax.tree_util.tree_leaves_with_path(
        chip, is_leaf=hardware.is_weight
    )
    found = {
        path_name(path): ensemble.weights(leaf)
        for path, leaf in leaves
        if isinstance(leaf, hardware.Crossbar)
    }
    if found.keys() != linear.mean.keys():
        raise checks.UsageError(
            f"the chip has crossbars at {sorted(found)}, but the network was"
            f" linearised at {sorted(linear.mean)}; deploy one spec for all."
        )
    parts = [
        jnp.vdot(linear.slope[path], w - linear.mean[path])
        for path, w in found.items()
    ]
    return jnp.sum(jnp.stack(parts))


@functools.cache
def _pair(f: Callable[..., Any]) -> Callable[..., jax.Array]:
    """A chip and its twin, [2]; cached, for `chip_map` compiles by function."""

    def both(key: jax.Array, *args: Any) -> jax.Array:
        return jnp.stack([f(key, *args), f(mirror(key), *args)])

    return both


def _terms(rows: list[Any], method: str) -> tuple[np.ndarray, np.ndarray]:
    """Values of all chips, and the terms whose mean is the estimate."""
    if method == "control":
        values = np.concatenate([y for y, _ in rows]).astype(float)
        controls = np.concatenate([c for _, c in rows]).astype(float)
        return values, _controlled(values, controls.reshape(len(values), -1))
    values = np.concatenate(rows).astype(float)
    return values.ravel(), values.reshape(len(values), -1).mean(1)


def _check_result(out: Any, method: str) -> None:
    """Raises unless a chip gave a number, and its controls where needed."""
    leaves = jax.tree.leaves(out)
    wanted = 2 if method == "control" else 1
    shaped = leaves and np.ndim(leaves[0]) == 1 + (method == "antithetic")
    if len(leaves) != wanted or not shaped:
        shapes = [np.shape(leaf)[1:] for leaf in leaves]
        told = ("one number", "a pair of a number and controls [K]")
        raise checks.UsageError(
            f"method {method!r} needs a function that returns"
            f" {told[wanted - 1]}, got arrays of shapes {shapes}."
        )


def _controlled(values: np.ndarray, controls: np.ndarray) -> np.ndarray:
    """Values less their regression on controls, fitted on the other half."""
    terms = values.copy()
    half = np.arange(len(values)) % 2 == 0
    for these, others in ((half, ~half), (~half, half)):
        c, y = controls[others], values[others]
        factor = np.linalg.lstsq(c - c.mean(0), y - y.mean(), rcond=None)[0]
        terms[these] -= controls[these] @ factor
    return terms
