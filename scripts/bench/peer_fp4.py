"""The work of scripts/bench/fp4.py in torch; knows nothing of jaxedge.

    PEER_PYTHON scripts/bench/peer_fp4.py TASK.npz RESULT.npz

Eager operations on every number, as libraries that emulate small formats have
them: microxcaling has shared exponents from a logarithm, an exponent of each
number from another, a shift, a rounding and a clamp. The search tries each
candidate by the product of the whole layer (arXiv:2310.16836, eq. 7 to 15).

Letters: B calibration vectors, I inputs, O outputs.
"""

from collections.abc import Callable
from functools import partial
import json
import sys
import time
from typing import Any

import numpy as np
import torch  # type: ignore

# Exponent and mantissa bits; the second one is what a search starts from.
FORMATS = ((1, 2), (2, 1), (3, 0))
START = FORMATS[1]
GAMMAS = [0.01 + 0.0119 * i for i in range(100)]
ROUNDS = 3
ROWS = 64  # of a result, to compare with ours
# Of E2M1 as OCP has it: the largest exponent and number.
EMAX, TOP = 2, 6.0


def exponent(a: Any) -> Any:
    """floor(log2 |a|), 0 for 0."""
    a = a.abs()
    return torch.floor(torch.log2(a + (a == 0).to(a.dtype)))


def element(a: Any) -> Any:
    """The nearest E2M1."""
    private = exponent(a).clamp(min=0)
    a = torch.round(a / 2**private * 2) / 2 * 2**private
    return a.clamp(-TOP, TOP)


def scaled(x: Any, most: Any) -> Any:
    """E2M1 whose largest code is `most`."""
    scale = most / TOP
    return element(x / scale) * scale


def mxfp4(x: Any) -> Any:
    """32 numbers share a power of two."""
    parts = x.view(*x.shape[:-1], -1, 32)
    shared = 2 ** (exponent(parts.abs().amax(-1, keepdim=True)) - EMAX)
    return (element(parts / shared) * shared).view(x.shape)


def nvfp4(x: Any) -> Any:
    """16 numbers share a scale in e4m3, and all one in float32."""
    parts = x.view(*x.shape[:-1], -1, 16)
    most = parts.abs().amax(-1, keepdim=True)
    whole = most.max() / 448
    code = (most / whole).to(torch.float8_e4m3fn).to(torch.float32)
    return scaled(parts, code * whole).view(x.shape)


FAKE: dict[str, Callable[[Any], Any]] = {
    "E2M1 per tensor": lambda x: scaled(x, x.abs().max()),
    "E2M1 per row": lambda x: scaled(x, x.abs().amax(-1, keepdim=True)),
    "MXFP4": mxfp4,
    "NVFP4": nvfp4,
}


def first_bias(most: Any, format: tuple[int, int]) -> Any:
    """With which the largest code is a value (eq. 7)."""
    e, m = format
    return 2**e - torch.log2(most) + np.log2(2 - 2.0**-m) - 1


def quantised(x: Any, bias: Any, format: tuple[int, int]) -> Any:
    """The nearest values at a bias (eq. 8 and 9)."""
    e, m = format
    top = (2 - 2.0**-m) * 2.0 ** (2**e - 1) * 2**-bias
    x = torch.minimum(torch.maximum(x, -top), top)
    f = torch.floor(torch.log2(x.abs()) + bias).clamp(min=1)
    step = 2 ** (f - m - bias)
    return torch.round(x / step) * step


class Search:
    """Formats and scales of a layer, one operand after the other.

    Attributes:
        x: calibration vectors, [B, I].
        w: weights, [I, O].
        y: their product.
    """

    def __init__(self, x: Any, w: Any):
        self.x, self.w, self.y = x, w, x @ w
        self.channels = {f: first_bias(x.abs().amax(0), f) for f in FORMATS}
        self.rows = {f: first_bias(w.abs().amax(0), f) for f in FORMATS}

    def activations(self, bias: Any, format: tuple[int, int]) -> Any:
        """Vectors at a bias of the tensor and shifts of channels (eq. 15)."""
        shift = torch.round(self.channels[format] - bias)
        shift = shift.clamp(0, 2 ** format[0] - 1)
        return quantised(self.x, bias + shift, format)

    def try_weights(self, gamma: float, format: Any, xq: Any) -> tuple:
        """Biases of a candidate and the errors of the outputs, [O]."""
        bias = gamma * self.rows[format]
        wq = quantised(self.w, bias, format)
        return bias, ((xq @ wq - self.y) ** 2).sum(0)

    def try_activations(self, gamma: float, format: Any, wq: Any) -> tuple:
        """The bias of a candidate and its error, []."""
        bias = gamma * self.channels[format].min()
        xq = self.activations(bias, format)
        return bias, ((xq @ wq - self.y) ** 2).sum()

    def start(self) -> Any:
        """Activations with the largest number on the largest code."""
        return self.activations(self.channels[START].min(), START)

    def best(self, tried: Callable, held: Any) -> tuple:
        """The format and its biases with the least error."""
        found = []
        for format in FORMATS:
            pairs = [tried(gamma, format, held) for gamma in GAMMAS]
            biases, errors = (torch.stack(a) for a in zip(*pairs, strict=True))
            least, at = errors.min(0, keepdim=True)
            bias = biases.gather(0, at)[0]
            found.append((float(least.sum()), format, bias))
        return min(found, key=lambda row: row[0])

    def run(self) -> float:
        """The error of the whole search, relative to the power of y."""
        xq, error = self.start(), float("inf")
        for _ in range(ROUNDS):
            _, format, bias = self.best(self.try_weights, xq)
            wq = quantised(self.w, bias, format)
            error, format, bias = self.best(self.try_activations, wq)
            xq = self.activations(bias, format)
        return error / float((self.y**2).sum())


def seconds(work: Callable[[], Any]) -> float:
    """Of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def console() -> None:
    """Does the task and leaves the seconds and what was found."""
    result: dict[str, Any] = {"version": torch.__version__}
    with np.load(sys.argv[1]) as given, torch.no_grad():
        task = json.loads(str(given["task"]))
        if "fake" in given:
            x = torch.from_numpy(given["fake"])
            for name, f in FAKE.items():
                result[f"rows/{name}"] = f(x)[:ROWS].numpy()
                times = [seconds(lambda f=f: f(x)) for _ in range(task["n"])]
                result[f"seconds/{name}"] = times
        if "x" in given:
            layer = Search(*(torch.from_numpy(given[k]) for k in "xw"))
            # These warm up what a candidate does.
            start = layer.start()
            wq = quantised(layer.w, layer.rows[START], START)
            kinds = {
                "weights": lambda f: layer.try_weights(1.0, f, start),
                "activations": lambda f: layer.try_activations(1.0, f, wq),
            }
            for name, tried in kinds.items():
                result[f"seconds/{name}"] = seconds(partial(tried, START))
            result["product"] = seconds(lambda: start @ wq)
        if "small_x" in given:
            names = ("small_x", "small_w")
            small = Search(*(torch.from_numpy(given[k]) for k in names))
            result["error"] = small.run()
    np.savez(sys.argv[2], **result)


if __name__ == "__main__":
    console()
