import collections

import jax
import numpy as np
import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import sites

NAMES = ("north", "south")


def labelled(labels, x=None):
    labels = np.asarray(labels)
    x = np.zeros((len(labels), 1), np.float32) if x is None else x
    classes = tuple(str(i) for i in range(int(labels.max()) + 1))
    return data.make_source(
        x, labels, classes=classes, name="toy", split="train"
    )


def owners(source):
    return source.aux["site"]


def test_sites_are_found_again():
    source = sites.tagged(labelled([0, 1, 0]), [1, 0, 1], NAMES)
    assert owners(source).dtype == np.int32
    found = sites.by_site(source, NAMES)
    assert [rows.tolist() for rows in found] == [[1], [0, 2]]
    assert [r.tolist() for r in sites.by_site(source)] == [[1], [0, 2]]
    other = source._replace(aux={"more": np.arange(3)})
    assert {*sites.tagged(other, [0, 1, 1], NAMES).aux} == {"more", "site"}


@pytest.mark.parametrize(
    "site, match",
    [
        ([0, 2, -1], "hold 2 at index 1, but there are 2: north, south"),
        ([0, 1], r"shape \(2,\).*3 whole numbers"),
        ([0.0, 1.0, 1.0], "float64"),
    ],
)
def test_bad_sites_are_named(site, match):
    with pytest.raises(UsageError, match=match):
        sites.tagged(labelled([0, 1, 0]), site, NAMES)


def test_a_source_without_sites_or_a_site_without_rows():
    with pytest.raises(UsageError, match="toy/train knows no sites.*partition"):
        sites.by_site(labelled([0, 1]))
    source = sites.tagged(labelled([0, 1]), [0, 0], NAMES)
    with pytest.raises(UsageError, match="no example of 'south'"):
        sites.by_site(source, NAMES)


def test_evaluation_keeps_the_site_of_a_row_and_nothing_else():
    source = sites.tagged(labelled([0, 1, 0]), [1, 0, 1], NAMES)
    source.aux["taught"] = np.ones(3)
    batches = list(data.in_order(source, 2))
    assert [{*batch.aux} for batch in batches] == [{"site"}] * 2
    # Row 0 fills up, with weight 0.
    assert [b.aux["site"].tolist() for b in batches] == [[1, 0], [1, 1]]
    source.aux.pop("site")
    assert [b.aux for b in data.in_order(source, 2)] == [None] * 2


def test_training_sees_the_site_of_each_row(key):
    x = np.arange(6, dtype=np.float32)[:, None]
    site = [0, 0, 1, 0, 1, 1]
    source = sites.tagged(labelled([0] * 6, x), site, NAMES)
    for batch in data.epoch(source, 2, key, 0):
        rows = batch.x[:, 0].astype(int)
        np.testing.assert_array_equal(batch.aux["site"], np.array(site)[rows])


def split(strata, groups=None, **options):
    return {
        part: sites.split_rows(part, "toy", strata, groups, **options)
        for part in data.SPLITS
    }


def test_every_stratum_has_its_share_of_each_split():
    sizes = {"a": 57, "b": 10, "c": 9, "d": 4, "e": 1}
    strata = [name for name, n in sizes.items() for _ in range(n)]
    parts = split(strata)
    every = np.concatenate(list(parts.values()))
    assert sorted(every) == list(range(len(strata)))
    counts = {
        part: collections.Counter(strata[i] for i in rows)
        for part, rows in parts.items()
    }
    assert counts["test"] == {"a": 11, "b": 2, "c": 1}
    assert counts["valid"] == {"a": 5, "b": 1}
    # The rarest are for training alone.
    assert counts["train"]["d"] == 4 and counts["train"]["e"] == 1
    assert all((np.diff(rows) > 0).all() for rows in parts.values())
    # Without a test part of its own, the rest is for training.
    known = sites.split_rows("train", "toy", strata, tested=False)
    assert len(known) == len(strata) - 6


@pytest.mark.parametrize("part, least", [("test", 5), ("valid", 10)])
def test_a_split_that_no_stratum_is_large_enough_for(part, least):
    strata = ["a"] * (least - 1) + ["b"] * 2
    match = f"'{part}'.*{least - 1} examples, of which one in {least}"
    with pytest.raises(UsageError, match=match):
        sites.split_rows(part, "toy", strata)
    assert sites.split_rows(part, "toy", ["a", *strata]).size == 1


def test_a_stratum_does_not_depend_on_others():
    alone = split(["b"] * 40)
    among = split(["a"] * 33 + ["b"] * 40)
    for part, rows in alone.items():
        beside = among[part]
        np.testing.assert_array_equal(beside[beside >= 33] - 33, rows)
    assert (alone["test"] != np.arange(8)).any()
    other = sites.split_rows("test", "another set", ["b"] * 40)
    assert (other != alone["test"]).any()


