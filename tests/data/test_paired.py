"""Which pairs are known, and what makes two lists of images pairs."""

import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.data import paired


def fails(match, function, *args, **kwargs):
    with pytest.raises(UsageError, match=match) as error:
        function(*args, **kwargs)
    assert "\n" not in str(error.value)


GROUPS = np.repeat([30, 7, 12, 5, 99, 41, 8], [3, 1, 4, 2, 5, 1, 2])


def of_groups(pairing):
    """What is given of each group, all of whose rows must be alike."""
    found = {}
    for group in np.unique(GROUPS):
        mine = np.stack(pairing, 1)[group == GROUPS]
        assert (mine == mine[0]).all()
        found[int(group)] = tuple(mine[0].tolist())
    return found


@pytest.mark.parametrize(
    "share, kept", [(1, 7), (0.99, 7), (0.5, 4), (0.3, 2), (1e-9, 1)]
)
def test_a_share_of_whole_groups_keeps_its_pairs(share, kept):
    pairing = paired.drawn(GROUPS, share, 3)
    assert all(part.dtype == np.uint8 for part in pairing)
    found = [*of_groups(pairing).values()]
    assert found.count((1, 1, 1)) == kept
    # The others have one modality each, half of them the first.
    one, other = found.count((0, 1, 0)), found.count((0, 0, 1))
    assert one + other == 7 - kept and abs(one - other) <= 1


def test_a_larger_share_keeps_the_pairs_of_a_smaller_one():
    shares = [of_groups(paired.drawn(GROUPS, s, 0)) for s in (0.2, 0.6, 0.8)]
    for less, more in zip(shares, shares[1:], strict=False):
        changed = [g for g in less if less[g] != more[g]]
        assert changed and all(more[g] == (1, 1, 1) for g in changed)


