"""The FastAPI application around a loaded reward model."""

from __future__ import annotations

import asyncio
import math
import os
import pickle
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.concurrency import run_in_threadpool
from torch import Tensor

from zreward import __version__
from zreward.distribution import ScoreDistribution
from zreward.errors import InputError
from zreward.models.fingerprint import weights_fingerprint
from zreward.models.reward_model import RewardModel
from zreward.serving import schemas
from zreward.serving.batching import Batcher, Busy, Closing
from zreward.serving.limits import Gate
from zreward.serving.pickles import read_request
from zreward.serving.pictures import from_base64, from_bytes
from zreward.serving.settings import Settings

ANSWERS: dict[int | str, dict[str, Any]] = {
    400: {"description": "An image or dimension that cannot be scored; `detail` says why."},
    401: {"description": "The token is missing or wrong."},
    413: {"description": "More bytes or images than the server takes at once."},
    429: {"description": "The queue is full; Retry-After says when to come back."},
    503: {"description": "The server is shutting down."},
}


class Scorer:
    """The model, its queue and what is counted."""

    def __init__(self, model: RewardModel, name: str, settings: Settings) -> None:
        self.model, self.settings = model, settings
        self.dimensions = model.check_dimensions(settings.dimensions or None)
        scale = model.rubric.scale
        self.identity: dict[str, Any] = {
            "model": name,
            "version": weights_fingerprint(model),
            "scale": scale.to_dict() | {"bins": scale.bins.tolist()},
        }
        self.batcher = Batcher(self._score, settings.max_batch, settings.max_wait, settings.max_queue)
        # Few threads: each holds one request's pictures at full size while it shrinks them.
        self.openers = ThreadPoolExecutor(min(8, os.cpu_count() or 1), "zreward-opener")
        self.registry = CollectorRegistry()
        self.requests = Counter("zreward_requests_total", "Requests.", ["path", "status"], registry=self.registry)
        self.images = Counter("zreward_images_total", "Images scored.", registry=self.registry)
        self.seconds = Histogram("zreward_request_seconds", "Time to an answer.", ["path"], registry=self.registry)
        for metric, about, value in (
            ("waiting_images", "Images in the queue.", lambda: self.batcher.waiting),
            ("batches", "Forward passes so far.", lambda: self.batcher.batches),
        ):
            Gauge(f"zreward_{metric}", about, registry=self.registry).set_function(value)

    def _score(self, images: list[Tensor], prompts: list[str]) -> ScoreDistribution:
        names = self.model.check_dimensions(None)
        return self.model.score_opened([(image,) for image in images], prompts, names, self.settings.max_batch)

    async def score(self, images: Sequence[str | bytes], prompts: Sequence[str]) -> ScoreDistribution:
        """All dimensions of all images. InputError for what cannot be scored, Busy, Closing, TooMany."""
        if len(images) > self.settings.max_batch:
            raise TooMany(f"{len(images)} images in one request; send at most {self.settings.max_batch}")
        opened = await asyncio.get_running_loop().run_in_executor(self.openers, self._open, images)
        scores = await asyncio.wrap_future(self.batcher.submit(opened, prompts))
        self.images.inc(len(images))
        return scores

    def _open(self, images: Sequence[str | bytes]) -> list[Tensor]:
        limit, opened = self.settings.max_pixels, []
        for n, image in enumerate(images):
            open_one = from_bytes if isinstance(image, bytes) else from_base64
            opened.append(self.model.open(open_one(image, limit, f"image {n}")))  # type: ignore[arg-type]
        return opened

    def close(self) -> None:
        """Answer what was accepted, then stop the threads."""
        self.batcher.close()
        self.openers.shutdown()

    async def reward(
        self, images: Sequence[str | bytes], prompts: Sequence[str], dimensions: Sequence[str] | None
    ) -> dict[str, Any]:
        """One number per image: the mean expected score over dimensions."""
        names = self.model.check_dimensions(dimensions) if dimensions is not None else self.dimensions
        scores = await self.score(images, prompts)
        rewards = scores.select(names).mean.mean(-1).tolist()
        return self.identity | {"rewards": rewards, "aggregate": f"mean expected score of {', '.join(names)}"}


class TooMany(Exception):
    """More images than fit into one batch."""


