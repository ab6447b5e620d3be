"""Tests of the writers: what is on disk, and what a resumed run keeps."""

import json
import math
import os

import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core import checks
from jaxedge.run import metrics


def row(step, **scalars):
    return {"step": step, "phase": "train", "loss": 1 / (1 + step), **scalars}


def write(path, steps, resume_step=None):
    writer = metrics.Jsonl(path, resume_step)
    for step in steps:
        scalars = row(step)
        del scalars["step"]
        writer.write(step, scalars)
    writer.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def test_rows_come_back(path):
    write(path, range(3))
    assert metrics.read(path) == [row(0), row(1), row(2)]


def test_a_row_is_on_disk_at_once(path):
    writer = metrics.Jsonl(path)
    writer.write(0, {"loss": 1.0})
    assert metrics.read(path) == [{"step": 0, "loss": 1.0}]
    writer.close()
    writer.close()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_does_not_know_becomes_null(path, value):
    writer = metrics.Jsonl(path)
    writer.write(0, {"loss": value})
    writer.close()

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    text = path.read_text()
    assert json.loads(text, parse_constant=refuse)["loss"] is None


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.array(2.5), 2.5),
        (jnp.float32(0.25), 0.25),
        ("train", "train"),
    ],
)
def test_numbers_of_arrays_become_plain(path, value, plain):
    writer = metrics.Jsonl(path)
    writer.write(0, {"x": value})
    writer.close()
    assert metrics.read(path) == [{"step": 0, "x": plain}]


@pytest.mark.parametrize("resume_step", [-1, 0, 4, 9, 100])
def test_a_resumed_file_equals_an_uninterrupted_one(tmp_path, resume_step):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    write(whole, range(10))
    write(resumed, range(10))
    write(resumed, range(min(resume_step, 9) + 1, 10), resume_step)
    assert resumed.read_bytes() == whole.read_bytes()
    assert [p.name for p in tmp_path.iterdir() if "tmp" in p.name] == []


@pytest.mark.parametrize("cut", range(1, 43, 4))
def test_a_torn_last_line_is_dropped(path, cut):
    write(path, range(4))
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    # Without its newline alone (cut 1) the last row is still whole.
    kept = 4 if cut == 1 else 3
    assert metrics.read(path) == [row(step) for step in range(kept)]
    write(path, range(kept, 4))  # the next row starts on a line of its own
    assert path.read_bytes() == whole


def test_a_tear_inside_a_character_is_dropped(path):
    whole = '{"step": 0, "phase": "é"}\n'.encode()
    path.write_bytes(whole + whole[:-4])
    assert metrics.read(path) == [{"step": 0, "phase": "é"}]


def test_none_keeps_rows_and_minus_one_drops_all(path):
    write(path, range(3))
    metrics.Jsonl(path).close()
    assert len(metrics.read(path)) == 3
    metrics.Jsonl(path, -1).close()
    assert metrics.read(path) == []


def test_a_kill_while_truncating_keeps_the_old_file(path, monkeypatch):
    write(path, range(5))
    whole = path.read_bytes()

    def killed(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        metrics.Jsonl(path, 2)
    assert path.read_bytes() == whole
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "line", ["{broken", "[1, 2]", '{"loss": 1}', "3", "[" * 100_000]
)
def test_a_broken_line_is_named(path, line):
    path.write_text(f'{{"step": 0}}\n{line}\n{{"step": 1}}\n')
    with pytest.raises(checks.UsageError, match="line 2 of .*metrics.jsonl"):
        metrics.read(path)


def test_a_missing_file_is_named(path):
    with pytest.raises(checks.UsageError, match="no metrics file .*workdir"):
        metrics.read(path)


def test_a_scalar_cannot_pose_as_the_step(path):
    writer = metrics.Jsonl(path)
    with pytest.raises(checks.UsageError, match="'step' .value 3"):
        writer.write(1, {"step": 3})
    writer.close()


def events(folder):
    """(step, tag, value) of the event files in `folder`, in file order."""
    from tensorboardX.proto import event_pb2

    found = []
    for file in sorted(folder.iterdir()):
        data = file.read_bytes()
        while data:
            # TFRecord: length (8 bytes), its checksum (4), data, checksum (4).
            size = int.from_bytes(data[:8], "little")
            event = event_pb2.Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]
            if event.HasField("session_log"):
                found.append((event.step, "start", None))
            for value in event.summary.value:
                found.append((event.step, value.tag, value.simple_value))
    return found


def test_tensorboard_has_phase_as_prefix(tmp_path):
    writer = metrics.TensorBoard(tmp_path)
    writer.write(3, {"phase": "train", "loss": 0.5, "epoch": 1})
    writer.write(4, {"seconds": np.float32(2)})
    writer.close()
    writer.close()
    assert events(tmp_path) == [
        (3, "train/loss", 0.5),
        (3, "train/epoch", 1.0),
        (4, "seconds", 2.0),
    ]


def test_tensorboard_purges_past_the_resumed_step(tmp_path):
    for resume_step in (None, 2):
        # Within one second: the second file must not replace the first.
        writer = metrics.TensorBoard(tmp_path, resume_step)
        writer.write(3, {"phase": "train", "loss": 0.5})
        writer.close()
    assert events(tmp_path) == [
        (3, "train/loss", 0.5),
        (3, "start", None),  # TensorBoard hides steps >= 3 seen before
        (3, "train/loss", 0.5),
    ]


def test_several_writers_get_every_row(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    several = metrics.Several([metrics.Jsonl(path) for path in paths])
    several.write(1, {"loss": 2.0})
    several.close()
    assert paths[0].read_text() == paths[1].read_text() != ""
