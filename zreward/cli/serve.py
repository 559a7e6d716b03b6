"""Scores over HTTP."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from zreward.cli.options import Device, Model, names_of


def serve(
    model: Model,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any free port.")] = 8000,
    max_batch: Annotated[int, typer.Option(help="The most images in a batch, and in a request; 1 or more.")] = 32,
    max_wait: Annotated[float, typer.Option(help="Maximum batching delay in seconds.")] = 0.01,
    max_queue: Annotated[int, typer.Option(help="The most images that wait; further requests get status 429.")] = 1024,
    max_image_tokens: Annotated[
        int | None,
        typer.Option(help="The most tokens of one image; default: the model's own limit, else 1,280."),
    ] = None,
    max_prompt_tokens: Annotated[int, typer.Option(help="The most tokens of one prompt.")] = 1024,
    dimensions: Annotated[
        str | None,
        typer.Option(help="Dimensions, separated by commas, whose mean /compute and /get_reward return; default: all."),
    ] = None,
    token: Annotated[
        str | None, typer.Option(envvar="ZREWARD_TOKEN", help="Bearer token that clients must send.")
    ] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Also accept pickled requests (POST /); loopback addresses only.")
    ] = False,
    device: Device = None,
) -> None:
    """Serve scores over HTTP: /v1/score, /compute, /get_reward, /health, /metrics, /docs."""
    from zreward.serving.server import serve as run_server
    from zreward.serving.settings import Settings

    if token is None and os.environ.get("ZREWARD_TOKEN") == "":
        token = ""  # the command line's library takes an empty variable for none at all
    settings = Settings(
        host,
        port,
        max_batch,
        max_wait,
        max_queue,
        max_image_tokens=max_image_tokens,
        max_prompt_tokens=max_prompt_tokens,
        token=token,
        dimensions=names_of(dimensions) or (),
        allow_pickle=allow_pickle,
    )
    run_server(model, settings, device)
