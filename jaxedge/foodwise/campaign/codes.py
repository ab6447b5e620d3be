"""A code that a canteen shows and that changes: proof of a place and a time.

The code is a keyed hash of the canteen and the step of time, which only this
instance can make. What was photographed yesterday is worth nothing today; what
a friend sends within two steps cannot be told from being there.
"""

import datetime as dt
import hmac
import urllib.parse

import segno

from jaxedge.foodwise.base.rules import Rules
from jaxedge.foodwise.base.security import LETTERS, Guard

LENGTH = 6  # 31^6, about 2^30, of which two are right.


def current(guard: Guard, canteen: str, at: dt.datetime, rules: Rules) -> str:
    """The code of this step.

    Args:
        guard: has the key.
        canteen: its slug.
        at: a moment, with its time zone.
        rules: how long a step is.
    """
    return _code(guard, canteen, _step(at, rules))


def valid(
    guard: Guard, canteen: str, code: str, at: dt.datetime, rules: Rules
) -> bool:
    """Whether it is the code of this step or of the one before.

    Small letters and spaces around are forgiven; how long the answer takes
    says nothing of the right code.
    """
    said = code.strip().upper().encode()
    step = _step(at, rules)
    right = [
        hmac.compare_digest(said, _code(guard, canteen, n).encode())
        for n in (step, step - 1)
    ]
    return any(right)


def seconds_left(at: dt.datetime, rules: Rules) -> float:
    """Until the next code is shown."""
    return rules.qr_seconds - at.timestamp() % rules.qr_seconds


def link(address: str, canteen: str, code: str) -> str:
    """Where a phone is led that reads the picture."""
    query = urllib.parse.urlencode({"canteen": canteen, "code": code})
    return f"{address.rstrip('/')}/log?{query}"


def picture(text: str, title: str = "") -> str:
    """A text as a QR code: an <svg> element without script or style.

    Args:
        text: that a phone reads; escaping is not its matter.
        title: that a screen reader reads; it is escaped.
    """
    made = segno.make(text, micro=False, error="m")
    return made.svg_inline(
        scale=8, border=4, light="#fff", title=title or None, omitsize=True
    )


def _step(at: dt.datetime, rules: Rules) -> int:
    return int(at.timestamp() // rules.qr_seconds)


def _code(guard: Guard, canteen: str, step: int) -> str:
    number = int(guard.code("canteen", f"{canteen}\0{step}"), 16)
    letters = []
    for _ in range(LENGTH):
        number, k = divmod(number, len(LETTERS))
        letters.append(LETTERS[k])
    return "".join(letters)


__all__ = ["current", "link", "picture", "seconds_left", "valid"]
