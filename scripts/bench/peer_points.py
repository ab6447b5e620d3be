"""The work of scripts/bench/points.py in torch; knows nothing of jaxedge.

    PEER_PYTHON scripts/bench/peer_points.py TASK.npz RESULT.npz

Farthest points by a loop with a gather, the ball query by a matrix product, a
mask and a sort, the interpolation by a sort: how point networks are usually
written in torch.
"""

from collections.abc import Callable
import json
import statistics
import sys
import time
from typing import Any

import numpy as np
import torch  # type: ignore


def rows(values: Any, idx: Any) -> Any:
    """Rows of [B, N, C] at [B, ...]."""
    cloud = torch.arange(len(values)).view(-1, *[1] * (idx.ndim - 1))
    return values[cloud, idx]


def square_distance(a: Any, b: Any) -> Any:
    """[B, S, N] as |a|^2 + |b|^2 - 2 a b."""
    product = torch.matmul(a, b.transpose(1, 2))
    total = -2 * product + (a**2).sum(-1)[:, :, None]
    return total + (b**2).sum(-1)[:, None, :]


def farthest(points: Any, n: int) -> Any:
    """Indices [B, n], the first of which is 0."""
    clouds, total, _ = points.shape
    chosen = torch.zeros(clouds, n, dtype=torch.long)
    distance = torch.full((clouds, total), 1e10)
    last = torch.zeros(clouds, dtype=torch.long)
    for i in range(n):
        chosen[:, i] = last
        away = ((points - rows(points, last[:, None])) ** 2).sum(-1)
        distance = torch.minimum(distance, away)
        last = distance.max(-1)[1]
    return chosen


def ball(radius: float, n: int, points: Any, centroids: Any) -> Any:
    """Indices [B, S, n] within the radius, filled up with the first."""
    total = points.shape[1]
    outside = square_distance(centroids, points) > radius**2
    idx = torch.arange(total).repeat(*outside.shape[:2], 1)
    idx[outside] = total
    idx = idx.sort(-1)[0][..., :n]
    first = idx[..., :1].expand_as(idx)
    return torch.where(idx == total, first, idx)


def interpolate(dst: Any, src: Any, feats: Any) -> Any:
    """Features of the three nearest, weighted by the inverse square."""
    squared, idx = square_distance(dst, src).sort(-1)
    weight = 1 / (squared[..., :3] + 1e-8)
    weight = weight / weight.sum(-1, keepdim=True)
    return (rows(feats, idx[..., :3]) * weight[..., None]).sum(-2)


def measured(work: Callable[[], Any], repeats: int) -> tuple[list[float], Any]:
    """Seconds of each repeat on one thread or all, whichever is faster.

    Where other programs use the cores too, threads that wait for each other
    take up to twenty times as long as one.
    """
    found, fastest = work(), []
    threads = torch.get_num_threads()
    for used in {1, threads}:
        torch.set_num_threads(used)
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            found = work()
            seconds.append(time.perf_counter() - start)
        fastest = min(fastest or seconds, seconds, key=statistics.median)
    torch.set_num_threads(threads)
    return fastest, found


def console() -> None:
    """Does the task and leaves the seconds and what was found."""
    with np.load(sys.argv[1]) as given:
        task = json.loads(str(given["task"]))
        x, c, f = (torch.from_numpy(given[k]) for k in "xcf")
    works: dict[str, Callable[[], Any]] = {
        "farthest": lambda: farthest(x, task["centroids"]),
        "ball": lambda: ball(task["radius"], task["neighbours"], x, c),
        "interpolate": lambda: interpolate(x, c, f),
    }
    result: dict[str, Any] = {}
    with torch.no_grad():
        for name, work in works.items():
            seconds, found = measured(work, task["repeats"])
            result |= {f"seconds/{name}": seconds, name: found.numpy()}
    np.savez(sys.argv[2], version=torch.__version__, **result)


if __name__ == "__main__":
    console()
