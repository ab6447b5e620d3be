"""Tests of what a report tells of made pairs: found again in numpy."""

from pathlib import Path
import re
from typing import NamedTuple

import jax
import numpy as np
import pytest
from scipy.spatial import distance

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.core.keys import stream
from jaxedge.data import joint_pairs
from jaxedge.recipes import gan_scores, sequential_gan
from jaxedge.run import (
    canvas,
    judge,
    main,
    pair_maker,
    report,
    results,
    synthesis,
    synthesis_figures,
    synthesis_page,
    synthesis_scores,
)

pytestmark = pytest.mark.usefixtures("compile_quickly")

CONFIG = Path(__file__).parents[2] / "configs" / "sequential_gan.py"
N, KEY = 24, jax.random.key(5)
SUMMARY = {"config": {"train": {"select_on": "valid"}}}


def drawn(like, seed):
    """Weights, large enough that images of other vectors differ."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda a: rng.normal(0, 0.25, a.shape).astype(np.float32), like
    )


class Run:
    """A small network of drawn weights that makes the plateau first."""

    def __init__(self):
        config = main.parse(
            [
                f"--config={CONFIG}:quick,reversed",
                f"--config.data.n={N}",
                "--config.data.pairs=0.5",
                "--config.gan.conditional=true",
                "--workdir=unused",
            ]
        ).config
        self.given = sequential_gan.parse(config)
        splits = {
            split: data.load("joint_pairs", split, **self.given.data.options)
            for split in data.SPLITS
        }
        self.splits, _ = sequential_gan.prepare(self.given, splits)
        recipe = sequential_gan.build(
            self.given, self.splits["train"].x[:1], 2, 3
        )
        like = jax.eval_shape(lambda: recipe.finish(recipe.init(KEY)))
        self.networks = synthesis.Networks(
            *(drawn(like, seed) for seed in range(3))
        )
        self.maker = pair_maker.network(self.given, self.splits)


@pytest.fixture(scope="module")
def run():
    return Run()


@pytest.fixture(scope="module")
def kept(run, tmp_path_factory):
    """Pairs of three times in training."""
    folder = tmp_path_factory.mktemp("kept")
    for step in (3, 12, 6):
        found = run.maker.pairs(
            run.networks.chip, pair_maker.watched(run.maker)
        )
        results.write(
            folder / f"{step}.npz", {"pairs": found * (1 - step / 100)}
        )
    return folder


@pytest.fixture(scope="module")
def whole(run, kept):
    return synthesis.collect(run.given, run.networks, run.splits, kept, KEY)


@pytest.fixture(scope="module")
def found(whole):
    assert all(name.startswith("synthesis/") for name in whole)
    return {k.removeprefix("synthesis/"): a for k, a in whole.items()}


def table(found):
    names = [str(name) for name in found["score/names"]]
    values = zip(
        names, found["score/values"], found["score/counts"], strict=True
    )
    places = synthesis_scores.PLACES
    return {
        name: dict(zip((*places, "count"), (*row, count), strict=True))
        for name, row, count in values
    }


def made(run, network, key=None):
    y = run.splits["test"].y
    return run.maker.pairs(network, run.maker.vectors(np.arange(N), y), key)


def test_the_modalities_are_in_the_order_of_making(run, found):
    assert found["modalities"].tolist() == ["plateau", "blob"]
    real, swapped = pair_maker.known_pairs(run.given, run.splits["train"])
    every = data.load("joint_pairs", "train", n=N)
    # All of them, of which half are known as pairs in training.
    assert swapped and len(real.y) == N
    np.testing.assert_array_equal(real.x, every.x[..., ::-1])
    plain = pair_maker.known_pairs(run.given, every)
    assert not plain[1] and (plain[0].x == every.x).all()


@pytest.mark.parametrize(
    ("name", "given", "swapped", "wanted"),
    [
        ("sarcoma_pairs", None, False, ("t1", "pet")),
        ("sarcoma_pairs", ("ct", "t1"), True, ("t1", "ct")),
        ("prostatex", None, False, ("adc", "t2")),
        ("pair_folder", None, True, ("second", "first")),
    ],
)
def test_the_modalities_have_names(name, given, swapped, wanted):
    pairs = sequential_gan.Pairs(name, modalities=given)
    assert pair_maker.modalities(pairs, swapped) == wanted


def test_examples_are_those_of_the_networks(run, found):
    rows = np.linspace(0, N - 1, 8).astype(int)
    test = run.splits["test"]
    np.testing.assert_array_equal(found["real"], test.x[rows])
    np.testing.assert_array_equal(found["label"], test.y[rows])
    vectors = run.maker.vectors(rows, test.y[rows])
    one_hot = np.eye(2, dtype=np.float32)[test.y[rows]]
    np.testing.assert_array_equal(vectors[:, 4:6], one_hot)
    model = run.maker.model
    pair = model.apply(run.networks.ideal, vectors[:, :6], method="generate")
    ideal = np.concatenate(pair, -1)
    np.testing.assert_allclose(found["ideal"], ideal, atol=1e-5)
    assert np.abs(found["ideal"] - found["chip"]).max() > 0.1
    second = gan_scores.translated(
        model, run.networks.ideal, test.x[rows, ..., :1], one_hot
    )
    np.testing.assert_allclose(
        found["second/ideal"], np.asarray(second)[..., 0], atol=1e-5
    )


def test_ways_begin_and_end_at_normal_vectors(run, found):
    assert found["between"].shape == (3, 7, 16, 16, 2)
    y = np.array([0, 1, 0])
    rows = 10**6 + np.arange(6)
    ends = run.maker.pairs(
        run.networks.ideal, run.maker.vectors(rows, np.tile(y, 2))
    )
    np.testing.assert_allclose(found["between"][:, 0], ends[:3], atol=1e-5)
    np.testing.assert_allclose(found["between"][:, -1], ends[3:], atol=1e-5)


def test_vectors_are_normal_and_of_their_row(run):
    rows = np.arange(4000)
    vectors = run.maker.vectors(rows, rows % 2)
    free = vectors[:, run.maker.free]
    # Of 4000 numbers the mean is off by 5 / sqrt(4000) in 1 of 10^6 cases, and
    # the variance by 5 sqrt(2 / 4000).
    assert np.abs(free.mean(0)).max() < 0.08
    assert np.abs(free.var(0) - 1).max() < 0.12
    again = run.maker.vectors(rows[::-7], (rows % 2)[::-7])
    np.testing.assert_array_equal(again, vectors[::-7])


def test_times_are_in_order(run, found):
    assert found["time/steps"].tolist() == [0, 3, 6, 12]
    watched = pair_maker.watched(run.maker)
    start = run.maker.pairs(run.networks.start, watched)
    later = run.maker.pairs(run.networks.chip, watched)
    np.testing.assert_array_equal(found["time/pairs"][0], start)
    for pairs, step in zip(found["time/pairs"][1:], (3, 6, 12), strict=True):
        np.testing.assert_allclose(pairs, later * (1 - step / 100), atol=1e-6)


def test_checkpoints_leave_pairs(run, tmp_path):
    class Tree(NamedTuple):
        state: np.ndarray
        best: np.ndarray

    asked = []

    def finish(state):
        asked.append(state.item())
        return run.networks.ideal

    checkpoints = pair_maker.Kept(
        tmp_path / "checkpoints",
        "score",
        True,
        run.maker,
        finish,
        tmp_path / "pairs",
    )
    tree = Tree(np.array(7), np.array(0.5))
    checkpoints.save(5, tree, None)  # Not evaluated.
    assert not (tmp_path / "pairs").exists()
    checkpoints.save(6, tree, {"score": 1.0})
    assert asked == [7] and checkpoints.newest_step() == 6
    checkpoints.close()
    with np.load(tmp_path / "pairs" / "6.npz") as file:
        watched = pair_maker.watched(run.maker)
        ideal = run.maker.pairs(run.networks.ideal, watched)
        np.testing.assert_array_equal(file["pairs"], ideal)


def test_copies_are_the_nearest_training_pairs(run, found):
    real, _ = pair_maker.known_pairs(run.given, run.splits["train"])
    known = real.x.reshape(N, -1).astype(float)
    pairs = made(run, run.networks.ideal)
    for name, x in (("made", pairs), ("test", run.splits["test"].x)):
        apart = distance.cdist(x.reshape(N, -1).astype(float), known)
        wanted = apart.min(1) / np.sqrt(known.shape[1])
        np.testing.assert_allclose(found[f"near/{name}"], wanted, rtol=1e-4)
        if name == "made":
            rows = np.argsort(wanted)[:8]
            nearest = apart.argmin(1)[rows]
    np.testing.assert_array_equal(found["near/shown"], pairs[rows])
    np.testing.assert_array_equal(found["near/found"], real.x[nearest])
    assert found["near/known"] == N
    # A copy is at no distance.
    copied = synthesis.copies(real.x, run.splits["test"].x, real.x)
    assert not copied["near/made"].any()


def test_the_second_modality_is_compared_with_the_true_one(run, found):
    test, rows = run.splits["test"], table(found)
    keys = {"ideal": None, "chip": stream(KEY, "second")}
    for place, key in keys.items():
        network = getattr(run.networks, place)
        second = run.maker.second(network, test.x[..., 0], test.y, key)
        apart = second.astype(float) - test.x[..., 1]
        mae = np.abs(apart).mean()
        assert rows["mae"][place] == pytest.approx(mae, rel=1e-5)
        psnr = -10 * np.log10((apart**2).mean((1, 2)) / 4)
        assert rows["psnr"][place] == pytest.approx(psnr.mean(), rel=1e-5)
    again = run.maker.reconstructed(run.networks.ideal, test.x[..., 0], test.y)
    mae = np.abs(again.astype(float) - test.x[..., 0]).mean()
    assert rows["first_mae"]["ideal"] == pytest.approx(mae, rel=1e-5)
    assert rows["mae"]["count"] == N and np.isnan(rows["mae"]["real"])


def test_sets_are_compared_by_the_judges_features(run, found):
    rows = table(found)
    real, _ = pair_maker.known_pairs(run.given, run.splits["train"])
    taught = judge.train(stream(KEY, "judge"), real)
    test = run.splits["test"]
    assert found["judge/pairs"] == N and str(found["judge/task"]) == "labels"
    assert found["judge/accuracy"] == judge.accuracy(taught, test)
    assert rows["accuracy"]["real"] == judge.accuracy(taught, test)
    sets = {"ideal": made(run, run.networks.ideal), "real": real.x}
    b = judge.features(taught, test.x).astype(float)
    for place, pairs in sets.items():
        a = judge.features(taught, pairs).astype(float)
        covs = np.cov(a.T), np.cov(b.T)
        # The eigenvalues of a product of covariances are no negative ones.
        values = np.linalg.eigvals(covs[0] @ covs[1]).real
        root = np.sqrt(np.maximum(values, 0)).sum()
        wanted = ((a.mean(0) - b.mean(0)) ** 2).sum() - 2 * root
        wanted += np.trace(covs[0] + covs[1])
        assert rows["fid"][place] == pytest.approx(wanted, rel=1e-3)
    assert 0 <= rows["precision"]["chip"] <= 1
    # On as many made pairs, of the labels that they were made of.
    assert found["judge/taught"] == N
    assert 0 <= rows["accuracy"]["ideal"] <= 1


def test_information_is_that_of_the_two_numbers(run, found):
    rows = table(found)
    truth = -np.log1p(-(0.8**2)) / 2
    assert rows["summary_information"]["truth"] == pytest.approx(truth)
    sets = {
        "real": run.splits["test"].x,
        "ideal": made(run, run.networks.ideal),
    }
    for place, pairs in sets.items():
        # The plateau is in front here.
        u = joint_pairs.summary_first(pairs[..., 1])
        v = joint_pairs.summary_second(pairs[..., 0])
        wanted = -np.log1p(-(np.corrcoef(u, v)[0, 1] ** 2)) / 2
        known = rows["summary_information"][place]
        assert known == pytest.approx(wanted, rel=1e-3)
    assert rows["information"]["real"] > 0


@pytest.mark.parametrize(
    ("side", "wanted"),
    [(16, (7, 2)), (22, (11, 2)), (64, (11, 3)), (256, (11, 5)), (5, (3, 1))],
)
def test_scales_fit(side, wanted):
    assert synthesis_scores.scales(side) == wanted
    window, count = wanted
    assert window * 2 ** (count - 1) <= side


def test_small_sets_are_not_compared():
    rows = synthesis_scores.Rows()
    few = np.zeros((9, 4))
    synthesis_scores.distances(rows, few, {"ideal": few})
    pairs = np.zeros((9, 2, 2, 2), np.float32)
    synthesis_scores.informations(rows, {"ideal": pairs}, pairs, None)
    synthesis_scores.diversities(rows, KEY, {"ideal": pairs})
    assert rows.table().names == ()
    assert rows.table().values.shape == (0, 4)


def test_the_record_has_the_numbers(whole, found):
    record = synthesis.numbers(whole)
    known = table(found)
    assert set(record) == set(known)
    assert record["fid"]["ideal"] == known["fid"]["ideal"]
    assert record["mae"].keys() == {"ideal", "chip", "images"}
    assert record["diversity"]["images"] == synthesis_scores.COUPLES
    assert synthesis.numbers({}) == {}


# The page.


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are made but not written, which takes the longest."""
    figures = []
    monkeypatch.setattr(
        canvas, "to_svg_or_png", lambda fig: figures.append(fig) or "data:,"
    )
    return figures


