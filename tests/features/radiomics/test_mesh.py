"""The table of triangles: what it says closes over cubes and their faces."""

import functools

import numpy as np

from jaxedge.features.radiomics import mesh


@functools.cache
def sums():
    """Twice the area vectors of each configuration, in half voxels."""
    return np.array([
        np.cross(t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]).sum(0)
        for t in mesh._TRIANGLES_256
    ])  # fmt: skip


def test_triangles_join_what_the_faces_of_a_cube_show():
    """Each patch and the inside parts of the faces close a body."""
    for configuration in range(256):
        inside = np.zeros((2, 2, 2), int)
        for bit, corner in enumerate(mesh._CORNERS_8x3):
            inside[tuple(corner)] = configuration >> bit & 1
        kept = inside[1, 1, 0]
        for axis in range(3):
            parts = []
            for face in np.moveaxis(inside, axis, 0):
                n = face.sum()
                crossed = n == 2 and face[0, 0] == face[1, 1]
                part = 6 * kept + 2 * (1 - kept) if crossed else 4
                parts.append((0, 1, part, 7, 8)[n])
            assert sums()[configuration, axis] == parts[0] - parts[1]


def test_triangles_have_their_corners_on_cut_edges():
    for configuration, triangles in enumerate(mesh._TRIANGLES_256):
        cut = {
            tuple(mesh._CORNERS_8x3[[a, b]].sum(0))
            for a, b in mesh._EDGES
            if (configuration >> a ^ configuration >> b) & 1
        }
        assert {tuple(p) for p in triangles.reshape(-1, 3)} == cut
    used = {len(t) for t in mesh._TRIANGLES_256}
    assert used == {0, 1, 2, 3, 4, 5}


def test_every_side_within_a_cube_belongs_to_two_triangles():
    for triangles in mesh._TRIANGLES_256:
        sides = [
            (tuple(t[i]), tuple(t[i - 2])) for t in triangles for i in range(3)
        ]
        for a, b in sides:
            on_a_face = any(
                p == q and p in (0, 2) for p, q in zip(a, b, strict=True)
            )
            assert sides.count((a, b)) == 1
            assert on_a_face or (b, a) in sides
