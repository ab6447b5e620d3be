"""Tests of what is kept of radiomics, each found again in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from sklearn import metrics

from jaxedge import data
from jaxedge.core.keys import stream
from jaxedge.learn import roc
from jaxedge.recipes import radiomic_inputs, ridl
from jaxedge.recipes.recipe import Recipe
from jaxedge.run import exhibits, frames, informed

pytestmark = pytest.mark.usefixtures("compile_quickly")

KEY = jax.random.key(7)
NOISE, BATCH, NAMES = 0.3, 10, ("shape_A", "glcm_B")
SIZE, DEEP = (7, 9, 8), 4
RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(2, DEEP)).astype(np.float32)
NETWORKS = informed.Networks(
    {"w": WEIGHT[::-1], "gain": np.ones(1, np.float32)},
    {"w": WEIGHT, "gain": np.ones(1, np.float32)},
    {"w": WEIGHT, "gain": np.full(1, 0.5, np.float32)},
)


def forward(variables, x, key=None, mutable=()):
    """A network of what its volumes and their radiomics are on average."""
    volume, _, radiomic = radiomic_inputs.apart(x, 1)
    mean = volume.mean((1, 2, 3))
    deep = jnp.tanh(mean @ variables["w"]).at[:, 0].set(3.0)
    logit = variables["gain"] * (20 * mean[:, 0] + radiomic[:, 0])
    if key is not None:
        logit += NOISE * jax.random.normal(key, logit.shape)
    out = jnp.stack([jnp.ones_like(logit), 1 + logit], -1)
    if not mutable:
        return out
    assert mutable == ["intermediates"]
    told = {ridl.DEEP: (deep,), ridl.GLOBAL: (radiomic,)}
    return out, {"intermediates": told}


def unused(*args):
    raise AssertionError("a report only reads")


RECIPE = Recipe(unused, unused, unused, unused, unused, forward, unused)


def made(n, split, seed):
    """Volumes [N, Z, Y, X, 2 + 1 + 2] whose region is a box."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3 % 2
    x = rng.normal(size=(n, *SIZE, 5)).astype(np.float32)
    x[..., 0] += 0.03 * y[:, None, None, None]
    x[..., 1] = 0
    x[:, 1:6, 2:6, 4:8, 1] = 1
    values = rng.normal(size=(n, 2)) + np.stack([y, -2 * y], -1)
    x[..., 3:] = values[:, None, None, None]
    source = data.make_source(
        x, y, classes=("low", "high"), name="toy", split=split
    )
    known = zip(NAMES, 100 + values.T.astype(np.float32), strict=True)
    more = {f"radiomics/{name}": value for name, value in known}
    return source._replace(aux={"other": y} | more)


def aux(source):
    assert source.aux is not None
    return source.aux


SPLITS = {"train": made(17, "train", 1), "test": made(23, "test", 2)}


@pytest.fixture(scope="module")
def found():
    test = frames.frames(SPLITS["test"], BATCH)
    arrays = informed.collect(RECIPE, NETWORKS, test, SPLITS, KEY)
    assert all(name.startswith("informed/") for name in arrays)
    return {name.removeprefix("informed/"): a for name, a in arrays.items()}


def log_odds():
    """Of the test split, ideal and on the chip, whose frames have a noise."""
    x = SPLITS["test"].x.astype(float)
    ideal = 20 * x[..., 0].mean((1, 2, 3)) + x[:, 0, 0, 0, 3]
    noise = [
        jax.random.normal(stream(KEY, "read", i), (BATCH,)) for i in range(3)
    ]
    return {
        "ideal": ideal,
        "chip": 0.5 * ideal + NOISE * np.concatenate(noise)[: len(ideal)],
    }


def test_features_are_told_by_class(found):
    train, test = SPLITS["train"], SPLITS["test"]
    assert found["names"].tolist() == list(NAMES)
    assert found["classes"].tolist() == ["low", "high"]
    np.testing.assert_array_equal(found["counts"], np.bincount(test.y))
    values = np.stack([aux(train)[f"radiomics/{n}"] for n in NAMES], -1)
    for k in range(2):
        mine = values[train.y == k].astype(float)
        np.testing.assert_allclose(found["mean"][:, k], mine.mean(0))
        np.testing.assert_allclose(found["spread"][:, k], mine.std(0, ddof=1))
    for row, name in zip(found["alone"], NAMES, strict=True):
        value = aux(test)[f"radiomics/{name}"]
        known = metrics.roc_auc_score(test.y, value)
        assert row[0] == pytest.approx(known, rel=1e-6)
        assert 0 <= row[1] < row[0] < row[2] <= 1
    assert found["alone"][0, 0] > 0.5 > found["alone"][1, 0]


def test_curves_are_those_of_the_networks_answers(found):
    test, scores = SPLITS["test"], log_odds()
    for place, score in scores.items():
        area = metrics.roc_auc_score(test.y, score)
        assert found[f"roc/{place}/area"][0] == pytest.approx(area, rel=1e-5)
        # The trapezoids under the points, none of which is left out here.
        false, true = (found[f"roc/{place}/{n}"] for n in ("false", "true"))
        assert np.trapezoid(true, false) == pytest.approx(area, rel=1e-5)
        low, high = (found[f"roc/{place}/{n}"] for n in ("low", "high"))
        at = found[f"roc/{place}/at"]
        no = int((test.y == 0).sum())
        np.testing.assert_allclose(at, np.arange(no + 1) / no, rtol=1e-6)
        assert (low <= high).all() and low.shape == at.shape
    # By pairs of examples, in float64.
    over = {
        place: np.heaviside(s[test.y == 1][:, None] - s[test.y == 0], 0.5)
        for place, s in scores.items()
    }
    less = over["chip"] - over["ideal"]
    variance = sum(
        less.mean(axis).var(ddof=1) / less.shape[1 - axis] for axis in range(2)
    )
    reach = scipy.stats.norm.isf((1 - roc.CONFIDENCE) / 2) * np.sqrt(variance)
    wanted = less.mean() + np.array([0, -reach, reach])
    np.testing.assert_allclose(found["roc/change"], wanted, atol=1e-5)
    assert less.any()


