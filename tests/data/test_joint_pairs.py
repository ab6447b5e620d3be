"""Synthetic pairs: their law, and what tells it."""

import numpy as np
import pytest
from scipy import integrate, stats

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import joint_pairs

N = 2000


@pytest.fixture(scope="module")
def source():
    return joint_pairs.read("train", n=N)


@pytest.fixture(scope="module")
def read_off(source):
    """Summaries of the images, [2, N]."""
    return np.stack(
        [
            joint_pairs.summary_first(source.x[..., 0]),
            joint_pairs.summary_second(source.x[..., 1]),
        ]
    )


def test_images(source):
    assert source.x.shape == (N, 16, 16, 2) and source.x.dtype == np.float32
    assert np.abs(source.x).max() <= 1
    assert source.name == "joint_pairs" and source.y.shape == (N,)
    # Balanced but for chance: five standard errors of a share.
    assert abs(source.y.mean() - 0.5) < 5 * 0.5 / np.sqrt(N)
    assert all(source.aux[k].all() for k in ("paired", "has_first"))


@pytest.mark.parametrize("side", [16, 24])
def test_summaries_read_the_numbers_off(source, side):
    """Their noise may take 1 % from the correlation: it is below 0.14."""
    one = joint_pairs.read("train", n=200, side=side)
    u, v = one.aux["first"], one.aux["second"]
    np.testing.assert_array_equal(u, source.aux["first"][:200])
    np.testing.assert_array_equal(v, source.aux["second"][:200])
    first = joint_pairs.summary_first(one.x[..., 0])
    second = joint_pairs.summary_second(one.x[..., 1])
    np.testing.assert_allclose(first, u, atol=0.1)
    np.testing.assert_allclose(second, v, atol=0.1)


def test_the_law_of_the_pair(read_off, source):
    """Normal each; the correlation's standard error is (1 - rho^2) / sqrt n."""
    for part in read_off:
        assert stats.kstest(part, "norm").pvalue > 1e-3
    rho = np.corrcoef(read_off)[0, 1]
    assert abs(rho - 0.8) < 4 * 0.36 / np.sqrt(N)
    # What images tell is what was put in, to 2 % of the information.
    put = np.corrcoef(source.aux["first"], source.aux["second"])[0, 1]
    measured, true = map(joint_pairs.mutual_information, (rho, put))
    assert abs(measured / true - 1) < 0.02


def test_the_information_is_that_of_the_density():
    """The integral of p log(p / (p_u p_v)) over a grid, by Simpson's rule."""
    axis = np.linspace(-8, 8, 801)
    for rho in (0.8, -0.5):
        q = axis[:, None] ** 2 - 2 * rho * axis[:, None] * axis + axis**2
        joint = np.exp(-q / 2 / (1 - rho**2)) / np.sqrt(1 - rho**2) / 2 / np.pi
        alone = stats.norm.logpdf(axis)
        logs = np.log(joint + 1e-300) - alone[:, None] - alone
        whole = integrate.simpson(integrate.simpson(joint * logs, x=axis), axis)
        got = joint_pairs.mutual_information(rho)
        np.testing.assert_allclose(got, whole, rtol=1e-6)
    # Beyond the limits of either is less than 0.001 of it.
    beyond = np.abs(axis) > 4
    outside = np.where(beyond[:, None] | beyond, joint * np.abs(logs), 0)
    assert integrate.simpson(integrate.simpson(outside, x=axis), axis) < 1e-3
    assert joint_pairs.mutual_information(1.0) == np.inf


def test_one_modality_does_not_tell_the_relation(source, read_off):
    """Two-sample tests of the levels, and the same of all that is around."""
    other = joint_pairs.read("train", n=N, rho=-0.8)
    np.testing.assert_array_equal(other.x[..., 0], source.x[..., 0])
    second = joint_pairs.summary_second(other.x[..., 1])
    assert stats.ks_2samp(second, read_off[1]).pvalue > 1e-3
    rho = np.corrcoef(read_off[0], second)[0, 1]
    assert abs(rho + 0.8) < 4 * 0.36 / np.sqrt(N)
    # Far from the plateau nothing depends on rho.
    np.testing.assert_array_equal(other.x[:, 0, 0, 1], source.x[:, 0, 0, 1])


