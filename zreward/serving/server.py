"""`zreward serve`: load a model, listen, answer what was accepted before leaving."""

from __future__ import annotations

import uvicorn

from zreward.models.reward_model import RewardModel
from zreward.serving.app import create_app
from zreward.serving.settings import Settings


def serve(model: str, settings: Settings, device: str | None = None) -> None:
    """Blocks until interrupted; SIGINT and SIGTERM finish the requests in flight."""
    app = create_app(RewardModel.from_pretrained(model, device=device), model, settings)
    uvicorn.run(app, host=settings.host, port=settings.port, log_level="warning", timeout_graceful_shutdown=60)
