"""`zreward serve`: own the port, load the model, listen, answer what was accepted before leaving.

Two processes: this one has the model and its lanes, another speaks HTTP (http_process.py).
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Sequence

from zreward.common.listening import is_open, listen, url
from zreward.models.reward_model import RewardModel
from zreward.serving.http_process import SWITCH, HttpProcess, forget_garbage
from zreward.serving.lanes import ModelLane, model_lanes
from zreward.serving.link import answer_all
from zreward.serving.scorer import ServedModel
from zreward.serving.settings import Settings


def serve(model: str, settings: Settings, device: str | None = None) -> None:
    """Blocks until interrupted; SIGINT and SIGTERM finish the requests in flight, a second one does not.

    InputError before anything is loaded where the address cannot be had, after loading for a model that cannot score.
    SystemExit where the other process ends early.
    """
    sockets = listen(settings.host, settings.port)
    where = url(settings.host, sockets)
    greeting = [f"zreward serves {model} at {where} (documentation: {where}/docs)"]
    warning = f"everybody who reaches {where} may use it; set ZREWARD_TOKEN to ask for a token"
    warnings = [warning] if settings.token is None and is_open(sockets) else []
    http = HttpProcess(sockets)
    at_once = False
    try:
        loaded = RewardModel.from_pretrained(model, device=device).eval()
        judge = ServedModel.of(loaded, model, settings)
        lanes = model_lanes(loaded, settings)
        for lane in lanes:
            lane.warm_up()
        http.begin(judge, settings)
        sys.setswitchinterval(SWITCH)
        forget_garbage()
        asyncio.run(_score(lanes, http, [*greeting, f"limits: {judge.prices.describe()}", *warnings]))
    except KeyboardInterrupt:
        at_once = True
        raise
    finally:
        http.close(at_once)


async def _score(lanes: tuple[ModelLane, ModelLane], http: HttpProcess, greeting: Sequence[str]) -> None:
    """Say that it is ready, then answer what comes over the links, until they end."""
    if threading.current_thread() is threading.main_thread():
        _stop_when_asked(http)
    print(*greeting, sep="\n", flush=True)
    await asyncio.gather(*(answer_all(lane, link) for lane, link in zip(lanes, http.links, strict=True)))
    for lane in lanes:
        await lane.close()
    http.check()


def _stop_when_asked(http: HttpProcess) -> None:
    loop, kinds = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)

    def stop() -> None:
        http.stop()
        for kind in kinds:  # the next one ends this process at once
            loop.remove_signal_handler(kind)

    for kind in kinds:
        loop.add_signal_handler(kind, stop)
