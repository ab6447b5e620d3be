"""Tests of chip studies: figures, sweeps, and going on where one stopped."""

import dataclasses
import functools
import math
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import data, hardware
from jaxedge.core import checks
from jaxedge.core.keys import chip_keys, stream
from jaxedge.hardware import crossbar, devices
from jaxedge.recipes.recipe import Recipe
from jaxedge.run import loop, study, sweeps, tasks

ROWS = 37


def evaluate(variables, batch, key=None):
    kernel = variables["params"]["layer"]["kernel"]
    logits = hardware.dot(batch.x, kernel, key=key)
    right = (logits.argmax(1) == batch.y).astype(jnp.float32)
    return {
        "count": batch.weight.sum(),
        "accuracy": (right * batch.weight).sum(),
    }


def unused(*args):
    raise AssertionError("a study only evaluates")


RECIPE = Recipe(
    **{
        **dict.fromkeys(Recipe._fields, unused),
        **Recipe._field_defaults,
        "evaluate": evaluate,
    }
)
RNG = np.random.default_rng(0)
KERNEL = np.sign(RNG.normal(size=(6, 4))).astype(np.float32)
X = RNG.normal(size=(ROWS, 6)).astype(np.float32)
SOURCE = data.make_source(
    X, (X @ KERNEL).argmax(1), classes=tuple("abcd"), name="toy", split="test"
)
VARIABLES = {"params": {"layer": {"kernel": jnp.asarray(KERNEL)}}}
SPEC = crossbar.Spec(
    devices.get(
        "rram_40nm_set_reset", read_noise=0.1, stuck_on=0.03, stuck_off=0.03
    ),
    rows=4,
)
CHIPS = study.Chips(
    n=11,
    threshold=0.8,
    sweep=3,
    read_noise=(0.0, 0.1, 0.5),
    faults=(0.0, 0.06),
    images=None,
    seconds=(0.0, 1e6),
    adc_bits=(4, None),
    array=(2, 4),
    r_wire=(0.0,),
    batch=10,
    chunk=4,
    mode="map",
    block=None,
)
WORDS = "noise faults"
# Chunks of the base, and of two noise levels and a fault level: noise .1 and
# faults .06 are those of the base, which are not computed twice.
CHUNKS = 3 + 2 + 1


class Given(NamedTuple):
    """Arguments of `study.run` that a test may change."""

    recipe: Any = RECIPE
    variables: Any = VARIABLES
    source: Any = SOURCE
    spec: Any = SPEC
    chips: study.Chips = CHIPS
    words: str = WORDS
    seed: int = 0

    def run(self, folder, stop=None, samples=None, lessons=None):
        *rest, words, seed = self
        params = self.variables["params"]
        swept = sweeps.parse(
            words,
            self.chips.levels,
            self.spec,
            lambda: sweeps.layers(params, self.spec),
        )
        key = jax.random.key(seed)
        return study.run(*rest, swept, key, folder, stop, samples, lessons)


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
    """Studies of one recipe share their program, for the tests' sake."""
    with pytest.MonkeyPatch.context() as patch:
        cached = functools.cache(study.chip_score)
        patch.setattr(study, "chip_score", cached)
        yield


def test_a_sweep_of_percentiles_needs_samples(path):
    spec = dataclasses.replace(SPEC, input_bits=4)
    recipe = RECIPE._replace(
        forward=lambda variables, x: hardware.dot(
            x, variables["params"]["layer"]["kernel"]
        )
    )
    given = Given(recipe, spec=spec, words="input_percentile=5,100")
    with pytest.raises(checks.UsageError, match="give some inputs"):
        given.run(path)
    found = given.run(path, samples=X).arrays["input_percentile_score"]
    assert (found[0] != found[1]).any()


def test_a_recipe_says_what_judges_a_chip(path):
    def evaluate(variables, batch, key=None):
        return {
            "count": batch.weight.sum(),
            "rows": (jnp.arange(len(batch.y)) + 1.0) * batch.weight,
        }

    other = RECIPE._replace(
        evaluate=evaluate,
        # Frames of 10, 10, 10 and 7 rows, of which the seventh are in all.
        measure=lambda sums: {"seventh": sums["rows"][6] / 28},
        score="seventh",
    )
    found = Given(recipe=other).run(path)
    np.testing.assert_array_equal(found.arrays["score"], np.ones(11))
    assert Given().run(path).name != found.name