def test_correlations_are_those_of_numpy(found):
    test = SPLITS["test"].x.astype(float)
    mean, radiomic = test[..., :2].mean((1, 2, 3)), test[:, 0, 0, 0, 3:]
    for when, weight in (("start", WEIGHT[::-1]), ("trained", WEIGHT)):
        deep = np.tanh(mean @ weight)
        r = np.corrcoef(deep.T, radiomic.T)[:DEEP, DEEP:]
        r[0] = 0  # The first one is constant.
        mine = found[f"correlation/{when}"]
        np.testing.assert_allclose(mine, r, atol=2e-4)


def test_volumes_are_cut_around_their_regions(found):
    test = SPLITS["test"]
    rows = found["rows"]
    assert rows.tolist() == [0, 1, 2, 4]  # The first two of either class.
    np.testing.assert_array_equal(found["label"], test.y[rows])
    odds = np.stack([*log_odds().values()], -1)[rows]
    np.testing.assert_allclose(
        found["said"], scipy.special.expit(odds), rtol=1e-4
    )
    assert found["depth"] == 7
    assert found["slices"].tolist() == [[2, 3, 4]] * 4
    # The region is 4 x 4, of which 1.5 are 6: rows 0 to 5 around 2 to 5, and
    # the last six columns.
    cut = test.x[rows][:, 2:5, 0:6, 2:8]
    np.testing.assert_array_equal(found["image"], cut[..., 0])
    np.testing.assert_array_equal(found["region"], cut[..., 1] > 0)
    np.testing.assert_array_equal(found["maps"], cut[..., 2:3])


def test_a_large_volume_is_cut_and_a_long_curve_thinned(monkeypatch):
    monkeypatch.setattr(informed, "SIDE", 3)
    monkeypatch.setattr(informed, "POINTS", 5)
    test = frames.frames(SPLITS["test"], BATCH)
    said = {str(place): np.zeros(23) for place in exhibits.PLACES}
    found = informed.volumes(test, SPLITS["test"].y, 2, said)
    assert found["image"].shape == (4, 3, 3, 3) and found["region"].all()
    score = {"ideal": RNG.normal(size=23).astype(np.float32)}
    found = informed.curves(score, SPLITS["test"].y, KEY)
    assert found["roc/ideal/false"].tolist()[::4] == [0, 1]
    assert len(found["roc/ideal/true"]) == 5 and "roc/change" not in found


def test_what_cannot_be_told_is_left_out():
    y, score = np.array([0, 0, 0, 1]), np.arange(4, dtype=np.float32)
    assert informed.curves({"ideal": score}, y, KEY) == {}
    broken = {"ideal": np.full(4, np.nan, np.float32)}
    assert informed.curves(broken, np.array([0, 0, 1, 1]), KEY) == {}
    none = radiomic_inputs.Table((), np.zeros((4, 0)))
    assert informed.features(none, y, none, y) == {}
    one = radiomic_inputs.Table(("a",), score[:, None])
    found = informed.features(one, y, one, y)
    np.testing.assert_array_equal(found["mean"], [[1, 3]])
    np.testing.assert_array_equal(found["spread"], [[1, np.nan]])
    assert np.isnan(found["alone"]).all()
    told = informed.Told(score, score[:, None], np.zeros((4, 0)))
    assert informed.correlations(told, told) == {}
    told = informed.Told(score, np.full((4, 1), np.inf), score[:, None])
    assert informed.correlations(told, told) == {}


def test_the_features_that_were_chosen_are_known(monkeypatch):
    values = np.arange(12.0).reshape(6, 2) ** 2
    table = radiomic_inputs.Table(("b", "a"), values)
    monkeypatch.setattr(radiomic_inputs, "table", lambda *args: table)
    monkeypatch.setattr(
        radiomic_inputs, "_local", lambda s, _: np.zeros((*s.x.shape[:-1], 0))
    )
    given = radiomic_inputs.Radiomics(names=("a", "b"), most=2)
    bare = made(3, "train", 3)
    bare = bare._replace(x=bare.x[..., :2], aux={"other": bare.y})
    found = radiomic_inputs.add(given, {"train": bare, "test": bare})
    known = radiomic_inputs.known(found["test"])
    assert known.names == ("a", "b")
    np.testing.assert_array_equal(known.values_NxF, values[3:, ::-1])
    # In the order of the channels, which are standardised.
    channels = found["test"].x[:, 0, 0, 0, 2:]
    for k in range(2):
        r = np.corrcoef(channels[:, k], known.values_NxF[:, k])[0, 1]
        assert r == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(aux(found["test"])["other"], bare.y)
    none = radiomic_inputs.known(bare)
    assert none.names == () and none.values_NxF.shape == (3, 0)


def test_volumes_have_counts_of_answers_alone():
    test = frames.frames(SPLITS["test"], BATCH)
    pair = exhibits.Pair(NETWORKS.ideal, NETWORKS.chip)
    names = ("low", "high")
    found = exhibits.collect(RECIPE, pair, test, names, KEY)
    assert set(found) == {"confusion/ideal", "confusion/chip", "classes"}
    said = log_odds()["ideal"] > 0
    np.testing.assert_array_equal(
        found["confusion/ideal"],
        metrics.confusion_matrix(SPLITS["test"].y, said),
    )