def section(whole, *without, **changes):
    kept = {
        name: array
        for name, array in whole.items()
        if not name.removeprefix("synthesis/").startswith(without or ("-",))
    }
    kept |= {f"synthesis/{k}": np.asarray(v) for k, v in changes.items()}
    return synthesis_page.section(kept, SUMMARY).replace("\u00a0", " ")


def test_the_section_has_its_pictures_and_numbers(whole, found, undrawn):
    page = section(whole)
    assert "<h2>Synthesis</h2>" in page and page.count("<img") == 6
    rows = table(found)
    cells = dict(re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', page))
    assert len(cells) == len(rows)
    fid = [rows["fid"][place] for place in ("ideal", "chip", "real")]
    shown = "".join(f"<td>{value:.4f}</td>" for value in fid)
    assert cells["FID"] == f"{shown}<td>–</td><td>24</td>"
    assert "MAE of blob made of plateau" in cells
    truth = cells["The same, of the two numbers of a pair"]
    assert "<td>0.511</td>" in truth
    assert "trained on 24 real pairs of this data set" in page
    assert "trained on 24 made pairs, and on as many real" in page
    assert "Of 24 made pairs" in page and "one of 24 training pairs" in page
    titles = [text.get_text() for text in undrawn[0].axes[0].get_xticklabels()]
    wanted = ["class 0", "class 1"]  # Names of classes would be too long.
    assert titles == [wanted[int(y)] for y in found["label"]]
    words = [text.get_text() for text in undrawn[2].axes[0].get_yticklabels()]
    assert words[:3] == ["step 0, plateau", "step 0, blob", "step 3, plateau"]


def test_without_classes_or_law_it_says_less(whole, found, undrawn):
    values = found["score/values"].copy()
    values[:, 3] = np.nan
    page = section(whole, **{
        "conditional": False, "judge/taught": 0, "judge/task": "mirrors",
        "score/values": values,
    })  # fmt: skip
    assert "Truth" not in page and "learned how they were mirrored" in page
    assert "made pairs, which have no labels" in page
    assert not undrawn[0].axes[0].get_xticklabels()


@pytest.mark.parametrize(
    ("without", "pictures"),
    [
        (("real",), 4), (("second",), 5), (("time",), 5), (("between",), 5),
        (("near",), 4), (("score", "judge"), 6), (("modalities",), 0),
    ],
)  # fmt: skip
def test_missing_parts_are_left_out(whole, undrawn, without, pictures):
    assert section(whole, *without).count("<img") == pictures


@pytest.mark.parametrize(
    "changes",
    [
        {"modalities": ["a"]},
        {"chip": np.zeros((3, 16, 16, 2))},
        {"near/test": np.zeros(3)},
        {"time/steps": [1]},
        {"score/counts": [1]},
    ],
)
def test_arrays_that_do_not_fit_are_named(whole, changes):
    with pytest.raises(UsageError, match=r"synthesis/.*do not fit"):
        section(whole, **changes)


def test_the_report_has_the_section():
    assert report.synthesis_page is synthesis_page
    assert synthesis_page.section({}, SUMMARY) == ""


# Figures.


def test_a_grid_has_its_images():
    rng = np.random.default_rng(0)
    grey = rng.uniform(-1, 1, (3, 4, 5))
    fig = synthesis_figures.grid(
        {"a": grey, "b": 2 * grey}, ["x", "y", "z"], ["b"]
    )
    (ax,) = fig.axes
    shown = np.asarray(ax.images[0].get_array())
    # A line is 4 pixels high, a column 5 wide, and 1 lies between.
    assert shown.shape == (9, 17, 3)
    for i in range(3):
        tile = shown[:4, 6 * i : 6 * i + 5]
        wanted = np.repeat((grey[i, ..., None] + 1) / 2, 3, -1)
        np.testing.assert_allclose(tile, wanted, atol=1 / 255)
        signed = shown[5:, 6 * i : 6 * i + 5]
        # Red where it is positive, blue where it is negative.
        redder = signed[..., 0] > signed[..., 2]
        sure = np.abs(grey[i]) > 0.1
        np.testing.assert_array_equal(redder[sure], (grey[i] > 0)[sure])
    assert (shown[4] == 1).all() and (shown[:, 5] == 1).all()
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels == ["a", "b"]
    assert canvas.to_svg_or_png(fig).startswith("data:image/png")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ({}, "lines of images"),
        ({"a": np.zeros((2, 3, 3)), "b": np.zeros((2, 3, 4))}, "have one"),
        ({"a": np.full((2, 3, 3), 1.1)}, "pixel of 'a' is 1.1"),
    ],
)
def test_a_grid_that_does_not_fit_is_named(lines, says):
    with pytest.raises(UsageError, match=says):
        synthesis_figures.grid(lines)


def test_distances_are_drawn_as_shares():
    fig = synthesis_figures.distances({"a": np.array([0.5, 0.25]), "b": [1.0]})
    first, second = fig.axes[0].get_lines()
    np.testing.assert_allclose(first.get_xdata(), [0.25, 0.5])
    np.testing.assert_allclose(first.get_ydata(), [50, 100])
    np.testing.assert_allclose(second.get_ydata(), [100])
    for bad in ({}, {"a": np.array([-1.0])}):
        with pytest.raises(UsageError, match="distance"):
            synthesis_figures.distances(bad)
