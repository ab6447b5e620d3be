"""Features of sound, computed on the host.

Letters: N samples, F features, T frames.
"""

from typing import Any
import warnings

import numpy as np

from jaxedge.core import checks

RATE = 8000
HOP = 256
FEATURES, FRAMES = 23, 20


def spoken_digit_features(wave: Any, rate: int = RATE) -> np.ndarray:
    """Features of a spoken digit as arXiv:2311.07164 stores them.

    Rows 0-9 are a mel spectrogram in decibels below its peak, cut off at 40 dB;
    row 10 the zero-crossing rate; rows 11-22 the cepstral coefficients c1 to
    c12. The spectrogram and the coefficients are each scaled to [0, 1] over
    the whole clip, before it is cut or padded with zeros at its end. The
    script is not published; this recipe gives 2,142 of its 3,000 arrays
    within 1e-3 (specs of edge pruning, section 2). Silence gives zeros.

    Args:
        wave: samples in [-1, 1], [N], floating point.
        rate: samples a second; 8,000.

    Returns:
        float32 [23, 20], in [0, 1].

    Raises:
        UsageError: for another rate, integers, samples that are not finite or
            beyond [-1, 1], or a clip shorter than a hop of 256 samples.
    """
    wave = _checked(wave, rate)
    # Only sound needs it, and it takes long to load.
    librosa = _librosa()
    # Frames are centred; beyond the ends of the clip there is silence, which
    # librosa warns of where a frame is longer than the clip.
    frames = {"sr": RATE, "hop_length": HOP, "pad_mode": "constant"}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "n_fft=", module="librosa")
        mel = librosa.feature.melspectrogram(
            y=wave, n_fft=512, n_mels=10, power=2.0, **frames
        )
        decibels = librosa.power_to_db(mel, ref=np.max, top_db=40)
        crossings = librosa.feature.zero_crossing_rate(
            wave, frame_length=1024, hop_length=HOP
        )
        cepstrum = librosa.feature.mfcc(
            y=wave, n_fft=1024, n_mels=13, n_mfcc=13, **frames
        )[1:]
    rows = np.concatenate([_scaled(decibels), crossings, _scaled(cepstrum)])
    found = np.zeros((FEATURES, FRAMES), np.float32)
    length = min(rows.shape[1], FRAMES)
    found[:, :length] = rows[:, :length]
    return found


def _scaled(block_dB: np.ndarray) -> np.ndarray:
    """Stretched over [0, 1]; zeros where nothing but rounding differs."""
    low, span = block_dB.min(), np.ptp(block_dB)
    return (block_dB - low) / span if span > 1e-3 else 0 * block_dB


def _checked(wave: Any, rate: int) -> np.ndarray:
    wave = np.asarray(wave)
    if rate != RATE:
        raise checks.UsageError(
            f"the rate is {rate} samples a second, but these features are"
            f" defined at {RATE}; resample the clip, such as with"
            " librosa.resample."
        )
    if not np.issubdtype(wave.dtype, np.floating):
        raise checks.UsageError(
            f"the wave is {wave.dtype}, but must be floating point in [-1, 1];"
            " divide samples of 16 bits by 32768."
        )
    if wave.ndim != 1 or wave.size < HOP:
        raise checks.UsageError(
            f"the wave has shape {wave.shape}, but must be one channel of at"
            f" least {HOP} samples, a frame."
        )
    checks.finite("the wave", wave)
    checks.in_range("the wave", wave, -1, 1)
    return wave


def _librosa() -> Any:
    try:
        import librosa
    except ImportError as error:
        raise checks.UsageError(
            "features of sound need librosa; pip install 'jaxedge[audio]'."
        ) from error
    return librosa