@pytest.fixture
def path(tmp_path):
    return tmp_path / "studies"


@pytest.fixture
def computed(monkeypatch):
    """A list that grows by the number of chips of each call of chip_map."""
    sizes = []

    def counting(f, keys, **options):
        sizes.append(keys.size)
        return chip_map(f, keys, **options)

    chip_map = study.chip_map
    monkeypatch.setattr(study, "chip_map", counting)
    return sizes


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A study that nothing interrupted; do not write to its folder."""
    path = tmp_path_factory.mktemp("whole") / "studies"
    return Given().run(path), path


def copy(whole, path):
    shutil.copytree(whole[1], path)


def assert_arrays(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


def test_chips_read_the_first_images(path, whole, tmp_path):
    first = SOURCE._replace(x=SOURCE.x[:7], y=SOURCE.y[:7])
    chips = CHIPS._replace(sweep=0)
    alone = Given(source=first, chips=chips).run(path)
    some = Given(chips=chips._replace(images=7)).run(tmp_path / "some.npz")
    assert_arrays(some.arrays, alone.arrays)
    assert (some.arrays["score"] != whole[0].arrays["score"]).any()
    # More than there are is all.
    many = Given(chips=chips._replace(images=10 * ROWS)).run(path)
    np.testing.assert_array_equal(
        many.arrays["score"], whole[0].arrays["score"]
    )


# Figures.


def test_a_summary_is_numpys():
    accuracy = np.array([0.9, 0.5, 0.8, 0.79, 1.0, 0.8], np.float32)
    found = study.summary(study.Study({"score": accuracy}, 7.0), 0.8)
    assert set(found) == {
        "n", "score_mean", "score_mean_low", "score_mean_high",
        "score_std", "score_p05", "score_p95", "score_min",
        "yield", "yield_low", "yield_high", "threshold", "confidence",
        "chips_per_second",
    }  # fmt: skip
    assert found["n"] == 6
    assert found["score_mean"] == pytest.approx(4.79 / 6)
    spread = np.std([0.9, 0.5, 0.8, 0.79, 1.0, 0.8])
    assert found["score_std"] == pytest.approx(spread, rel=1e-5)
    # A quarter of the way from the smallest to the next: 5 % of 5 steps.
    assert found["score_p05"] == pytest.approx(0.5 + 0.25 * 0.29)
    assert found["score_min"] == 0.5
    assert found["threshold"] == 0.8
    assert found["chips_per_second"] == 7.0


@pytest.mark.parametrize("right", [297, 306, 324, 342])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_chip_at_the_threshold_is_good(right, dtype):
    # 0.95 as float32 lies below 0.95: rounding must not cost a chip its sale.
    accuracy = np.array([right - 1, right, right + 1], dtype) / dtype(360)
    found = study.summary(study.Study({"score": accuracy}, 1.0), right / 360)
    assert found["yield"] == pytest.approx(2 / 3)


def test_ideal_chips_are_right(path):
    ideal = crossbar.Spec(devices.get("ideal"))
    chips = CHIPS._replace(n=2, sweep=0)
    result = Given(spec=ideal, chips=chips).run(path)
    assert_arrays(result.arrays, {"score": np.ones(2, np.float32)})


def test_accuracies_are_those_of_a_loop(whole):
    """Each chip by itself, frame by frame, without a map or a scan."""

    @jax.jit
    def program(key):
        named = stream(stream(key, "chip"), "layer/kernel")
        return hardware.program(named, KERNEL, SPEC)

    read = jax.jit(lambda x, kernel, key: hardware.dot(x, kernel, key=key))
    keys = chip_keys(stream(jax.random.key(0), "chips"), CHIPS.n)
    for chip in (0, 1, 10):
        key = keys[chip]
        kernel = program(key)
        right = 0
        for i, batch in enumerate(data.in_order(SOURCE, CHIPS.batch)):
            logits = read(batch.x, kernel, stream(key, "read", i))
            hits = np.asarray(logits).argmax(1) == batch.y
            right += int(hits[batch.weight == 1].sum())
        # An output near a tie may be rounded to either side.
        found = whole[0].arrays["score"][chip]
        assert found == pytest.approx(right / ROWS, abs=1.01 / ROWS)


def test_chips_differ(whole):
    assert len(np.unique(whole[0].arrays["score"])) > 2


def test_results_have_the_promised_shapes(whole):
    arrays = whole[0].arrays
    assert {name: array.shape for name, array in arrays.items()} == {
        "score": (11,),
        "read_noise_levels": (3,),
        "read_noise_score": (3, 3),
        "fault_levels": (2,),
        "fault_score": (2, 3),
    }
    np.testing.assert_array_equal(arrays["read_noise_levels"], (0.0, 0.1, 0.5))
    np.testing.assert_array_equal(arrays["fault_levels"], (0.0, 0.06))
    assert whole[0].chips_per_second > 0
    with np.load(whole[1] / f"{whole[0].name}.npz") as file:
        assert_arrays({name: file[name] for name in arrays}, arrays)


def test_every_level_has_the_same_chips(whole):
    # Noise .1 and faults .03 + .03 are those of the base.
    arrays = whole[0].arrays
    first = arrays["score"][: CHIPS.sweep]
    np.testing.assert_array_equal(arrays["read_noise_score"][1], first)
    np.testing.assert_array_equal(arrays["fault_score"][1], first)
    assert arrays["read_noise_score"][2].mean() < first.mean()


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_chunks_do_not_matter(path, whole, chunk):
    chips = CHIPS._replace(chunk=chunk)
    assert_arrays(Given(chips=chips).run(path).arrays, whole[0].arrays)


def test_more_chips_change_no_chip(path, whole):
    chips = CHIPS._replace(n=17, sweep=0)
    found = Given(chips=chips).run(path).arrays["score"]
    np.testing.assert_array_equal(found[:11], whole[0].arrays["score"])


def test_vectorised_chips_are_the_same(path, whole):
    chips = CHIPS._replace(mode="vmap", block=2)
    found = Given(chips=chips).run(path).arrays
    for name, array in whole[0].arrays.items():
        np.testing.assert_allclose(found[name], array, atol=1.01 / ROWS)


def test_a_study_compiles_one_program(path, compilations):
    recipe = RECIPE._replace(init=None)  # another one, with nothing compiled
    with compilations() as names:
        Given(recipe=recipe).run(path)
    assert sum("_map" in name for name in names) == 1
    with compilations() as names:
        Given(recipe=recipe, spec=other_device(read_noise=0.3)).run(path)
    assert not names


def test_a_sweep_of_no_chips_is_none(path):
    chips = CHIPS._replace(sweep=0)
    assert set(Given(chips=chips).run(path).arrays) == {"score"}


def test_empty_levels_are_left_out(path):
    chips = CHIPS._replace(read_noise=(), faults=(0.06,))
    found = Given(chips=chips).run(path).arrays
    assert set(found) == {"score", "fault_levels", "fault_score"}


def test_any_device_has_a_fault_sweep(path):
    spec = crossbar.Spec(devices.get("ideal", program_noise=0.2))
    chips = CHIPS._replace(faults=(0.0, 0.6))
    found = Given(spec=spec, chips=chips).run(path).arrays
    first = found["score"][: CHIPS.sweep]
    np.testing.assert_array_equal(found["fault_score"][0], first)
    assert found["fault_score"][1].mean() < first.mean()


def test_frames_are_padded_without_weight():
    frames = study.frames(SOURCE, 10)
    assert frames.x.shape == (4, 10, 6) and frames.y.shape == (4, 10)
    flat = frames.x.reshape(40, 6)
    np.testing.assert_array_equal(flat[:ROWS], X)
    assert frames.weight.reshape(40).tolist() == [1.0] * 37 + [0.0] * 3
    assert study.frames(SOURCE, 1000).x.shape == (1, ROWS, 6)


def test_what_a_recipe_prepares_is_found_once(path):
    """Of test frames and lessons alike; chips take it in place of inputs."""
    seen = []

    def prepare(x):
        seen.append(x.shape)
        return {"part": x[:, :2], "rest": x[:, 2:]}

    def whole(batch):
        both = jnp.concatenate([batch.x["part"], batch.x["rest"]], 1)
        return batch._replace(x=both)

    def adapt(variables, lessons, key):
        del key
        # The chip is what it was, if its lessons came prepared.
        same = (lessons.x["part"] == X[:20, :2].reshape(2, 10, 2)).all()
        return jax.tree.map(lambda a: jnp.where(same, a, jnp.nan), variables)

    given = Given(chips=CHIPS._replace(sweep=0, n=4))
    prepared = RECIPE._replace(
        prepare=prepare,
        adapt=adapt,
        lessons=20,
        evaluate=lambda v, batch, key=None: evaluate(v, whole(batch), key),
    )
    found = given._replace(recipe=prepared).run(path / "a", lessons=SOURCE)
    # Traced once for either size of frames, whatever the number of chips.
    assert seen == [(10, 6), (10, 6)]
    plain = given.run(path / "b").arrays["score"]
    np.testing.assert_array_equal(found.arrays["score"], plain)


# Going on.


def test_a_second_call_computes_nothing(path, whole, computed):
    copy(whole, path)
    result = Given().run(path)
    assert computed == [] and not result.computed
    assert result.name == whole[0].name
    assert_arrays(result.arrays, whole[0].arrays)
    assert result.chips_per_second == whole[0].chips_per_second


TOTAL = 11 + 2 * 3 + 3  # chips of the study, each counted once


@pytest.mark.parametrize("looks", [0, 1, 2, CHUNKS - 1])
def test_a_stopped_study_goes_on(path, whole, computed, looks, stop_at):
    done = (0, 4, 8, 11, 14, 17)[looks]
    with pytest.raises(loop.Preempted, match=f"after {done} of {TOTAL} chips"):
        Given().run(path, stop_at(looks))
    assert list(path.glob("*.npz")) == []
    result = Given().run(path)
    assert len(computed) == CHUNKS  # none of them twice
    assert_arrays(result.arrays, whole[0].arrays)


def test_a_study_stopped_at_every_chunk_goes_on(path, whole, computed, stop_at):
    for done in range(CHUNKS):
        with pytest.raises(loop.Preempted):
            Given().run(path, stop_at(1 if done else 0))
    assert_arrays(Given().run(path).arrays, whole[0].arrays)
    assert len(computed) == CHUNKS


def test_a_kill_loses_the_chunk_under_way_at_most(path, whole, monkeypatch):
    calls = []

    def killed(*args, **options):
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return chip_map(*args, **options)

    chip_map = study.chip_map
    monkeypatch.setattr(study, "chip_map", killed)
    with pytest.raises(KeyboardInterrupt):
        Given().run(path)
    result = Given().run(path)
    assert len(calls) == 5 + CHUNKS - 4
    assert_arrays(result.arrays, whole[0].arrays)


def test_studies_share_chips_and_lie_beside_each_other(path, whole, computed):
    copy(whole, path)
    before = {p.name: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    chips = CHIPS._replace(n=13)
    result = Given(chips=chips, words="noise adc").run(path)
    # Two more chips of the base; of the ADC 4 bits, as None is the base.
    assert computed == [4, 4]
    found = result.arrays
    assert found["score"].shape == (13,)
    np.testing.assert_array_equal(found["score"][:11], whole[0].arrays["score"])
    name = "read_noise_score"
    np.testing.assert_array_equal(found[name], whole[0].arrays[name])
    np.testing.assert_array_equal(
        found["adc_bits_score"][1], found["score"][:3]
    )
    assert result.name != whole[0].name
    archive = f"{whole[0].name}.npz"
    assert (path / archive).read_bytes() == before[archive]


def other_kernel():
    kernel = jnp.asarray(KERNEL).at[0, 0].multiply(-1)
    return {"params": {"layer": {"kernel": kernel}}}


def other_device(**fields):
    device = dataclasses.replace(SPEC.device, **fields)
    return dataclasses.replace(SPEC, device=device)


def test_chips_of_another_physics_are_computed_anew(
    path, whole, computed, monkeypatch
):
    copy(whole, path)
    monkeypatch.setattr(tasks, "_PHYSICS", 1)
    Given().run(path)
    assert len(computed) == CHUNKS


CHANGES = {
    "network": Given(variables=other_kernel()),
    "noise": Given(spec=other_device(read_noise=0.3)),
    "faults": Given(spec=other_device(stuck_on=0.0)),
    "law": Given(spec=other_device(family="lognormal")),
    "tiles": Given(spec=dataclasses.replace(SPEC, rows=2)),
    "converter": Given(spec=dataclasses.replace(SPEC, adc_bits=6)),
    "inputs": Given(source=SOURCE._replace(x=-X)),
    "labels": Given(source=SOURCE._replace(y=SOURCE.y[::-1].copy())),
    "frames": Given(chips=CHIPS._replace(batch=ROWS)),
    "seed": Given(seed=1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_study_is_computed_anew(
    path, whole, computed, change, stop_at
):
    copy(whole, path)
    with pytest.raises(loop.Preempted, match="after 0 of"):
        CHANGES[change]._replace(words="").run(path, stop_at(0))
    assert computed == []


@pytest.mark.parametrize(
    "change", [{"mode": "vmap"}, {"block": 2}, {"chunk": 3}, {"threshold": 0.1}]
)
def test_how_chips_are_computed_is_no_change(path, whole, computed, change):
    copy(whole, path)
    result = Given(chips=CHIPS._replace(**change)).run(path)
    assert computed == [] and result.name == whole[0].name


def cut(data):
    return data[: len(data) // 2]


def flipped(data):
    place = data.rindex(b"0.")  # a digit of the last chunk
    return data[:place] + b"1" + data[place + 1 :]


@pytest.mark.parametrize(
    "harm", [cut, flipped, lambda data: b"", lambda data: b"PK\x03\x04 no"]
)
@pytest.mark.parametrize("kind", ["*.npz", "chips/*.jsonl"])
def test_what_is_damaged_is_computed_anew(path, whole, harm, kind):
    copy(whole, path)
    for file in path.glob(kind):
        data = file.read_bytes()
        if harm is not flipped or b"0." in data:
            file.write_bytes(harm(data))
    assert_arrays(Given().run(path).arrays, whole[0].arrays)
    # What is on disk is whole again.
    assert_arrays(Given().run(path).arrays, whole[0].arrays)


# Bad fields.


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 0), ("n", 2.5), ("batch", 0), ("chunk", -1), ("sweep", -1),
        ("sweep", 1.5), ("threshold", 1.1), ("threshold", math.nan),
        ("read_noise", (0.1, -0.1)), ("read_noise", ("a",)),
        ("faults", (0.5, 1.5)), ("faults", (math.nan,)), ("mode", "loop"),
        ("block", 0), ("block", 1.5),
    ],
)  # fmt: skip
def test_a_field_out_of_range_is_named(field, value):
    with pytest.raises(checks.UsageError, match=f"chips.{field}"):
        CHIPS._replace(**{field: value}).check()


def test_good_fields_pass():
    CHIPS.check()
    CHIPS._replace(read_noise=(), faults=(0.0, 1.0), sweep=0, block=3).check()


# What chips learn for themselves.


def learn(variables, lessons, key):
    """The kernel of least squares between what was asked and what was read."""
    assert key is not None
    x = lessons.x.reshape(-1, lessons.x.shape[-1])
    y = jax.nn.one_hot(lessons.y.ravel(), 4) * lessons.weight.reshape(-1, 1)
    kernel = x.T @ y  # Enough for the signs of the toy's kernel.
    return {"params": {"layer": {"kernel": kernel}}}


LEARNING = RECIPE._replace(adapt=learn, lessons=30)


def test_chips_learn_from_their_lessons(path):
    """All of them the same, for their lessons are: no chip is left."""
    given = Given(recipe=LEARNING, words="")
    result = given.run(path, None, None, SOURCE)
    x = np.float64(X[:30])
    kernel = x.T @ np.eye(4)[SOURCE.y[:30]]
    expected = ((X @ kernel).argmax(1) == SOURCE.y).mean()
    assert len(result.arrays["score"]) == CHIPS.n
    np.testing.assert_allclose(result.arrays["score"], expected, atol=1e-6)
    # Without what it learned a chip is another one.
    before = Given(words="").run(path).arrays["score"]
    assert (before != result.arrays["score"]).any()


@pytest.mark.parametrize(
    "lessons",
    [
        None,
        data.make_source(
            X[:29],
            SOURCE.y[:29],
            classes=SOURCE.classes,
            name="toy",
            split="train",
        ),
    ],
    ids=["none", "few"],
)
def test_too_few_lessons_are_an_error(path, lessons):
    given = Given(recipe=LEARNING, words="")
    with pytest.raises(checks.UsageError, match="learn from 30 examples"):
        given.run(path, None, None, lessons)
    assert not path.exists()
