"""Derives the triangles of the marching cubes that pyradiomics measures.

    PEER_PYTHON scripts/peers/marching_cubes.py

PEER_PYTHON is a Python that has pyradiomics 3.0.1 (see radiomics_reference.py);
it needs nothing of jaxedge. Prints the table of jaxedge/features/radiomics/
mesh.py: for each configuration of a cube's corners its triangles, three letters
each, one for the middle of an edge. Nothing of the peer is read; it measures
area and signed volume of each configuration alone, as a mask of 2 x 2 x 2
voxels is one cube, for three spacings that have no ratio in common. Against
them stands what is possible:

1. On a face of the cube with two cut edges the mesh runs from one to the other;
   with four, it cuts off either the corners inside or those outside.
2. What so closes on the faces is a loop, outside to its right. All its
   triangulations by diagonals are tried, and all choices of 1.

Where several give all measurements (a plane loop has many), the first in the
order of letters is kept. The measurements of a complement are those of the
configuration with the opposite sign, so that half of the 256 are told.
"""

from collections.abc import Iterator
import functools
import itertools

import numpy as np
from radiomics import cShape  # type: ignore

# (z, y, x) of corner b; corner 7 is not in the half that is told.
CORNERS = [(b >> 1 & 1, b & 1, 1 - (b >> 2)) for b in range(8)]
EDGES = [
    (a, b)
    for a in range(8)
    for b in range(a + 1, 8)
    if bin(a ^ b).count("1") == 1
]
LETTERS = "abcdefghijkl"
MIDDLES = np.array([np.add(CORNERS[a], CORNERS[b]) / 2 for a, b in EDGES])
SPACINGS = np.array([(1.0, 1.3, 1.7), (2.1, 0.9, 1.1), (0.7, 3.1, 1.9)])
CLOSE = 1e-9

Loop = tuple[int, ...]
Triangles = tuple[Loop, ...]


def main() -> None:
    """Prints the table, one word a configuration, "-" without triangles."""
    words = []
    for configuration in range(128):
        found = sorted(fits(configuration))
        if not found:
            raise SystemExit(f"nothing fits configuration {configuration}")
        words.append("".join(LETTERS[e] for t in found[0] for e in t) or "-")
    line = ""
    for word in words:
        if len(line) + len(word) > 71:
            print(line)
            line = ""
        line += f" {word}" if line else word
    print(line)


def fits(configuration: int) -> Iterator[Triangles]:
    """Triangles that measure as the peer does."""
    measured = peer(configuration)
    opposite = peer(255 - configuration) * [1, -1]
    if np.abs(measured - opposite).max() > CLOSE:
        raise SystemExit(f"{configuration} and its complement differ")
    for segments in outlines(configuration):
        loops = [outward(loop, configuration) for loop in closed(segments)]
        for parts in itertools.product(*map(triangulations, loops)):
            triangles = tuple(t for part in parts for t in part)
            total = sum((measure(t) for t in triangles), np.zeros((3, 2)))
            if np.abs(total - measured).max() < CLOSE:
                yield tuple(sorted(map(first_first, triangles)))


def peer(configuration: int) -> np.ndarray:
    """Area and signed volume for each spacing, [3, 2]."""
    mask = np.zeros((2, 2, 2), bool)
    for b, corner in enumerate(CORNERS):
        mask[corner] = configuration >> b & 1
    return np.array(
        [cShape.calculate_coefficients(mask, s)[:2] for s in SPACINGS]
    )


def outlines(configuration: int) -> Iterator[list[Loop]]:
    """Segments between cut edges on the faces, for each choice."""
    options = []
    for face in faces():
        inside = [configuration >> b & 1 for b in face]
        sides = [EDGES.index((min(p), max(p))) for p in around(face)]
        cut = [sides[i] for i in range(4) if inside[i] != inside[i - 3]]
        if len(cut) < 4:
            options.append([[tuple(cut)] if cut else []])
            continue
        # Corner i lies between sides i - 1 and i.
        options.append(
            [
                [(sides[i - 1], sides[i]) for i in range(4) if inside[i] == v]
                for v in (0, 1)
            ]
        )
    for chosen in itertools.product(*options):
        yield [segment for part in chosen for segment in part]


def faces() -> Iterator[list[int]]:
    """The four corners of each face, in turn."""
    for axis, side in itertools.product(range(3), range(2)):
        turn = np.array([(0, 0), (0, 1), (1, 1), (1, 0)])
        corners = np.insert(turn, axis, side, axis=1).tolist()
        yield [CORNERS.index((z, y, x)) for z, y, x in corners]


def around(face: list[int]) -> list[tuple[int, int]]:
    """Its four sides as pairs of corners."""
    return [(face[i], face[(i + 1) % 4]) for i in range(4)]


def closed(segments: list[Loop]) -> list[Loop]:
    """The loops that segments make."""
    rest, loops = list(segments), []
    while rest:
        loop = list(rest.pop())
        while True:
            following = [s for s in rest if loop[-1] in s]
            if not following:
                break
            rest.remove(following[0])
            loop.append(sum(following[0]) - loop[-1])
        loops.append(tuple(loop[:-1]))
    return loops


def outward(loop: Loop, configuration: int) -> Loop:
    """The loop in the order whose area points from inside to outside."""
    points = MIDDLES[list(loop)]
    area = np.cross(points, np.roll(points, -1, 0)).sum(0)
    out = np.zeros(3)
    for edge in loop:
        a, b = EDGES[edge]
        step = np.subtract(CORNERS[b], CORNERS[a])
        out += step if configuration >> a & 1 else -step
    return loop if area @ out > 0 else loop[::-1]


def triangulations(loop: Loop) -> list[Triangles]:
    """All ways to cut a loop along diagonals."""
    if len(loop) < 3:
        return [()]
    found = []
    for k in range(1, len(loop) - 1):
        middle = (loop[0], loop[k], loop[-1])
        for before in triangulations(loop[: k + 1]):
            for after in triangulations(loop[k:]):
                found.append((*before, middle, *after))
    return found


@functools.cache
def measure(triangle: Loop) -> np.ndarray:
    """Area and signed volume above the origin for each spacing, [3, 2]."""
    a, b, c = (MIDDLES[e] * SPACINGS for e in triangle)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    return np.stack([area, (a * np.cross(b, c)).sum(1) / 6], 1)


def first_first(triangle: Loop) -> Loop:
    """The same triangle from its lowest edge on."""
    at = triangle.index(min(triangle))
    return triangle[at:] + triangle[:at]


if __name__ == "__main__":
    main()
