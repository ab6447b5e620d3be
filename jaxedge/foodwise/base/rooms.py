"""A line before what is slow: those who wait in it hold no thread."""

import asyncio
from collections.abc import AsyncIterator
import contextlib
import threading
from typing import Any

from jaxedge.foodwise.base.refusals import Busy


class _Ticket:
    """One who waits, or is inside."""

    def __init__(self, who: Any) -> None:
        self.who, self.inside = who, False
        self.loop, self.called = asyncio.get_running_loop(), asyncio.Event()


class Room:
    """Lets so many in at a time, and one of a person, as they came."""

    def __init__(
        self,
        most: int = 4,
        line: int = 256,
        each: int = 8,
        wait_s: float = 30.0,
    ) -> None:
        """Makes a room.

        Args:
            most: who may be inside.
            line: who may wait or be inside.
            each: the same, of one person.
            wait_s: before who waits is sent away.
        """
        self._most, self._line, self._each = most, line, each
        self._wait_s = wait_s
        self._tickets: list[_Ticket] = []
        self._lock = threading.Lock()

    @contextlib.asynccontextmanager
    async def enter(self, who: Any) -> AsyncIterator[None]:
        """Waits, and is inside until the end of the block.

        Raises:
            Busy: where the line is full, or for a wait of too long.
        """
        ticket = self._queue(who)
        try:
            try:
                await asyncio.wait_for(ticket.called.wait(), self._wait_s)
            except TimeoutError:
                if not ticket.inside:  # Nor let in just now.
                    raise Busy("photo_busy") from None
            yield
        finally:
            with self._lock:
                self._tickets.remove(ticket)
                self._call()

    def _queue(self, who: Any) -> _Ticket:
        with self._lock:
            own = sum(ticket.who == who for ticket in self._tickets)
            if own >= self._each or len(self._tickets) >= self._line:
                raise Busy("photo_busy")
            ticket = _Ticket(who)
            self._tickets.append(ticket)
            self._call()
        return ticket

    def _call(self) -> None:
        """Lets in whoever may be, the first first."""
        inside = [ticket.who for ticket in self._tickets if ticket.inside]
        for ticket in self._tickets:
            if len(inside) >= self._most:
                return
            if not ticket.inside and ticket.who not in inside:
                ticket.inside = True
                inside.append(ticket.who)
                ticket.loop.call_soon_threadsafe(ticket.called.set)


__all__ = ["Room"]
