"""The line before what is slow."""

import asyncio

import pytest

from jaxedge.foodwise.base.refusals import Busy
from jaxedge.foodwise.base.rooms import Room


def test_so_many_are_inside_and_one_of_a_person():
    room, inside, most, order = Room(most=2), [], [], []

    async def visit(who):
        async with room.enter(who):
            assert who not in inside
            inside.append(who)
            most.append(len(inside))
            order.append(who)
            await asyncio.sleep(0.001)
            inside.remove(who)

    async def all_of_them():
        await asyncio.gather(*(visit(who) for who in "aaaabbcd"))

    asyncio.run(all_of_them())
    assert max(most) == 2
    # As they came, but for those who wait for themselves.
    assert order[:3] == ["a", "b", "a"] and sorted(order) == list("aaaabbcd")


def test_a_line_that_is_full_sends_away():
    async def stay(room, who):
        async with room.enter(who):
            await asyncio.sleep(10)

    async def full():
        room = Room(most=1, line=3, each=2)
        held = [asyncio.create_task(stay(room, who)) for who in "aab"]
        await asyncio.sleep(0)
        for who in "ac":
            with pytest.raises(Busy, match="Too many photos"):
                async with room.enter(who):
                    pass
        # One who goes away while waiting, or inside, leaves the line.
        for task in held[:2]:
            task.cancel()
        await asyncio.gather(*held[:2], return_exceptions=True)
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), room.enter("a"):
                pass  # Now the third one is inside.
        held[2].cancel()
        await asyncio.gather(held[2], return_exceptions=True)
        async with asyncio.timeout(1), room.enter("a"):
            pass

    asyncio.run(full())


def test_who_waits_too_long_is_sent_away():
    async def late():
        room = Room(most=1, wait_s=0.01)
        async with room.enter("a"):
            with pytest.raises(Busy):
                async with room.enter("b"):
                    pass
        async with room.enter("b"):  # What is slow inside is not ended.
            await asyncio.sleep(0.03)
            with pytest.raises(ZeroDivisionError):
                1 / 0  # noqa: B018 - an error of what is done

    asyncio.run(late())
