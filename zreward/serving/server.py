"""`zreward serve`: load a model, listen, answer what was accepted before leaving."""

from __future__ import annotations

import uvicorn

from zreward.models.checkpoint import load
from zreward.serving.app import create_app
from zreward.serving.settings import Settings
from zreward.world.base_models import checkpoint_name


def serve(model: str, settings: Settings, device: str | None = None) -> None:
    """Blocks until interrupted; SIGINT and SIGTERM finish the requests in flight."""
    loaded = load(checkpoint_name(model))
    app = create_app(loaded.to(device) if device else loaded, model, settings)
    uvicorn.run(app, host=settings.host, port=settings.port, log_level="warning", timeout_graceful_shutdown=60)