def create_app(model: RewardModel, name: str, settings: Settings) -> FastAPI:
    """An application that owns a batching thread; it ends with the application's lifespan."""
    scorer = Scorer(model.eval(), name, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(scorer.close)

    app = FastAPI(title="zreward", version=__version__, lifespan=lifespan, description=__doc__ or "")
    app.state.scorer = scorer
    _answer_errors(app)
    _add_routes(app, scorer)
    if settings.allow_pickle:
        _add_pickle_route(app, scorer)

    @app.middleware("http")
    async def count(request: Request, call_next: Any) -> Response:
        begin = time.perf_counter()
        response = await call_next(request)
        route = request.scope.get("route")
        path = getattr(route, "path", "other")
        scorer.requests.labels(path, response.status_code).inc()
        scorer.seconds.labels(path).observe(time.perf_counter() - begin)
        return response

    app.add_middleware(Gate, max_body=settings.max_body, token=settings.token)
    return app


def _answer_errors(app: FastAPI) -> None:
    def handler(status: int):
        async def answer(_: Request, error: Exception) -> JSONResponse:
            headers = {"Retry-After": str(math.ceil(error.seconds))} if isinstance(error, Busy) else None
            return JSONResponse({"detail": str(error)}, status, headers)

        return answer

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        """FastAPI's own answer repeats the input, which may be no text, or megabytes."""
        assert isinstance(error, RequestValidationError)
        return JSONResponse(
            {"detail": [{key: one[key] for key in ("loc", "msg", "type")} for one in error.errors()]}, 422
        )

    app.add_exception_handler(RequestValidationError, invalid)
    for kind, status in ((InputError, 400), (TooMany, 413), (Busy, 429), (Closing, 503)):
        app.add_exception_handler(kind, handler(status))


def _add_routes(app: FastAPI, scorer: Scorer) -> None:
    @app.get("/health")
    async def health() -> schemas.Health:
        """Whose scores these are, and how long the queue is."""
        facts = {"status": "ok", "dimensions": scorer.model.rubric.dimension_names, "waiting": scorer.batcher.waiting}
        return schemas.Health.model_validate(scorer.identity | facts)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {CONTENT_TYPE_LATEST: {}}}})
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(generate_latest(scorer.registry), media_type=CONTENT_TYPE_LATEST)

    @app.post("/v1/score", responses=ANSWERS)
    async def score(request: schemas.ScoreRequest) -> schemas.ScoreReply:
        """Whole distributions."""
        names = scorer.model.check_dimensions(request.dimensions)
        items = request.items
        scores = await scorer.score([item.image for item in items], [item.prompt for item in items])
        return schemas.ScoreReply.model_validate(scorer.identity | {"scores": scores.select(names).to_dicts()})

    @app.post("/compute", responses=ANSWERS)
    async def compute(request: schemas.ComputeRequest) -> schemas.RewardReply:
        """Flow-Factory: one prompt for all images, or one each."""
        images = [request.image] if isinstance(request.image, str) else request.image
        prompts = [request.prompt] * len(images) if isinstance(request.prompt, str) else request.prompt
        if not images or len(images) != len(prompts):
            raise InputError(f"{len(images)} images and {len(prompts)} prompts; expected as many, at least one")
        return schemas.RewardReply.model_validate(await scorer.reward(images, prompts, request.dimensions))

    @app.post("/get_reward", responses=ANSWERS)
    async def get_reward(request: schemas.RewardRequest) -> schemas.RewardReply:
        """OpenRLHF."""
        query = request.query
        found = await scorer.reward([one.image for one in query], [one.prompt for one in query], request.dimensions)
        return schemas.RewardReply.model_validate(found)


def _add_pickle_route(app: FastAPI, scorer: Scorer) -> None:
    @app.post("/", include_in_schema=False)
    async def pickled(request: Request) -> Response:
        """flow_grpo reads `outputs`, verl-omni `scores`."""
        try:
            images, prompts = read_request(await request.body())
            found = await scorer.reward(images, prompts, None)
        except InputError as error:
            return Response(str(error), 500, media_type="text/plain")  # what their clients expect of an error
        reply = found | {"outputs": found["rewards"], "scores": found["rewards"]}
        return Response(pickle.dumps(reply), media_type="application/octet-stream")
