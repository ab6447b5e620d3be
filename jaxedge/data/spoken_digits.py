"""The Free Spoken Digit Dataset: 3,000 clips of ten digits by six speakers.

It is read from `fsdd/`, either `fsdd.npz` (all clips in one array, with their
file names) or `recordings/` as its owners ship it: mono wave files of 16 bits
at 8 kHz, named DIGIT_SPEAKER_INDEX.wav.
"""

from collections.abc import Mapping, Sequence
import functools
import json
from pathlib import Path

import numpy as np

from jaxedge.core import checks
from jaxedge.data import archives
from jaxedge.data.source import Source, make_source
from jaxedge.features import audio

CLASSES = tuple("0123456789")
# Shares of all clips; the paper's random split, edge_pruning 2.
TEST, VALID = 0.3, 0.07
SPLIT_SEED = 0


def read(split: str, root: Path) -> Source:
    """Features of the clips, x [N, 23, 20, 1] float32 in [0, 1].

    See `features.audio.spoken_digit_features`.

    Args:
        split: "test" (900 of 3,000 clips), "valid" (210) or "train" (1,890).
            `fsdd/split_authors.json` names the paper's split of the clips that
            it knows ("train" or "test" by file name); the others are drawn
            once, the same for everyone. "valid" is taken from the training
            clips. Speakers are in all of them.
        root: the folder that holds `fsdd/`.

    Returns:
        The source.

    Raises:
        UsageError: for missing or damaged files, or without librosa.
    """
    folder = root / "fsdd"
    clips = _clips(folder)
    names = sorted(clips)
    parts = split_names(names, _authors(folder))
    mine = [name for name in names if parts[name] == split]
    x = np.stack([_features(folder / n, clips[n]) for n in mine])
    y = np.array([int(name[0]) for name in mine])
    return make_source(
        x[..., None], y, classes=CLASSES, name="spoken_digits", split=split
    )


def split_names(
    names: Sequence[str], known: Mapping[str, str]
) -> dict[str, str]:
    """The split of every clip.

    Args:
        names: of all clips.
        known: "train" or "test" for some of them.

    Returns:
        "train", "valid" or "test" for each name.
    """
    # An integer seed goes to RandomState, whose stream is frozen.
    random = np.random.RandomState(SPLIT_SEED)
    parts = {name: known[name] for name in names if name in known}
    free = [name for name in names if name not in parts]
    tested = sum(part == "test" for part in parts.values())
    missing = round(TEST * len(names)) - tested
    order = random.permutation(len(free))
    for place, i in enumerate(order):
        parts[free[i]] = "test" if place < missing else "train"
    trained = [name for name in names if parts[name] == "train"]
    chosen = random.permutation(len(trained))[: round(VALID * len(names))]
    return parts | {trained[i]: "valid" for i in chosen}


def _features(path: Path, wave: np.ndarray) -> np.ndarray:
    try:
        return audio.spoken_digit_features(wave.astype(np.float32) / 32768)
    except checks.UsageError as error:
        raise checks.UsageError(f"the clip {path.name}: {error}") from None


def _clips(folder: Path) -> dict[str, np.ndarray]:
    """Samples of every clip by its file name."""
    archive, recordings = folder / "fsdd.npz", folder / "recordings"
    if archive.is_file():
        return _of_archive(archive)
    if not recordings.is_dir():
        raise checks.UsageError(
            f"{folder} holds no spoken digits; put recordings/ of the Free"
            " Spoken Digit Dataset there, or fsdd.npz."
        )
    found = {path.name: _of_wave(path) for path in recordings.glob("*.wav")}
    if not found:
        raise checks.UsageError(f"{recordings} holds no .wav file.")
    return found


@functools.lru_cache(1)
def _of_archive(path: Path) -> dict[str, np.ndarray]:
    samples, offsets, found = archives.read(
        path, ("audio", "offsets", "filename"), "spoken digits"
    )
    names = [str(name) for name in found]
    pieces = archives.cut(path, offsets, len(samples), len(names), "samples")
    return {
        _named(path, name): samples[piece]
        for name, piece in zip(names, pieces, strict=True)
    }


def _of_wave(path: Path) -> np.ndarray:
    from scipy.io import wavfile

    _named(path, path.name)
    try:
        rate, wave = wavfile.read(path)
    except ValueError as error:
        raise checks.UsageError(
            f"{path} is no readable wave file ({error}); fetch it again."
        ) from None
    if rate != audio.RATE or wave.dtype != np.int16 or wave.ndim != 1:
        raise checks.UsageError(
            f"{path} has {rate} samples a second, {wave.dtype}, shape"
            f" {wave.shape}; the clips of the set are mono int16 at"
            f" {audio.RATE}."
        )
    return wave


def _named(path: Path, name: str) -> str:
    digit, _, rest = name.partition("_")
    if digit not in CLASSES or not rest:
        raise checks.UsageError(
            f"{path} names a clip {name!r}, but names are"
            " DIGIT_SPEAKER_INDEX.wav."
        )
    return name


def _authors(folder: Path) -> dict[str, str]:
    path = folder / "split_authors.json"
    if not path.is_file():
        return {}
    try:
        known = json.loads(path.read_text())
        wrong = {*known.values()} - {"train", "test"}
    except (ValueError, AttributeError) as error:
        raise checks.UsageError(
            f"{path} is damaged ({error}); fetch it again."
        ) from None
    if wrong:
        raise checks.UsageError(
            f"{path} has the splits {sorted(wrong)}, but knows 'train' and"
            " 'test'."
        )
    return known
