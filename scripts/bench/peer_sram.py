"""The work of scripts/bench/sram.py in torch; knows nothing of jaxedge.

    PEER_PYTHON scripts/bench/peer_sram.py TASK.npz RESULT.npz

A layer on arrays of 64 rows as it is usually written in torch: the four
products of the two signs of inputs and weights, and a loop over the decisions
of the converters with noise at each.
"""

from collections.abc import Callable
import json
import math
import sys
import time
from typing import Any

import numpy as np
import torch  # type: ignore


class Macro:
    """One chip of a layer.

    Attributes:
        plus: units that an input of 1 takes from the line of its sign,
            [T, N, M].
        minus: and from the other.
        pulses: of plus and of minus.
        steps: relative errors of the conversion, [n, 2, T, M].
        offset: of the columns, LSB, [T, M].
    """

    def __init__(self, w: Any, task: dict[str, Any]):
        tiles, _, columns = w.shape
        self.task = task
        plus = torch.zeros_like(w)
        minus, ones, other = plus.clone(), plus.clone(), plus.clone()
        for b in range(3):
            bit = ((w.abs().int() >> b) & 1).float()
            size = 2**b * (1 + task["sigma_cell"] * torch.randn(w.shape))
            plus += size * bit * (w > 0)
            minus += size * bit * (w < 0)
            ones += bit * (w > 0)
            other += bit * (w < 0)
        self.plus, self.minus, self.pulses = plus, minus, (ones, other)
        cells = torch.tensor([min(64, 2**k) for k in range(task["steps"])])
        errors = torch.randn(task["steps"], 2, tiles, columns)
        self.steps = (
            task["sigma_cell"] * errors / cells.sqrt().view(-1, 1, 1, 1)
        )
        self.offset = task["sigma_off"] * torch.randn(tiles, columns)

    def __call__(self, x: Any) -> Any:
        """Codes [B, T, M] of inputs [B, T, N]."""
        t = self.task
        lsb, n = t["lsb"], t["steps"]
        swing = 2**n * lsb
        x = x - t["fold"]
        up, down = x.clamp(min=0), (-x).clamp(min=0)

        def add(a: Any, b: Any) -> Any:
            return torch.einsum("btn,tnm->btm", a, b)

        plus = add(up, self.plus) + add(down, self.minus)
        minus = add(up, self.minus) + add(down, self.plus)
        lit, dark = (up > 0).float(), (down > 0).float()
        one, two = self.pulses
        count = add(lit, one) + add(dark, two), add(lit, two) + add(dark, one)
        for line, pulses in zip((plus, minus), count, strict=True):
            line += t["sigma_pulse"] * pulses.sqrt() * torch.randn(line.shape)
            line.clamp_(max=swing)
        d = plus - minus + 0.5 + lsb * self.offset
        d += lsb * t["sigma_line"] * torch.randn(d.shape)
        code = torch.zeros_like(d)
        for k in range(n, 0, -1):
            noise = lsb * t["sigma_cmp"] * torch.randn(d.shape)
            high = d + noise > 0
            error = torch.where(
                high, self.steps[k - 1, 1], self.steps[k - 1, 0]
            )
            sign = torch.where(high, 1.0, -1.0)
            code += sign * 2 ** (k - 1)
            d -= sign * 2 ** (k - 1) * lsb * (1 + error)
        noise = lsb * t["sigma_cmp"] * torch.randn(d.shape)
        return code - (d + noise <= 0).float()


def measured(work: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each repeat; the first, which warms up, is not counted."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def console() -> None:
    """Does the task and leaves the seconds and the errors."""
    with np.load(sys.argv[1]) as given:
        task = json.loads(str(given["task"]))
        x, w = (torch.from_numpy(given[k]) for k in "xw")
    torch.manual_seed(0)
    with torch.no_grad():
        macro = Macro(w, task)
        seconds = measured(lambda: macro(x), task["repeats"])
        # Errors over chips, a few vectors each.
        squares = []
        want = torch.einsum("btn,tnm->btm", x[:64], w)
        constant = task["fold"] * w.sum(1)
        for _ in range(task["chips"]):
            code = Macro(w, task)(x[:64])
            value = (code + 0.5) * task["lsb"] - 0.5 + constant
            squares.append(float(((value - want) ** 2).mean()))
    error = math.sqrt(sum(squares) / len(squares))
    version = torch.__version__
    np.savez(sys.argv[2], seconds=seconds, error=error, version=version)


if __name__ == "__main__":
    console()
