"""Tests of the folder of a run: whose it is, and what it may not be."""

import json
import os

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder
import pytest

from jaxedge.core import checks
from jaxedge.run import workdir


def config(**changes):
    base = {
        "recipe": "edge_pruning",
        "seed": 0,
        "train": {"epochs": 3, "hardware": "ideal"},
        "hardware": {"device": "a", "overrides": {"read_noise": 0.02}},
        "chips": {"n": 10, "faults": (0.0, 0.1)},
        "energy": {"read_volts": 0.15},
    }
    for path, value in changes.items():
        *sections, field = path.split("__")
        section = base
        for name in sections:
            section = section[name]
        section[field] = value
    return workdir.plain(ConfigDict(base))


@pytest.fixture
def folder(tmp_path):
    """The folder of a run of `config()`."""
    workdir.create(tmp_path / "run", config())
    return tmp_path / "run"


def test_a_plain_config_is_what_json_gives_back():
    plain = workdir.plain(
        ConfigDict(
            {"a": (1, 2), "b": placeholder(int), "c": {"d": 0.1, "e": "x"}}
        )
    )
    assert plain == {"a": [1, 2], "b": None, "c": {"d": 0.1, "e": "x"}}
    assert json.loads(json.dumps(plain)) == plain


def test_flat_names_fields_by_their_path():
    assert workdir.flat({"a": 1, "b": {"c": 2, "d": {"e": [3]}}, "f": {}}) == {
        "a": 1,
        "b.c": 2,
        "b.d.e": [3],
    }


@pytest.mark.parametrize("study", [True, False])
def test_the_folder_of_the_same_config_will_do(folder, study):
    workdir.check(folder, config(), study)


def test_a_new_or_unused_folder_will_do(tmp_path):
    workdir.check(tmp_path, config(), study=False)
    workdir.check(tmp_path / "new" / "er", config(), study=False)
    assert list(tmp_path.iterdir()) == []  # a check creates nothing


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("seed", 1, "seed: 0 there, 1 now"),
        ("train__epochs", 4, "train.epochs: 3 there, 4 now"),
        ("train__hardware", "one_chip", "train.hardware: 'ideal' there"),
        ("recipe", "other", "recipe: 'edge_pruning' there, 'other' now"),
        ("train__new", 5, "train.new: 'absent' there, 5 now"),
    ],
)
@pytest.mark.parametrize("study", [True, False])
def test_another_training_is_refused(folder, path, value, message, study):
    with pytest.raises(checks.UsageError) as caught:
        workdir.check(folder, config(**{path: value}), study)
    text = str(caught.value)
    assert message in text and str(folder) in text
    assert "choose another --workdir" in text and "\n" not in text


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("hardware__device", "b"),
        ("hardware__overrides", {"read_noise": 0.1}),
        ("chips__n", 20),
        ("chips__faults", ()),
        ("energy__read_volts", 0.2),
    ],
)
def test_a_study_may_change_what_is_studied(folder, path, value):
    changed = config(**{path: value})
    workdir.check(folder, changed, study=True)
    with pytest.raises(checks.UsageError, match=path.split("__")[0]):
        workdir.check(folder, changed, study=False)


def test_a_run_from_before_a_field_goes_on(folder):
    """Macros came later, with fields of their own, and change no such run."""
    now = config(
        chips__sigma=(0.0, 2.0),
        energy__macro_joules=1e-12,
        hardware__macro={"fold": None},
    )
    workdir.check(folder, now, study=False)
    # Once a run has them they count.
    later = folder.parent / "later"
    workdir.create(later, now)
    with pytest.raises(checks.UsageError, match="chips.sigma"):
        workdir.check(later, config(chips__sigma=(0.0, 3.0)), study=False)


def test_a_run_from_before_a_field_was_trained_in_one_way(folder):
    one, all_ = (config(train__devices=word) for word in ("one", "all"))
    workdir.check(folder, one, study=False)
    with pytest.raises(checks.UsageError, match="train.devices: 'one' there"):
        workdir.check(folder, all_, study=False)


def test_many_differences_are_cut_short(folder):
    changed = {f"train__field_{i}": i for i in range(8)}
    with pytest.raises(checks.UsageError) as caught:
        workdir.check(folder, config(**changed), study=False)
    assert "field_4" in str(caught.value)
    assert "field_5" not in str(caught.value) and "; ..." in str(caught.value)


def test_a_study_needs_a_run(tmp_path):
    with pytest.raises(checks.UsageError, match="holds no run; train one"):
        workdir.check(tmp_path, config(), study=True)


def test_a_file_is_no_workdir(tmp_path):
    (tmp_path / "file").write_text("")
    for study in (True, False):
        with pytest.raises(checks.UsageError, match="file is not a folder"):
            workdir.check(tmp_path / "file", config(), study)
        with pytest.raises(checks.UsageError, match="file is a file"):
            workdir.check(tmp_path / "file" / "a" / "b", config(), study)


def test_a_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    def refused(self, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "mkdir", refused)
    with pytest.raises(checks.UsageError, match="made .Permission denied"):
        workdir.create(tmp_path / "run", config())


@pytest.mark.parametrize(
    "content", ["", '{"seed": 0', "[]", "3", "\x00\xff", "[" * 100_000]
)
def test_a_damaged_config_is_named(folder, content):
    (folder / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(checks.UsageError, match="config.json cannot be read"):
        workdir.check(folder, config(), study=False)


def test_the_first_config_stays(folder):
    before = (folder / "config.json").read_bytes()
    workdir.create(folder, config(seed=1))
    assert (folder / "config.json").read_bytes() == before


def test_a_kill_while_writing_leaves_no_config(tmp_path, monkeypatch):
    def killed(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        workdir.create(tmp_path / "run", config())
    monkeypatch.undo()
    assert not (tmp_path / "run" / "config.json").exists()
    workdir.check(tmp_path / "run", config(seed=1), study=False)
    workdir.create(tmp_path / "run", config(seed=1))
    workdir.check(tmp_path / "run", config(seed=1), study=False)


def test_json_is_replaced_at_once(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    workdir.write_json(path, {"a": 1})
    monkeypatch.setattr(os, "fsync", lambda descriptor: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        workdir.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]