def test_no_group_is_in_two_splits():
    groups = np.repeat(np.arange(40), 3)[::-1]
    parts = split(["x"] * 60 + ["y"] * 60, groups)
    held = [{*groups[rows].tolist()} for rows in parts.values()]
    assert [len(g) for g in held] == [28, 4, 8]
    assert not set.intersection(*held) and len(set.union(*held)) == 40
    assert sum(len(rows) for rows in parts.values()) == 120


def table(source, clients):
    """Examples by class and client, [K, C]."""
    counts = np.zeros((len(source.classes), clients), int)
    np.add.at(counts, (source.y, owners(source)), 1)
    return counts


def test_equal_shares(key):
    source = labelled(np.arange(120) % 3)
    split = sites.partition(source, 4, alpha=np.inf, key=key)
    np.testing.assert_array_equal(table(split, 4), 10)
    assert (owners(split) != np.arange(120) // 30).any()
    np.testing.assert_array_equal(split.x, source.x)


@pytest.mark.parametrize("alpha", [0.3, 5.0])
def test_classes_go_to_clients_in_dirichlet_shares(key, alpha):
    classes, each, clients = 400, 100, 5
    source = labelled(np.arange(classes * each) % classes)
    split = sites.partition(source, clients, alpha=alpha, key=key)
    counts = table(split, clients)
    np.testing.assert_array_equal(counts.sum(1), each)
    # The moments of the law, from numpy's own sampler, in whole examples.
    law = np.random.default_rng(0).dirichlet([alpha] * clients, 40_000)
    for moment in (lambda p: (p**2).sum(1), lambda p: p.max(1)):
        want = moment(np.rint(law * each) / each)
        # Five standard errors of 400 classes.
        bound = 5 * want.std() / np.sqrt(classes)
        assert abs(moment(counts / each).mean() - want.mean()) < bound


def test_a_partition_is_a_function_of_its_key(key):
    source = labelled(np.arange(60) % 2)
    keys = (key, key, jax.random.key(1))
    first, again, other = (
        owners(sites.partition(source, 3, alpha=5.0, key=k)) for k in keys
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_clients_of_unequal_size(key):
    source = labelled(np.zeros((50, 2, 2), int), np.zeros((50, 2, 2, 1), "f4"))
    split = sites.quantity_skew(source, 3, alpha=1.0, key=key)
    counts = np.bincount(owners(split))
    assert counts.sum() == 50 and len({*counts}) > 1
    even = sites.quantity_skew(source, 5, alpha=np.inf, key=key)
    np.testing.assert_array_equal(np.bincount(owners(even)), 10)


def test_a_client_that_was_left_empty_is_named(key):
    source = labelled(np.arange(10) % 2)
    with pytest.raises(UsageError, match="client [0-9] of 8 has no example"):
        sites.partition(source, 8, alpha=1e-3, key=key)


@pytest.mark.parametrize(
    "clients, alpha, match",
    [
        (0, 1.0, "clients"),
        (11, 1.0, "clients is 11"),
        (2, 0.0, r"alpha is 0.0.*\(0"),
        (2, np.nan, "alpha is nan"),
        (2, [1.0, 2.0], "alpha must be one number"),
    ],
)
def test_bad_partitions(key, clients, alpha, match):
    with pytest.raises(UsageError, match=match):
        sites.partition(
            labelled(np.arange(10) % 2), clients, alpha=alpha, key=key
        )


def test_a_skew_of_labels_needs_labels_of_examples(key):
    source = labelled(np.zeros((4, 2), int), np.zeros((4, 2, 1), np.float32))
    with pytest.raises(UsageError, match=r"\(4, 2\).*quantity_skew"):
        sites.partition(source, 2, alpha=1.0, key=key)


def pictures(n=5, channels=3):
    x = np.random.default_rng(0).random((n, 7, 6, channels), np.float32)
    return sites.tagged(labelled(np.zeros(n, int), x), np.arange(n) % 2, NAMES)


def blurring(n, sigma):
    """The Gaussian as a matrix; pixels outside are those of the edge."""
    steps = np.arange(-int(4 * sigma + 0.5), int(4 * sigma + 0.5) + 1)
    taps = np.exp(-0.5 * (steps / sigma) ** 2)
    matrix = np.zeros((n, n))
    for i in range(n):
        np.add.at(matrix[i], np.clip(i + steps, 0, n - 1), taps / taps.sum())
    return matrix


def expected(x, look, site):
    """The formula of `Look` without noise, in float64."""
    one = {name: np.asarray(a, float)[site] for name, a in look.items()}
    for axis in (0, 1):
        x = np.moveaxis(
            np.tensordot(blurring(x.shape[axis], one["blur"]), x, (1, axis)),
            0,
            axis,
        )
    x = np.clip(one["gain"] * np.einsum("hwk,ck->hwc", x, one["colour"]), 0, 1)
    return x ** one["gamma"]


def test_looks_follow_their_formula(key):
    source = pictures()
    look = sites.draw_looks(key, 2, 3)._replace(noise=np.zeros(2))
    # The weakest blur that is none, beside one over several pixels.
    look = look._replace(blur=np.array([1e-9, 1.3]))
    got = sites.restyle(source, look, key)
    assert got.x.dtype == np.float32 and got.x.shape == source.x.shape
    for row, x in enumerate(source.x.astype(float)):
        want = expected(x, look._asdict(), row % 2)
        np.testing.assert_allclose(got.x[row], want, atol=2e-6)
    np.testing.assert_array_equal(got.y, source.y)
    np.testing.assert_array_equal(owners(got), owners(source))


def test_noise_has_its_spread_and_belongs_to_its_row(key):
    grey = np.full((6, 40, 40, 3), 0.5, np.float32)
    source = sites.tagged(labelled([0] * 6, grey), [0, 1] * 3, NAMES)
    still = sites.draw_looks(key, 2, 3, strength=0.0)
    look = still._replace(noise=np.array([0.02, 0.1]))
    got = sites.restyle(source, look, key).x
    # n = 14,400 a site: the standard error of the spread is 0.6 %.
    for site, std in enumerate((0.02, 0.1)):
        np.testing.assert_allclose(got[site::2].std(), std, rtol=0.03)
    assert (got[0] != got[2]).any()
    prefix = sites.restyle(source.rows(np.arange(2)), look, key).x
    np.testing.assert_allclose(prefix, got[:2], atol=1e-6)
    # Without strength nothing happens.
    np.testing.assert_allclose(sites.restyle(source, still, key).x, grey, 1e-6)


def test_drawn_looks_lie_within_their_widths(key):
    look = sites.draw_looks(key, 300, 3, strength=2.0)
    for name, low, high in (
        ("blur", 0, 2),
        ("noise", 0, 0.1),
        ("gain", np.exp(-0.6), np.exp(0.6)),
        ("gamma", np.exp(-0.8), np.exp(0.8)),
    ):
        drawn = getattr(look, name)
        assert drawn.shape == (300,)
        assert low <= drawn.min() and drawn.max() <= high
        # 300 draws leave an end of a fifth of the width free once in 10^29.
        width = 0.2 * (high - low)
        assert drawn.min() < low + width and drawn.max() > high - width
    offset = np.asarray(look.colour) - np.eye(3)
    assert 0.3 < np.abs(offset).max() <= 0.4


BAD_LOOKS = {
    "gamma": (np.zeros(2), "gamma is 0.0"),
    "blur": (np.array([-1.0, 1]), "blur is -1.0"),
    "gain": (np.ones(1), "gain is of 1 sites.*has 2"),
    "colour": (np.ones((2, 4, 4)), r"colour has shape \(2, 4, 4\).*3 channels"),
}


@pytest.mark.parametrize("name", BAD_LOOKS)
def test_bad_looks_are_named(key, name):
    value, match = BAD_LOOKS[name]
    look = sites.Look(*[np.ones(2)] * 2, np.ones((2, 3, 3)), *[np.ones(2)] * 2)
    with pytest.raises(UsageError, match=match):
        sites.restyle(pictures(), look._replace(**{name: value}), key)


def test_a_look_is_for_images_of_sites(key):
    look = sites.Look(*[np.ones(2)] * 2, np.ones((2, 3, 3)), *[np.ones(2)] * 2)
    source = pictures()
    with pytest.raises(UsageError, match=r"lie in \[.*2.0"):
        sites.restyle(source._replace(x=source.x * 0 + 2), look, key)
    with pytest.raises(UsageError, match="knows no sites"):
        sites.restyle(source._replace(aux=None), look, key)


def test_every_set_of_sites_can_be_loaded():
    assert {*data.SITES} <= {*data.ON_DISK, *data.BUNDLED}
    assert data.sites_of("heart")[0] == "cleveland"
    with pytest.raises(UsageError, match="'hart'.*mean 'heart'"):
        data.sites_of("hart")
    with pytest.raises(UsageError, match="wbc_3sites/"):
        data.load("white_cells", "test", "absent-folder")
