import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.data import off

CUBE = """OFF
8 6 0
0 0 0
1 0 0
1 1 0
0 1 0
0 0 1
1 0 1
1 1 1
0 1 1
4 0 1 2 3
4 4 5 6 7
4 0 1 5 4
4 1 2 6 5
4 2 3 7 6
4 3 0 4 7
"""


def area(corners):
    sides = corners[:, 1:] - corners[:, :1]
    return np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=-1).sum() / 2


def test_polygons_become_triangles():
    found = off.triangles(CUBE.encode(), "cube")
    assert found.shape == (12, 3, 3) and found.dtype == np.float32
    assert area(found) == pytest.approx(6)


@pytest.mark.parametrize(
    "text",
    [
        CUBE.replace("OFF\n", "OFF"),  # As in some files of ModelNet40.
        CUBE.replace("OFF\n", "# made by hand\nOFF\n\n"),
        CUBE.replace("4 0 1 2 3\n", "4 0 1 2 3 255 0 0\n"),  # A colour.
        CUBE.replace("\n", "\r\n"),
    ],
)
def test_other_ways_to_write_it(text):
    np.testing.assert_array_equal(
        off.triangles(text.encode(), "cube"),
        off.triangles(CUBE.encode(), "cube"),
    )


def test_polygons_of_several_sizes():
    # A square and the triangle beside it.
    text = "OFF\n5 2 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n2 0 0\n4 0 1 2 3\n3 1 4 2\n"
    found = off.triangles(text.encode(), "house")
    assert found.shape == (3, 3, 3) and area(found) == pytest.approx(1.5)


BAD = {
    "head": (CUBE[4:], "does not start with OFF"),
    "empty": ("", "does not start with OFF"),
    "counts": (CUBE.replace("8 6 0", "eight"), "states 'eight'"),
    "no faces": (CUBE.replace("8 6 0", "8 0 0"), "8 vertices and 0 faces"),
    "short": (CUBE[:-20], "8 vertices and 6 faces, but 12 lines follow"),
    "columns": (CUBE.replace("1 1 0", "1 1"), "m .vertices.*3 to 2 at row 3"),
    "all columns": ("OFF\n1 1 0\n0 0\n3 0 0 0\n", "2 numbers a line"),
    "word": (CUBE.replace("1 1 0", "1 x 0"), "'x'.*3 finite numbers"),
    "nan": (CUBE.replace("1 1 0", "1 nan 0"), "NaN"),
    "corners": (
        CUBE.replace("4 0 1 2 3", "4 0 1 2"),
        "m .faces.*row 1.*needs 5",
    ),
    "vast": (CUBE.replace("4 0 1 2 3", f"{10**30} 0 1"), "face of 1000000000"),
    "vast number": (CUBE.replace("8 6 0", "8 " + "9" * 5_000), "states '8 999"),
    "line": (CUBE.replace("4 0 1 2 3", "2 0 1"), "a face of 2 corners"),
    "vertex": (CUBE.replace("4 0 1 2 3", "4 0 1 2 8"), "beyond its 8"),
    "area": ("OFF\n2 1 0\n0 0 0\n1 1 1\n3 0 1 0\n", "no face with an area"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_meshes_are_named(kind):
    text, match = BAD[kind]
    with pytest.raises(UsageError, match=match) as error:
        off.triangles(text.encode(), "m")
    assert "\n" not in str(error.value)