def test_the_seed_draws_and_nothing_else():
    many = np.arange(40)
    one, again, other = (paired.drawn(many, 0.5, s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one.paired != other.paired).any()
    # Names of the groups do not matter, their order does.
    named = paired.drawn([f"{i:02}" for i in many], 0.5, 1)
    np.testing.assert_array_equal(one, named)


def test_draws_out_of_range():
    for share in (0, -0.1, 1.1, np.nan):
        fails(f"pairs is {share}", paired.drawn, GROUPS, share, 0)
    fails("seed is -1", paired.drawn, GROUPS, 1, -1)
    fails("seed is 4294967296", paired.drawn, GROUPS, 1, 2**32)
    fails("seed must be a whole", paired.drawn, GROUPS, 1, 0.5)


ABOUT = dict(classes=("a", "b"), name="mine", split="train")


def made(first, second, pairing=None, y=(0, 1, 1)):
    pairing = pairing or paired.complete(3)
    aux = {"id": np.arange(3)}
    return paired.make(first, second, np.array(y), pairing, aux=aux, **ABOUT)


def test_what_is_not_given_is_not_there():
    rng = np.random.default_rng(0)
    first, second = rng.uniform(-1, 1, (2, 3, 4, 4)).astype(np.float32)
    pairing = paired.complete(1).then(paired.lone([True, False]))
    source = made(first, second, pairing)
    assert source.x.shape == (3, 4, 4, 2) and source.x.dtype == np.float32
    np.testing.assert_array_equal(source.x[:2, ..., 0], first[:2])
    np.testing.assert_array_equal(source.x[[0, 2], ..., 1], second[[0, 2]])
    assert (source.x[2, ..., 0] == -1).all()
    assert (source.x[1, ..., 1] == -1).all()
    assert {k: v.tolist() for k, v in source.aux.items()} == {
        "id": [0, 1, 2],
        "paired": [1, 0, 0],
        "has_first": [1, 1, 0],
        "has_second": [1, 0, 1],
    }
    assert source.y.tolist() == [0, 1, 1] and source.name == "mine"
    # What is not given may be anything.
    second[1] = np.nan
    np.testing.assert_array_equal(made(first, second, pairing).x, source.x)


def test_bad_images():
    x = np.zeros((3, 4, 4), np.float32)
    fails(
        r"first has .*\(3, 4, 4\) and second \(3, 4, 5\).*one size.*register",
        made,
        x,
        np.zeros((3, 4, 5), np.float32),
    )
    for value in (1.01, -1.01, 255):
        bad = x.copy()
        bad[1, 2, 3] = value
        fails(
            rf"modality 1 of mine/train has values .*{value}.*window",
            made,
            x,
            bad,
        )
    bad[1, 2, 3] = np.nan
    fails(r"modality 0 of mine/train holds 1 NaN.*\(1, 2, 3\)", made, bad, x)


@pytest.mark.parametrize(
    "first, second, match",
    [
        (
            ["a", "b"],
            ["a", "c"],
            "lists of 2 and 2.*only the first modality has 'b'; only the"
            " second modality has 'c'",
        ),
        (
            range(6),
            [0],
            "6 and 1 images.*first modality has '1', '2', '3' and 2 more",
        ),
        (["a", "b"], ["b", "a"], "row 0 is 'a' in the first, 'b'"),
        ([1, 2, 2], [1, 2], "row 2 is '2' in the first, nothing in the other"),
        ([], ["x"], "0 and 1 images.*second modality has 'x'"),
    ],
)
def test_ids_that_do_not_match_are_named(first, second, match):
    fails(match, paired.check_pairs, first, second)


def test_ids_that_match():
    paired.check_pairs(["1", "2", "2"], np.array([1, 2, 2]))


@pytest.mark.parametrize(
    "names", ["t1", "ab", ("t1",), ("t1", "t1"), ("t1", 2), ("a", "b", "c")]
)
def test_modalities_are_two(names):
    fails("must be two different names", paired.check_modalities, names)


def test_modalities_are_known():
    paired.check_modalities(["ct", "pet"], ("t1", "ct", "pet"))
    known = ("t1", "ct")
    fails("modality 'pt'", paired.check_modalities, ("pt", "t1"), known)


def test_windows():
    x = np.array([-5, 0, 10, 30], np.int16)
    # By hand: -1 + 2 (x - low) / (high - low), and beyond the nearer end.
    got = paired.scaled("it", x, (0, 20))
    np.testing.assert_allclose(got, [-1, -1, 0, 1], atol=1e-6)
    assert got.dtype == np.float32
    with pytest.raises(UsageError, match=r"-5 to 30.*window.*\(-5, 30\)"):
        paired.scaled("it", x, None)
    half = np.array([-1, 0.25, 1], np.float16)
    np.testing.assert_array_equal(paired.scaled("it", half, None), half)
    for window in ((1, 0), (0, np.inf), 3, (0, 1, 2), ("a", "b"), "ab"):
        fails("window of it", paired.scaled, "it", x, window)
    fails("it holds 1 NaN", paired.scaled, "it", [0, np.nan], (0, 1))


@pytest.mark.parametrize("size, side", [(6, 6), (6, 3), (6, 4), (7, 5), (5, 1)])
def test_pixels_are_means_of_areas(size, side):
    """Against an enlargement of both grids to a common one."""
    x = np.random.default_rng(size).normal(size=(2, size, size))
    fine = np.kron(x, np.ones((side, side)))
    want = fine.reshape(2, side, size, side, size).mean((2, 4))
    got = paired.area_averaged(x, side)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    assert paired.area_averaged(np.float32(x), side).dtype == np.float32


def test_sizes_that_cannot_be_averaged():
    x = np.zeros((2, 8, 8))
    fails("8 x 8 pixels.*to 9 x 9", paired.area_averaged, x, 9)
    fails("7 x 8 pixels", paired.area_averaged, x[:, 1:], 4)
    fails("side is 0", paired.area_averaged, x, 0)
