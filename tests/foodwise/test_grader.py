"""The plate grader: a tiny one, its threshold, its gate and its versions."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.data import plates
from jaxedge.foodwise.base import words
from jaxedge.foodwise.grading import (
    experiment,
    grader,
    judged,
    learning,
    quality,
    storage,
)
from jaxedge.foodwise.grading.ordering import order_review
from jaxedge.learn import active
from jaxedge.recipes import federated

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compile_quickly")]

N = 120


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return grader.train(folder, n=N, epochs=1, accuracy=0.6)


@pytest.fixture(scope="module")
def judge(made):
    return grader.Grader(made.folder)


@pytest.fixture(scope="module")
def photos():
    return plates.draw(range(12), split="test").image_NxSxSx3


def copied(made, to):
    shutil.copytree(made.folder.parent, to)
    return to


# Versions.


def test_a_version_is_kept_whole(made):
    assert made.version == "v0001" and made.folder.name == "v0001"
    assert grader.versions(made.folder.parent) == ["v0001"]
    note = json.loads((made.folder / "metrics.json").read_text())
    assert note["metrics"] == made.metrics and note["of"] == "synthetic plates"
    assert note["accuracy"] == 0.6 and note["canteens"] == {}
    assert made.metrics["plates"] == N
    assert {p.name for p in made.folder.parent.iterdir()} == {
        "base.npz",
        "v0001",
    }


def test_kept_plates_are_those_it_learned_from(made):
    base = storage.base_of(made.folder.parent)
    source = plates.read("train", n=N)
    np.testing.assert_array_equal(base["train"].y_N, source.y)
    # Levels of 4 bits, to rounding.
    np.testing.assert_allclose(base["train"].x_NxF, source.x, atol=1e-6)


def test_retraining_makes_a_new_version(
    made, tmp_path, judge, photos, monkeypatch
):
    # Without chips, which takes less time, and learns no ranges of inputs.
    config = experiment.config("float")
    config.train.epochs = 1
    monkeypatch.setattr(grader, "_config", lambda epochs: config)
    folder = copied(made, tmp_path / "models")
    features = [judge.grade(photo).features for photo in photos]
    labels = [0, 1, 2] * 4
    canteens = ["north"] * 9 + ["south"] * 3
    again = grader.retrain(folder, features, labels, canteens)
    assert again.version == "v0002"
    assert grader.versions(folder) == ["v0001", "v0002"]
    note = json.loads((again.folder / "metrics.json").read_text())
    assert note["parent"] == "v0001"
    assert note["canteens"] == {"north": 9, "south": 3}
    assert again.metrics["plates"] == N + grader.times(canteens, N).sum()
    assert grader.Grader(folder).version == "v0002"
    assert grader.Grader(folder / "v0001").version == "v0001"


def test_canteens_weigh_alike():
    often = grader.times(["a"] * 30 + ["b"] * 60, 3000)
    # Three tenths of all, half of them of each: 643 of 30 and of 60.
    np.testing.assert_array_equal(often[:30], 20)  # Not 21: the most.
    np.testing.assert_array_equal(often[30:], 11)
    np.testing.assert_array_equal(grader.times(["a"] * 9000, 3000), 1)


@pytest.mark.parametrize(
    "features, labels, canteens, message",
    [
        (np.zeros((2, 64)), [0, 1], "ab", r"\[N, 128\]"),
        (np.full((2, 128), 2.0), [0, 1], "ab", "features is 2"),
        (np.zeros((2, 128)), [0, 3], "ab", "labels is 3"),
        (np.zeros((2, 128)), [0.5, 1], "ab", "whole numbers"),
        (np.zeros((2, 128)), [0, 1], "a", "2 labels but 1 canteens"),
        (np.zeros((0, 128)), [], "", "no reviewed plates"),
    ],
)
def test_bad_reviews(made, features, labels, canteens, message):
    with pytest.raises(UsageError, match=message):
        grader.retrain(made.folder.parent, features, labels, [*canteens])


def test_nothing_to_go_on_from(tmp_path):
    with pytest.raises(UsageError, match="train one first"):
        grader.retrain(tmp_path, np.zeros((1, 128)), [0], ["a"])
    with pytest.raises(UsageError, match="train one first"):
        grader.Grader(tmp_path)
    assert grader.versions(tmp_path / "absent") == []


def test_damaged_versions(made, tmp_path):
    folder = copied(made, tmp_path / "models")
    with pytest.raises(UsageError, match="no such|cannot be read"):
        (folder / "base.npz").write_bytes(b"PK")
        grader.Grader(folder, accuracy=0.9)
    shutil.rmtree(folder / "v0001" / "network")
    with pytest.raises(UsageError, match="no sound network"):
        grader.Grader(folder)
    (folder / "v0001" / "metrics.json").write_text("{}")
    with pytest.raises(UsageError, match="is damaged.*KeyError"):
        grader.Grader(folder)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"design": "exact"}, "design 'exact'"),
        ({"chip": -1}, "chip is -1"),
        ({"accuracy": 1.5}, "accuracy is 1.5"),
    ],
)
def test_bad_arguments(made, changes, message):
    with pytest.raises(UsageError, match=message):
        grader.Grader(made.folder, **changes)


# Grades.


def test_a_grade_is_the_network_by_hand(made, photos):
    """On exact hardware, in float64 from the arrays that were kept."""
    exact = grader.Grader(made.folder, design="float", accuracy=0.5)
    grade = exact.grade(photos[0])
    source = plates.read("test", n=1)
    np.testing.assert_allclose(grade.features, source.x[0], atol=1e-6)
    params, stats = (exact._network[k] for k in ("params", "batch_stats"))
    norm = stats["Norm_0"]["BatchNorm_0"]
    first, last = (
        np.asarray(params[f"Dense_{i}"]["kernel"].weights, np.float64)
        for i in (0, 1)
    )
    mean, var = (np.asarray(norm[k], np.float64) for k in ("mean", "var"))
    hidden = (np.array(grade.features) @ first - mean) / np.sqrt(var + 1e-5)
    z = np.maximum(hidden, 0) @ last
    alpha = 1 + np.exp(np.minimum(z, 10))
    np.testing.assert_allclose(grade.alpha, alpha, rtol=1e-4)
    np.testing.assert_allclose(
        grade.probabilities, alpha / alpha.sum(), rtol=1e-4
    )
    np.testing.assert_allclose(grade.uncertainty, 3 / alpha.sum(), rtol=1e-4)
    assert grade.version == "v0001" and grade.quality == ""


def test_the_same_photo_has_the_same_grade(made, judge, photos):
    grades = [judge.grade(photo) for photo in photos]
    again = grader.Grader(made.folder)
    assert [again.grade(photo) for photo in photos] == grades
    other = grader.Grader(made.folder, chip=1)
    found = other.grade(photos[0])
    assert found.chip == 1 and found.alpha != grades[0].alpha
    # Ten times the spread of a chip would be another network.
    np.testing.assert_allclose(found.alpha, grades[0].alpha, rtol=0.5)
    assert judge.warm_up() < 5  # Seconds; 0.002 on an idle machine.


def test_the_threshold_decides(judge, photos):
    for photo in photos:
        grade = judge.grade(photo)
        sure = grade.uncertainty <= judge.threshold.u
        expected = int(np.argmax(grade.alpha)) if sure else None
        assert grade.decision == expected
    never = judged.Threshold(-1.0, 1.0, 0.0)
    kept, judge.threshold = judge.threshold, never
    assert judge.grade(photos[0]).decision is None
    judge.threshold = kept


def test_the_most_accuracy_is_hardest(made):
    asked = [grader.Grader(made.folder, accuracy=a) for a in (0.4, 0.7, 1.0)]
    assert np.all(np.diff([g.threshold.u for g in asked]) <= 0)
    assert all(
        g.threshold.accuracy >= a
        for g, a in zip(asked, (0.4, 0.7, 1.0), strict=True)
    )


@pytest.mark.parametrize("accuracy", [0.5, 0.8, 0.95, 1.0])
def test_threshold_by_every_candidate(accuracy):
    rng = np.random.default_rng(0)
    # Whole numbers, so that there are ties.
    alpha = 1.0 + rng.integers(0, 5, (60, 3))
    label = np.where(rng.random(60) < 0.7, alpha.argmax(1), 0)
    u = np.array([3 / sum(row) for row in alpha])
    right = alpha.argmax(1) == label
    good = [t for t in u if right[u <= t].mean() >= accuracy]
    found = judged.threshold(alpha, label, accuracy)
    if not good:
        assert found == judged.Threshold(-1.0, 1.0, 0.0)
        return
    told = u <= max(good)
    np.testing.assert_allclose(
        found, [max(good), right[told].mean(), told.mean()]
    )


def test_scores_by_hand():
    """Ten plates, the surer the larger; of two errors one is a doubt."""
    size = np.arange(10, 0, -1.0)
    alpha = np.stack([1 + size, np.ones(10), np.ones(10)], 1)
    label = np.zeros(10, int)
    label[[3, 9]] = 1
    found = judged.scores(alpha, label)
    assert found["accuracy"] == 0.8 and found["caught"] == 0.5
    np.testing.assert_allclose(found["certain_80"], 7 / 8)
    np.testing.assert_allclose(found["certain_60"], 5 / 6)
    np.testing.assert_allclose(found["doubt"], np.mean(3 / (3 + size)))
    assert np.isnan(judged.scores(alpha, label * 0)["caught"])


# The gate.


def flat(level, shape=(128, 160, 3)):
    return np.full(shape, level, np.uint8)


def smooth():
    """Half dark and half bright, with a soft border of 40 pixels."""
    row = 60 + 120 / (1 + np.exp(-(np.arange(128) - 64) / 10))
    return np.broadcast_to(row[None, :, None], (128, 128, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    "photo, expected",
    [
        (flat(5), "too_dark"),
        (flat(250), "too_bright"),
        (flat(128), "no_plate"),
        (flat(128, (95, 300, 3)), "too_small"),
        (smooth(), "blurred"),
    ],
)
def test_bad_photos_are_not_graded(judge, photo, expected):
    assert expected in quality.PROBLEMS
    grade = judge.grade(photo)
    assert grade.quality == expected and grade.decision is None
    assert grade.uncertainty == 1 and grade.alpha == (1, 1, 1)


@pytest.mark.parametrize("canteen", [0, 1, 7])
def test_synthetic_plates_pass_the_gate(canteen):
    photos = plates.draw(range(20), canteen=canteen).image_NxSxSx3
    assert {quality.problem(photo) for photo in photos} == {None}
    large = np.kron(photos[0], np.ones((4, 4, 1), np.uint8))
    assert quality.problem(large) is None


@pytest.mark.parametrize(
    "photo",
    [
        np.zeros((96, 96, 3), np.float32),
        np.zeros((96, 96), np.uint8),
        np.zeros((96, 96, 4), np.uint8),
        np.zeros((0, 96, 3), np.uint8),
    ],
)
def test_no_photos(judge, photo):
    with pytest.raises(UsageError, match="must be uint8"):
        judge.grade(photo)


# The queue.


def test_the_queue_is_by_doubt_where_all_differ():
    rng = np.random.default_rng(0)
    alpha = 1 + rng.gamma(2, 3, (8, 3))
    features = np.eye(8, 128)  # As far apart as can be.
    found = order_review(alpha, features)
    score = active.calibrated_evidential(
        alpha.astype(np.float32), alpha.astype(np.float32)
    )
    np.testing.assert_array_equal(found, np.argsort(-np.asarray(score)))
    np.testing.assert_array_equal(found, order_review(alpha, features))


def test_photos_alike_wait():
    """Six of one plate, the most doubtful: five of them come last."""
    alpha = 1.0 + np.arange(12)[:, None] * np.array([1.0, 0.6, 0.3])
    features = np.eye(12, 128)
    features[:6] = features[0]
    found = order_review(alpha, features).tolist()
    assert sorted(found) == list(range(12))
    assert set(found[7:]) == set(range(6)) - {found[0]} or set(
        found[-5:]
    ) < set(range(6))


def test_queues_of_none_and_one():
    assert len(order_review(np.zeros((0, 3)), np.zeros((0, 128)))) == 0
    assert order_review(np.ones((1, 3)), np.ones((1, 128))).tolist() == [0]
    with pytest.raises(UsageError, match=r"\(2, 3\) and features \(3, 128\)"):
        order_review(np.ones((2, 3)), np.ones((3, 128)))


# The experiment.


@pytest.mark.parametrize("variant", experiment.VARIANTS)
def test_configs(variant):
    given = federated.parse(experiment.config(variant))
    assert given.evidence.evidential
    assert (given.active.method == "feal") == (variant == "canteens")
    with pytest.raises(UsageError, match="'grade'.*mean 'grader'"):
        experiment.config("grade")


def test_designs_are_of_the_macro():
    for name in learning.DESIGNS:
        plan = learning.design(name)
        assert plan is None or plan.config.rows == 64
    assert learning.design("int4").config.sigma_cell == 0


def test_no_web_code_is_needed():
    code = (
        "import sys; import jaxedge.foodwise.grading.grader;"
        "print({'fastapi', 'sqlalchemy', 'PIL'} & {*sys.modules})"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "set()"


def test_what_is_wrong_with_a_photo_has_words():
    for language in words.LANGUAGES:
        for problem in quality.PROBLEMS:
            assert words.say(language, f"quality.{problem}")
