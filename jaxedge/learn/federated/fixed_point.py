"""Real numbers as whole ones modulo 2^32, whose sums are exact.

An entry becomes the nearest whole multiple of `plan.step`; negative numbers
wrap. Sums of all clients stay below 2^31 in magnitude, so that none wraps.
"""

from typing import NamedTuple

from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks

_HALF = 2**31


class Plan(NamedTuple):
    """What all agree on before a sum; from `plan`.

    Attributes:
        clients: C.
        threshold: how many clients must be left.
        clip: largest magnitude of an entry.
        bits: of a rounded entry, with its sign.
    """

    clients: int
    threshold: int
    clip: float
    bits: int

    @property
    def step(self) -> float:
        """Between two neighbouring numbers: clip / (2^(bits - 1) - 1).

        A client's entry is off by at most step / 2, a sum over n clients by
        at most n step / 2, their mean by at most step / 2.
        """
        return self.clip / (2 ** (self.bits - 1) - 1)


class Encoded(NamedTuple):
    """Whole numbers modulo 2^32 and what was lost.

    Attributes:
        words: uint32, in the shape of the values.
        clipped: how many values were beyond the clip.
    """

    words: np.ndarray
    clipped: int


def plan(clients: int, threshold: int, *, clip: float, bits: int = 22) -> Plan:
    """Checks that a sum can neither overflow nor be taken apart.

    Args:
        clients: C, at least 2.
        threshold: clients that must be left to know the sum, in (C/2, C]: two
            halves could otherwise be asked for different secrets of one client.
        clip: largest magnitude of an entry, > 0.
        bits: of a rounded entry, with its sign, at least 2; the default is
            that of Flower's SecAgg+.

    Raises:
        UsageError: for a number outside, or a sum that could leave 32 bits.
    """
    checks.whole("clients", clients, 2)
    checks.whole("threshold", threshold, 1)
    checks.in_range("threshold", threshold, clients // 2 + 1, clients)
    checks.in_range("clip", clip, 0, open_low=True)
    checks.whole("bits", bits, 2)
    most = (_HALF - 1) // clients
    if 2 ** (bits - 1) - 1 > most:
        raise checks.UsageError(
            f"{clients} clients of {bits} bits could sum to 2^31 or more; use"
            f" at most {(most + 1).bit_length()} bits."
        )
    return Plan(clients, threshold, float(clip), bits)


def encode(plan: Plan, values: ArrayLike, *, saturate: bool = False) -> Encoded:
    """Values as whole multiples of `plan.step`, modulo 2^32; on the host.

    Args:
        plan: of the sum.
        values: real numbers of any shape.
        saturate: whether values beyond the clip become the clip and are
            counted; else they are an error.

    Raises:
        UsageError: for NaN or infinity, or for values beyond the clip.
    """
    # Not jax.numpy: float32 would round before the rounding that is promised.
    numbers = np.asarray(values, np.float64)
    if not np.isfinite(numbers).all():
        raise checks.UsageError(
            f"{int((~np.isfinite(numbers)).sum())} values are NaN or infinite;"
            " leave such a client out (finite_clients)."
        )
    beyond = int((np.abs(numbers) > plan.clip).sum())
    if beyond and not saturate:
        raise checks.UsageError(
            f"{beyond} of {numbers.size} values are beyond the clip"
            f" {plan.clip}, up to {np.abs(numbers).max():.6g}; use a larger"
            " clip, or saturate=True to cut and count them."
        )
    limit = 2 ** (plan.bits - 1) - 1
    whole = np.rint(np.clip(numbers / plan.step, -limit, limit))
    return Encoded(whole.astype(np.int64).astype(np.uint32), beyond)


def decode(plan: Plan, words: ArrayLike) -> np.ndarray:
    """A sum of encoded vectors as real numbers, float64."""
    signed = np.asarray(words, np.uint32).view(np.int32)
    return signed.astype(np.float64) * plan.step
