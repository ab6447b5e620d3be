"""Meshes in the Object File Format (.off), as triangles.

A file is "OFF", the numbers of vertices, faces and edges, a line x y z a
vertex, and a line a face: how many corners, then their vertices. ModelNet40 has
files whose numbers follow "OFF" on its own line. Letters: V vertices, F faces.
"""

import numpy as np

from jaxedge.core import checks
from jaxedge.data import tables

# More than any file has of anything.
_DIGITS = 18


def triangles(content: bytes, what: str) -> np.ndarray:
    """The corners of a mesh's triangles.

    A polygon becomes the fan of triangles from its first corner, which covers
    it if it is convex.

    Args:
        content: of the file.
        what: what it is, for messages.

    Returns:
        [F, 3, 3] float32: triangle, corner, coordinate; unit of the file.

    Raises:
        UsageError: for what is no such file, is cut short, or has no face, no
            area, or a face of vertices that are not there.
    """
    lines = _lines(content)
    total, polygons, body = _counts(lines, what)
    vertices = tables.read(
        body[:total], f"{what} (vertices)", columns=3, dtype=np.float32
    )
    fans = _fans(body[total : total + polygons], what)
    if fans.min() < 0 or fans.max() >= total:
        raise _bad(what, f"has a face of a vertex beyond its {total}")
    corners = vertices[fans]
    sides = corners[:, 1:] - corners[:, :1]
    if not np.cross(sides[:, 0], sides[:, 1]).any():
        raise _bad(what, "has no face with an area")
    return corners


def _lines(content: bytes) -> list[str]:
    text = content.decode("ascii", errors="replace")
    stripped = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in stripped if line]


def _counts(lines: list[str], what: str) -> tuple[int, int, list[str]]:
    """Numbers of vertices and of faces, and the lines that hold them."""
    if not lines or not lines[0].startswith("OFF"):
        raise _bad(what, "does not start with OFF")
    head = lines[0][3:].split()
    body = lines[1:] if head else lines[2:]
    counts = (head or " ".join(lines[1:2]).split())[:2]
    if len(counts) != 2 or not all(map(_is_number, counts)):
        shown = " ".join(counts)[:40]
        raise _bad(what, f"states {shown!r}, no numbers of parts")
    total, polygons = map(int, counts)
    if not polygons or not total:
        raise _bad(what, f"has {total} vertices and {polygons} faces")
    if len(body) < total + polygons:
        raise _bad(
            what,
            f"is cut short: it states {total} vertices and {polygons} faces,"
            f" but {len(body)} lines follow",
        )
    return total, polygons, body


def _is_number(word: str) -> bool:
    return word.isdecimal() and len(word) < _DIGITS


def _fans(lines: list[str], what: str) -> np.ndarray:
    """Triangles [F, 3] of the vertices' numbers, by the size of polygons."""
    by_size = {}
    for line in lines:
        by_size.setdefault(line.split(maxsplit=1)[0], []).append(line)
    found = []
    for size, rows in sorted(by_size.items()):
        # A size beyond the line's own length would be counted out first.
        fits = _is_number(size) and 3 <= int(size) <= len(rows[0])
        if not fits:
            raise _bad(what, f"has a face of {size[:20]} corners")
        polygons = tables.read(
            rows, f"{what} (faces)", columns=int(size), first=1,
            dtype=np.int64,
        )  # fmt: skip
        for k in range(1, int(size) - 1):
            found.append(polygons[:, [0, k, k + 1]])
    return np.concatenate(found)


def _bad(what: str, fault: str) -> checks.UsageError:
    return checks.UsageError(f"{what} {fault}; it is no usable .off mesh.")
