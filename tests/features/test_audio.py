"""Features of sound against a computation of their own in scipy."""

import numpy as np
import pytest
from scipy import fft, signal

from jaxedge.core.checks import UsageError
from jaxedge.features import audio

pytest.importorskip("librosa", reason="needs the extra audio")
N = 5000


@pytest.fixture
def wave():
    """A chirp that fades, with noise, in [-1, 1]."""
    rng = np.random.default_rng(0)
    t = np.arange(N) / audio.RATE
    sound = signal.chirp(t, 200, t[-1], 3000) * np.exp(-2 * t)
    return (0.5 * sound + 0.01 * rng.normal(size=N)).astype(np.float32)


def mel_of(hertz):
    """Slaney's scale: linear to 1 kHz, 27 steps to 6.4 kHz."""
    log = 15 + 27 * np.log(np.maximum(hertz, 1) / 1000) / np.log(6.4)
    return np.where(hertz < 1000, 3 * hertz / 200, log)


def filters(bands, size):
    """Triangles of unit area, even on Slaney's scale, [bands, size/2 + 1]."""
    grid = np.linspace(0, audio.RATE / 2, 200_001)
    edges = np.interp(
        np.linspace(0, mel_of(audio.RATE / 2), bands + 2), mel_of(grid), grid
    )
    bins = np.fft.rfftfreq(size, 1 / audio.RATE)
    rows = []
    for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
        up, down = (
            (bins - low) / (middle - low),
            (high - bins) / (high - middle),
        )
        rows.append(np.clip(np.minimum(up, down), 0, None) * 2 / (high - low))
    return np.array(rows)


def power_of(wave, size):
    """Power of centred frames under a periodic Hann window, [bins, T]."""
    padded = np.pad(wave.astype(np.float64), size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)
    window = signal.get_window("hann", size, fftbins=True)
    return np.abs(np.fft.rfft(frames[:: audio.HOP] * window)).T ** 2


def decibels(power, floor):
    """Below the peak or 1, but no further than `floor`."""
    found = 10 * np.log10(np.maximum(power, 1e-10))
    return np.maximum(found, found.max() - floor)


def expected(wave):
    """All frames of the features, in float64."""
    mel = decibels(filters(10, 512) @ power_of(wave, 512), 40)
    logs = decibels(filters(13, 1024) @ power_of(wave, 1024), 80)
    cepstrum = fft.dct(logs, axis=0, norm="ortho")[1:13]
    padded = np.pad(wave, 512, mode="edge")
    frames = np.lib.stride_tricks.sliding_window_view(padded, 1024)
    signs = np.signbit(frames[:: audio.HOP])
    crossings = (signs[:, 1:] != signs[:, :-1]).sum(1) / 1024
    scaled = [(b - b.min()) / np.ptp(b) for b in (mel, cepstrum)]
    return np.concatenate([scaled[0], crossings[None], scaled[1]])


def test_features_are_those_of_their_equations(wave):
    found, frames = audio.spoken_digit_features(wave), 1 + N // 256
    assert found.shape == (23, 20) and found.dtype == np.float32
    np.testing.assert_allclose(found[:, :20], expected(wave)[:, :20], atol=1e-4)
    assert frames == 20


def test_a_short_clip_is_padded_after_it_is_scaled(wave):
    found = audio.spoken_digit_features(wave[:2000])
    frames = 1 + 2000 // 256
    np.testing.assert_allclose(
        found[:, :frames], expected(wave[:2000]), atol=1e-4
    )
    assert not found[:, frames:].any()


def test_a_long_clip_is_cut_after_it_is_scaled(wave):
    loud_end = np.concatenate([wave, wave / 2, 1.9 * wave])
    found = audio.spoken_digit_features(loud_end)
    np.testing.assert_allclose(found, expected(loud_end)[:, :20], atol=1e-4)
    # The peak lies beyond the cut.
    assert found[:10].max() < 1


def test_silence_gives_zeros():
    assert not audio.spoken_digit_features(np.zeros(3000, np.float32)).any()


BAD = {
    "rate": (np.zeros(3000), 16000, "16000 samples a second.*8000"),
    "integers": (np.zeros(3000, np.int16), 8000, "int16.*32768"),
    "stereo": (np.zeros((3000, 2)), 8000, r"\(3000, 2\).*one channel"),
    "short": (np.zeros(255), 8000, r"\(255,\).*256 samples"),
    "nan": (np.full(3000, np.nan), 8000, "the wave"),
    "loud": (np.full(3000, 1.5), 8000, "the wave"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_clips_are_refused(name):
    wave, rate, words = BAD[name]
    with pytest.raises(UsageError, match=words) as error:
        audio.spoken_digit_features(wave, rate)
    assert "\n" not in str(error.value)
