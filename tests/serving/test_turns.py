"""Turns: cheap requests before dear ones, nobody for ever, a full queue refuses, and whoever gives up leaves no trace."""

from __future__ import annotations

import asyncio

import pytest

from zreward.serving.turns import Busy, Gone, Turns

FULL = 4  # images that fill the room


async def take(turns: Turns, images: int, cost: float, name: str, log: list[str], done: asyncio.Event) -> None:
    async with turns.turn(images, images / FULL, cost):
        log.append(name)
        await done.wait()


async def hang_up(
    turns: Turns, leaving: asyncio.Future[None], log: list[str], done: asyncio.Event, name: str = "gone"
) -> None:
    async with turns.turn(FULL, 1.0, 1.0, leaving):
        log.append(name)
        await done.wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_the_cheap_overtake_the_dear_but_not_those_that_came_long_before():
    async def play() -> list[str]:
        turns, log = Turns(100, patience=0.05), []
        events = {name: asyncio.Event() for name in ("first", "dear", "early", "cheap")}
        tasks = [asyncio.create_task(take(turns, FULL, 0, "first", log, events["first"]))]
        await settle()
        for name, cost in (("early", 2.0), ("dear", 1000.0)):
            tasks.append(asyncio.create_task(take(turns, FULL, cost, name, log, events[name])))
            await settle()
        await asyncio.sleep(0.15)  # early's 2 x 0.05 s of patience are over
        tasks.append(asyncio.create_task(take(turns, FULL, 1.0, "cheap", log, events["cheap"])))
        await settle()
        for event in events.values():
            event.set()
        await asyncio.gather(*tasks)
        assert (turns.running, turns.waiting) == (0, 0)
        return log

    assert asyncio.run(play()) == ["first", "early", "cheap", "dear"]


def test_room_is_never_exceeded_but_one_request_always_runs():
    async def play() -> None:
        turns, log, done = Turns(100, 1.0), [], asyncio.Event()
        tasks = [asyncio.create_task(take(turns, 9, 1, "too large for the room", log, done))]
        await settle()
        tasks += [asyncio.create_task(take(turns, 2, 2, name, log, asyncio.Event())) for name in "abc"]
        await settle()
        assert log == ["too large for the room"] and turns.waiting == 6
        done.set()
        await settle()
        assert log[1:] == ["a", "b"] and turns.running == 2 and turns.waiting == 2
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (turns.running, turns.waiting) == (0, 0)

    asyncio.run(play())


def test_who_gives_up_while_waiting_is_passed_over():
    async def play() -> list[str]:
        turns, log, done = Turns(100, 1.0), [], asyncio.Event()
        first = asyncio.create_task(take(turns, FULL, 1, "first", log, done))
        await settle()
        gone = asyncio.create_task(take(turns, FULL, 1, "gone", log, done))
        last = asyncio.create_task(take(turns, FULL, 2, "last", log, done))
        await settle()
        gone.cancel()
        done.set()
        await asyncio.gather(first, last)
        assert (turns.running, turns.waiting) == (0, 0)
        return log

    assert asyncio.run(play()) == ["first", "last"]


def test_a_full_queue_refuses_and_says_when_to_come_back():
    async def play() -> None:
        turns, log, done = Turns(8, 1.0, pace=lambda: 7.0), [], asyncio.Event()
        tasks = [asyncio.create_task(take(turns, FULL, 1, str(n), log, done)) for n in range(3)]
        await settle()
        with pytest.raises(Busy) as refused:
            await take(turns, FULL, 1, "too late", log, done)
        assert refused.value.seconds == 8 * 7.0
        done.set()
        await asyncio.gather(*tasks)
        assert log == ["0", "1", "2"]

    asyncio.run(play())


def test_who_hangs_up_leaves_the_queue_at_once_and_does_not_get_its_turn():
    async def play() -> list[str]:
        turns, log, done = Turns(100, 1.0), [], asyncio.Event()
        first = asyncio.create_task(take(turns, FULL, 1, "first", log, done))
        await settle()
        leaving = asyncio.get_running_loop().create_future()
        gone = asyncio.create_task(hang_up(turns, leaving, log, done))
        last = asyncio.create_task(take(turns, FULL, 2, "last", log, done))
        await settle()
        assert turns.waiting == 2 * FULL
        leaving.set_result(None)
        await settle()
        assert turns.waiting == FULL
        with pytest.raises(Gone):
            await gone
        with pytest.raises(Gone):  # before it could queue
            await hang_up(turns, leaving, log, done)
        done.set()
        await asyncio.gather(first, last)
        assert (turns.running, turns.waiting) == (0, 0)
        return log

    assert asyncio.run(play()) == ["first", "last"]


def test_who_hangs_up_as_it_is_cancelled_gives_back_no_room_that_it_never_had():
    async def play() -> None:
        turns, log, done = Turns(100, 1.0), [], asyncio.Event()
        first = asyncio.create_task(take(turns, FULL, 1, "first", log, done))
        await settle()
        leaving = asyncio.get_running_loop().create_future()
        gone = asyncio.create_task(hang_up(turns, leaving, log, done))
        await settle()
        leaving.set_result(None)
        await asyncio.sleep(0)  # told, and not yet awake
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert (turns.running, turns.waiting, turns.filled) == (1, 0, 1.0)
        done.set()
        await first

    asyncio.run(play())


def test_who_hangs_up_after_its_turn_came_is_served():
    async def play() -> list[str]:
        turns, log, done = Turns(100, 1.0), [], asyncio.Event()
        leaving = asyncio.get_running_loop().create_future()
        one = asyncio.create_task(hang_up(turns, leaving, log, done, "served"))
        await settle()
        leaving.set_result(None)
        done.set()
        await one
        assert (turns.running, turns.waiting) == (0, 0)
        return log

    assert asyncio.run(play()) == ["served"]
