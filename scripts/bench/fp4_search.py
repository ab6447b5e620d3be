"""A search of a layer's formats, watched: its parts, its floor, its error.

Called by `scripts/bench/fp4.py`. Letters: B calibration vectors, I inputs, O
outputs.
"""

from collections.abc import Callable
import contextlib
import time
from typing import Any, NamedTuple
from unittest import mock

import jax
from jax.core import Tracer
import jax.numpy as jnp
import numpy as np

from jaxedge.quantize import fpq, search

# Functions of `fpq` that take the time.
PARTS = {
    "quantised": "quantising vectors",
    "form": "forms (X^T X)",
    "_weight_scales": "candidates of weights",
    "_activation_scales": "candidates of activations",
}
_COMPILED = "/jax/core/compile/backend_compile_duration"


class Watched(NamedTuple):
    """What a search took.

    Attributes:
        seconds: all of it.
        compiling: seconds of them that XLA compiled.
        parts: seconds of each of `PARTS`, and of the "rest".
        calls: of each of `PARTS`.
        products: multiplications and additions of the forms and of the
            candidates that are judged by all of a form.
        error: of the layer's product, relative to its power.
    """

    seconds: float
    compiling: float
    parts: dict[str, float]
    calls: dict[str, int]
    products: float
    error: float


def layer(
    vectors: int, inputs: int, outputs: int
) -> tuple[np.ndarray, np.ndarray]:
    """x [B, I], whose channels differ as those of language models, w [I, O]."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((vectors, inputs), np.float32)
    x *= np.exp(rng.normal(size=inputs)).astype(np.float32)
    w = rng.standard_normal((inputs, outputs), np.float32)
    return x, w * np.float32(inputs**-0.5)


def watched(x: np.ndarray, w: np.ndarray) -> Watched:
    """Method fpq with the paper's candidates, once, all of it compiled anew."""
    jax.clear_caches()
    xs, ws = jnp.asarray(x), jnp.asarray(w)
    parts = dict.fromkeys(PARTS.values(), 0.0)
    calls = dict.fromkeys(PARTS.values(), 0)
    counted, compiled = [], []

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        compiled.extend([duration_secs] * (event == _COMPILED))

    jax.monitoring.register_event_duration_secs_listener(listen)
    with contextlib.ExitStack() as stack:
        for name, part in PARTS.items():
            f = getattr(fpq, name)

            def timed(
                *args: Any, f: Callable = f, part: str = part, **kw: Any
            ) -> Any:
                if isinstance(args[0], Tracer):  # Within jit: no time.
                    return f(*args, **kw)
                start = time.perf_counter()
                found = jax.block_until_ready(f(*args, **kw))
                parts[part] += time.perf_counter() - start
                calls[part] += 1
                counted.append(products(part, args))
                return found

            stack.enter_context(mock.patch.object(fpq, name, timed))
        start = time.perf_counter()
        found = search.linear(xs, ws, method="fpq", search="paper")
        jax.block_until_ready(found)
        taken = time.perf_counter() - start
    parts["rest"] = taken - sum(parts.values())
    error = apart(xs, ws, found)
    return Watched(taken, sum(compiled), parts, calls, sum(counted), error)


def products(part: str, args: tuple[Any, ...]) -> float:
    """Multiplications and additions that a call cannot do without."""
    if part == PARTS["form"]:
        # The two of X^T X, and what they do to the other operand.
        (k, i), n = args[0].shape, args[2].shape[1]
        return 4.0 * k * i * i + 4.0 * i * i * n
    if "candidates" not in part or args[1].exact:
        return 0.0
    i, n = args[1].linear.shape
    return 2.0 * fpq._BEST * i * i * n


def apart(x: jax.Array, w: jax.Array, found: Any) -> float:
    """Squared error of a layer relative to its power, some vectors a time."""
    off = power = 0.0
    for start in range(0, len(x), 4096):
        some = x[start : start + 4096]
        y = some @ w
        off += float(jnp.sum((found.apply(some) - y) ** 2))
        power += float(jnp.sum(y**2))
    return off / power