def test_the_second_is_more_complex(source):
    """Components that hold 95 % of the variance."""
    needed = []
    for images in np.moveaxis(source.x, -1, 0):
        flat = images.reshape(N, -1)
        share = np.linalg.svd(flat - flat.mean(0), compute_uv=False) ** 2
        needed.append(np.sum(np.cumsum(share) < 0.95 * share.sum()))
    assert needed[1] > 5 * needed[0]


def test_the_label_needs_both(source, read_off):
    u, v = source.aux["first"], source.aux["second"]
    np.testing.assert_array_equal(source.y, v > u)
    assert np.mean((read_off[1] > read_off[0]) == source.y) > 0.95
    # The best guess from u alone is right with probability 1/2 + atan(
    # sqrt((1 - rho) / (1 + rho))) / pi, of v alike; standard error 1.1 %.
    best = 0.5 + np.arctan(np.sqrt(0.2 / 1.8)) / np.pi
    for guess in (u < 0, v > 0):
        assert abs(np.mean(guess == source.y) - best) < 5 * 0.011


def test_both_images_share_a_place(source):
    """Centres of what is bright lie within a third of a pixel."""
    place = np.arange(16)
    first = source.x[:200, ..., 0] + 1
    second = np.maximum(source.x[:200, ..., 1] + 0.4, 0) ** 0.25
    centres = [
        np.stack([(w.sum(a) * place).sum(1) for a in (1, 2)], 1)
        / w.sum((1, 2))[:, None]
        for w in (first, second)
    ]
    assert np.abs(centres[0] - centres[1]).max() < 1 / 3
    assert centres[0].std(0).min() > 1  # of 2 / sqrt(3), uniform within 2


def test_a_pair_is_its_seed_split_and_index(source):
    few = joint_pairs.read("train", n=5)
    np.testing.assert_array_equal(few.x, source.x[:5])
    others = [
        joint_pairs.read("valid", n=5).x,
        joint_pairs.read("test", n=5).x,
        joint_pairs.read("train", n=5, seed=1).x,
    ]
    images = np.concatenate([few.x, *others])
    assert len(np.unique(images.reshape(20, -1), axis=0)) == 20
    assert [*few.aux["id"]] == [0, 1, 2, 3, 4]


def test_a_share_of_the_pairs():
    some = data.load("joint_pairs", "train", n=100, pairs=0.1)
    whole = data.load("joint_pairs", "train", n=100)
    given = [some.aux[k] for k in ("has_first", "has_second", "paired")]
    assert [g.sum() for g in given] == [55, 55, 10]
    for channel in (0, 1):
        lacks = given[channel] == 0
        assert (some.x[lacks, ..., channel] == -1).all()
        np.testing.assert_array_equal(
            some.x[~lacks, ..., channel], whole.x[~lacks, ..., channel]
        )
    # What is tested keeps its pairs.
    tested = joint_pairs.read("test", n=9, pairs=0.1)
    assert tested.aux["paired"].all()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"rho": 1.0}, "rho is 1.0"),
        ({"rho": np.nan}, "rho is nan"),
        ({"side": 8}, "side is 8"),
        ({"n": 0}, "n is 0"),
        ({"pairs": 0.0}, "pairs is 0.0"),
        ({"seed": -1}, "seed is -1"),
        ({"split": "dev"}, "unknown split 'dev'"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(UsageError, match=message) as error:
        joint_pairs.read(**{"split": "train", **changes})
    assert "\n" not in str(error.value)


def test_summaries_are_of_one_modality(source):
    with pytest.raises(UsageError, match=r"\(2000, 16, 16, 2\).*one modality"):
        joint_pairs.summary_first(source.x)
