import zipfile

import numpy as np
import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import geometric_shapes, shape_parts


@pytest.fixture(scope="module")
def test_split(tmp_path_factory):
    """The set from boxes, whose areas are known."""
    root = tmp_path_factory.mktemp("root")
    box = (
        "OFF\n8 6 0\n5 5 5\n6 5 5\n6 6 5\n5 6 5\n5 5 6\n6 5 6\n6 6 6\n5 6 6\n"
        "4 0 1 2 3\n4 4 5 6 7\n4 0 1 5 4\n4 1 2 6 5\n4 2 3 7 6\n4 3 0 4 7\n"
    )
    write(root, box)
    return data.load("shape_parts", "test", root)


def write(root, box, left_out=""):
    (root / "geometric_shapes").mkdir()
    names = {p.mesh for _, ps in shape_parts.CATEGORIES.values() for p in ps}
    with zipfile.ZipFile(root / geometric_shapes.FILE, "w") as archive:
        for name in names - {left_out}:
            for part in ("train", "test"):
                archive.writestr(f"raw/{name}/{part}/{name}.off", box)


def check(source):
    parts = data.parts_of("shape_parts")
    assert len(parts) == 8 and len(source.classes) == 20
    assert sorted(label for ls in parts.values() for label in ls) == [
        *range(20)
    ]
    names = [*parts]
    for x, y in zip(source.x, source.y, strict=True):
        assert (x[:, 3:] == x[0, 3:]).all() and x[0, 3:].sum() == 1
        name = names[x[0, 3:].argmax()]
        assert {*y} == {*parts[name]}
        assert all(source.classes[label].startswith(name) for label in {*y})
        np.testing.assert_allclose(
            np.linalg.norm(x[:, :3], axis=-1).max(), 1, rtol=1e-5
        )


def test_labels_are_those_of_the_category(test_split):
    assert test_split.x.shape == (160, 1024, 11)
    assert test_split.y.shape == (160, 1024)
    check(test_split)
    # Categories take turns.
    np.testing.assert_array_equal(
        test_split.x[:, 0, 3:].argmax(-1), np.arange(160) % 8
    )


def test_pieces_follow_each_other(test_split):
    for i, (axis, pieces) in enumerate(shape_parts.CATEGORIES.values()):
        labels = [*data.parts_of("shape_parts").values()][i]
        for x, y in zip(test_split.x[i::8], test_split.y[i::8], strict=True):
            if len(labels) < len(pieces):  # The barbell: its bar is between.
                bar, ends = (x[y == k][:, axis] for k in labels[::-1])
                low, high = bar.min() - 1e-5, bar.max() + 1e-5
                assert ((ends <= low + 2e-5) | (ends >= high - 2e-5)).all()
                assert (ends < low + 0.5).any() and (ends > high - 0.5).any()
                continue
            spans = [x[y == k][:, axis] for k in labels]
            for below, above in zip(spans, spans[1:], strict=False):
                assert below.max() <= above.min() + 1e-5


def test_points_are_shared_by_area(test_split):
    """The table, whose two pieces are boxes of extents that can be measured."""
    labels = data.parts_of("shape_parts")["table"]
    i = [*shape_parts.CATEGORIES].index("table")
    for x, y in zip(test_split.x[i::8], test_split.y[i::8], strict=True):
        extents = [np.ptp(x[y == k][:, :3], axis=0) for k in labels]
        area = [a * b + b * c + c * a for a, b, c in extents]
        share = area[0] / sum(area)
        # Five deviations of a binomial number, and what the measured extents
        # of about 200 points lack.
        error = 5 * np.sqrt(share * (1 - share) / 1024) + 0.02
        assert abs((y == labels[0]).mean() - share) < error


def test_things_differ(test_split):
    leg = [
        (y == data.parts_of("shape_parts")["table"][0]).mean()
        for y in test_split.y[5::8]
    ]
    assert np.std(leg) > 0.02


def test_the_real_set(real_file):
    root = real_file(geometric_shapes.FILE).parents[1]
    source = data.load("shape_parts", "valid", root)
    assert source.x.shape == (80, 1024, 11)
    check(source)


def test_a_mesh_that_is_not_there(tmp_path):
    write(tmp_path, "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 1\n3 0 1 2\n", "3d_cone")
    with pytest.raises(UsageError, match="lacks the train meshes 3d_cone"):
        data.load("shape_parts", "train", tmp_path)


def test_parts_of_what_has_none():
    with pytest.raises(UsageError, match="'digits'.*shape_parts, shapenet"):
        data.parts_of("digits")
