"""Polarity events of AEDAT 3.1 files, as the DVS128 camera writes them.

A text header of lines that begin with "#", the last of them "#!END-HEADER",
then packets, little-endian: a header of 28 bytes (type and source, uint16 each;
size of an event, offset of its time, overflows of the time, capacity, number of
events, number of valid ones, int32 each) and the events. A polarity event is
two 32-bit words: bit 0 valid, bit 1 polarity, bits 2 to 16 the row, bits 17 to
31 the column; and microseconds, to which each overflow adds 2^31. Source:
libcaer's events/common.h and polarity.h, and the README of DVS128 Gesture.

Letters: E events.
"""

from pathlib import Path
import struct

import numpy as np

from jaxedge.core import checks
from jaxedge.features.events import Events

VERSION, END = b"#!AER-DAT3.1", b"#!END-HEADER"
POLARITY, EVENT = 1, 8  # the type of packets, and bytes of an event
_HEADER = struct.Struct("<HH6i")


def read(path: Path) -> Events:
    """The valid polarity events of a file, in the order of their times.

    Args:
        path: of the file.

    Returns:
        t int64 [E] in microseconds, x and y int32 [E] in pixels from 0, p int32
        [E], 1 for brighter. Packets of other types are left out.

    Raises:
        UsageError: for a file that is missing, of another version, cut short,
            or without polarity events.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise checks.UsageError(
            f"{path} cannot be read ({error.strerror}); check the path and its"
            " permissions."
        ) from None
    place, packets = _start(path, content), []
    while place < len(content):
        place, packet = _packet(path, content, place)
        if packet is not None:
            packets.append(packet)
    if not packets:
        raise _bad(path, "holds no polarity events")
    t, word = (np.concatenate(part) for part in zip(*packets, strict=True))
    order = np.argsort(t, kind="stable")
    t, word = t[order], word[order]
    x, y, p = word >> 17, word >> 2 & 0x7FFF, word >> 1 & 1
    return Events(t, x.astype(np.int32), y.astype(np.int32), p.astype(np.int32))


def _start(path: Path, content: bytes) -> int:
    """Where the packets begin."""
    if not content.startswith(VERSION):
        first = content.split(b"\n", 1)[0][:40]
        raise _bad(path, f"starts with {first!r} and not with {VERSION!r}")
    place = content.find(END)
    end = content.find(b"\n", place)
    if place < 0 or end < 0:
        raise _bad(path, f"has no line {END!r}")
    return end + 1


def _packet(
    path: Path, content: bytes, place: int
) -> tuple[int, tuple[np.ndarray, np.ndarray] | None]:
    """Where the next packet begins; times and words of this one's events."""
    start = place + _HEADER.size
    if start > len(content):
        raise _bad(path, f"is cut short in the header at byte {place}")
    kind, _, size, _, overflow, capacity, number, valid = _HEADER.unpack_from(
        content, place
    )
    counts = 0 <= valid <= number <= capacity and overflow >= 0 and size > 0
    if not counts or (kind == POLARITY and size != EVENT):
        raise _bad(path, f"has a damaged packet header at byte {place}")
    end = start + size * number
    if end > len(content):
        raise _bad(path, f"is cut short in the packet at byte {place}")
    if kind != POLARITY:
        return end, None
    words = np.frombuffer(content, "<u4", 2 * number, start).reshape(-1, 2)
    # Writers that mark no event valid state that all are.
    if valid < number:
        words = words[words[:, 0] & 1 == 1]
    return end, (words[:, 1].astype(np.int64) + (overflow << 31), words[:, 0])


def _bad(path: Path, fault: str) -> checks.UsageError:
    return checks.UsageError(
        f"{path} {fault}; it is no readable AEDAT 3.1 file. Fetch it again."
    )
