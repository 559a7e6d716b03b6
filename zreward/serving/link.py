"""A lane in another process: a socket between the two, requests one way, answers the other.

A message is a head (JSON) and parts (raw bytes), each preceded by its length; nothing is unpickled.

    request   {"number", "prompts"}                           images, as they came
    answer    {"number", "shape", "dtype", "state"}           probabilities
              {"number", "error", "detail", "state"}          none
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from zreward.common.errors import InputError
from zreward.distribution import ScoreDistribution
from zreward.rubric import Rubric
from zreward.serving.batching import Closing
from zreward.serving.lanes import Failed, Lane, State

_COUNT, _LENGTH = struct.Struct(">I"), struct.Struct(">Q")
_ERRORS: dict[str, type[Exception]] = {kind.__name__: kind for kind in (InputError, Closing, Failed)}
LOST = "the process of the model has ended"


class RemoteLane:
    """The end of a link where requests come in."""

    def __init__(self, link: socket.socket, rubric: Rubric) -> None:
        self._link, self._bins, self._names = link, rubric.scale.bins, rubric.dimension_names
        self._numbers = itertools.count()
        self._answers: dict[int, asyncio.Future[ScoreDistribution]] = {}
        self._state = State()
        self._lost = False

    @property
    def state(self) -> State:
        """As of the last answer; after the last one nothing waits."""
        return self._state

    async def start(self) -> None:
        reader, self._writer = await asyncio.open_connection(sock=self._link)
        self._receiving = asyncio.create_task(self._receive(reader))

    async def score(self, images: Sequence[bytes], prompts: Sequence[str]) -> ScoreDistribution:
        if self._lost:
            raise Failed(LOST)
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            write(self._writer, {"number": number, "prompts": list(prompts)}, images)
            return await answer
        finally:
            del self._answers[number]

    async def close(self) -> None:
        self._writer.close()
        await self._receiving

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        try:
            while (message := await read(reader)) is not None:
                self._take(*message)
        finally:
            self._lost, self._state = True, State(0, *self._state[1:])
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(Failed(LOST))

    def _take(self, head: dict[str, Any], parts: list[bytes]) -> None:
        self._state = State(*head["state"])
        answer = self._answers.get(head["number"])
        if answer is None or answer.done():  # nobody waits for it any more
            return
        if "error" in head:
            answer.set_exception(_ERRORS[head["error"]](head["detail"]))
            return
        probs = np.frombuffer(bytearray(parts[0]), head["dtype"]).reshape(head["shape"])
        answer.set_result(ScoreDistribution(torch.from_numpy(probs), self._bins, self._names))


async def answer_all(lane: Lane, link: socket.socket) -> None:
    """The other end: what comes is scored, until the link is closed."""
    reader, writer = await asyncio.open_connection(sock=link)
    running: set[asyncio.Task[None]] = set()
    try:
        while (message := await read(reader)) is not None:
            task = asyncio.create_task(_answer(lane, writer, *message))
            running.add(task)
            task.add_done_callback(running.discard)
    finally:
        for task in running:
            task.cancel()
        writer.close()


async def _answer(lane: Lane, writer: asyncio.StreamWriter, head: dict[str, Any], images: list[bytes]) -> None:
    parts: list[bytes] = []
    found: dict[str, Any]
    try:
        probs = (await lane.score(images, head["prompts"])).probs.numpy()
        found, parts = {"shape": probs.shape, "dtype": probs.dtype.str}, [probs.tobytes()]
    except tuple(_ERRORS.values()) as error:
        kind = next(name for name, kind in _ERRORS.items() if isinstance(error, kind))
        found = {"error": kind, "detail": str(error)}
    write(writer, {"number": head["number"], "state": lane.state} | found, parts)


def write(writer: asyncio.StreamWriter, head: dict[str, Any], parts: Sequence[bytes]) -> None:
    """A whole message at once: whoever is cancelled leaves no half of one."""
    encoded = [json.dumps(head).encode(), *parts]
    lengths = b"".join(_LENGTH.pack(len(part)) for part in encoded)
    writer.write(_COUNT.pack(len(encoded)) + lengths + encoded[0])
    for part in parts:
        writer.write(part)


async def read(reader: asyncio.StreamReader) -> tuple[dict[str, Any], list[bytes]] | None:
    """The next message; None where the link has been closed."""
    try:
        (count,) = _COUNT.unpack(await reader.readexactly(_COUNT.size))
        lengths = _LENGTH.iter_unpack(await reader.readexactly(count * _LENGTH.size))
        head, *parts = [await reader.readexactly(length) for (length,) in lengths]
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return json.loads(head), parts
