"""The FastAPI application around a reward model, which is in this process or in another."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from zreward.common.errors import InputError
from zreward.common.version import __version__
from zreward.models.reward_model import RewardModel
from zreward.serving import pickles, schemas
from zreward.serving.batching import Closing
from zreward.serving.costs import BYTES_PER_TOKEN, TooMuch
from zreward.serving.json_body import Unreadable, read_json
from zreward.serving.lanes import Failed, model_lanes
from zreward.serving.limits import BODY, Gate
from zreward.serving.scorer import SMALL, Scorer, ServedModel
from zreward.serving.settings import Settings
from zreward.serving.turns import Busy, Gone

ANSWERS: dict[int | str, dict[str, Any]] = {
    400: {"description": "An image, prompt or dimension that cannot be scored; `detail` says why."},
    401: {"description": "The token is missing or wrong."},
    413: {
        "description": "More bytes, images, pixels or tokens than the server takes at once; `detail` has the numbers."
    },
    429: {"description": "The queue is full; Retry-After says when to come back."},
    500: {"description": "The model could not score the request; `detail` says why."},
    503: {"description": "The server is shutting down."},
}
_MOST_ERRORS, _LONGEST_DETAIL = 8, 1000  # of an answer, whatever was sent


def create_app(model: RewardModel, name: str, settings: Settings) -> FastAPI:
    """An application with the model in this process. It owns its scoring threads; they end with its lifespan."""
    model.eval()
    return app_of(Scorer(ServedModel.of(model, name, settings), model_lanes(model, settings), settings), settings)


def app_of(scorer: Scorer, settings: Settings) -> FastAPI:
    """An application that starts and closes a scorer."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await scorer.start()
        yield
        await scorer.close()

    app = FastAPI(title="zreward", version=__version__, lifespan=lifespan, description=__doc__ or "")
    app.state.scorer = scorer
    app.router.route_class = _bounded(scorer, settings)
    _answer_errors(app)
    _add_routes(app, scorer)
    if settings.allow_pickle:
        _add_pickle_route(app, scorer)
    app.add_middleware(_Count, scorer=scorer)
    app.add_middleware(Gate, max_body=settings.max_body, max_buffered=settings.max_buffered, token=settings.token)
    return app


class _Count:
    """ASGI middleware: how many requests, and how long they took."""

    def __init__(self, app: Any, scorer: Scorer) -> None:
        self.app, self.scorer = app, scorer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin, started = time.perf_counter(), False

        async def count(message: Any) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                path = getattr(scope.get("route"), "path", "other")
                self.scorer.requests.labels(path, message["status"]).inc()
                self.scorer.seconds.labels(path).observe(time.perf_counter() - begin)
            await send(message)

        try:
            await self.app(scope, receive, count)
        except asyncio.CancelledError:  # the server leaves, and has waited for as long as it may
            if not started:
                await JSONResponse({"detail": "the server is shutting down"}, 503)(scope, receive, count)


def _bounded(scorer: Scorer, settings: Settings) -> type[APIRoute]:
    """Routes whose JSON is read with bounded work (FastAPI's way: a request class of one's own)."""
    most = 4096 + 1024 * settings.max_batch  # values: an item has a few, its prompt may hold commas
    longest = 2**20 + 2 * BYTES_PER_TOKEN * settings.max_prompt_tokens * settings.max_batch

    class BoundedRequest(Request):
        async def body(self) -> bytes:
            return self.scope[BODY]

        async def json(self) -> Any:
            body = await self.body()
            try:
                if len(body) <= SMALL:
                    return read_json(body, most, longest)
                return await scorer.read(len(body), read_json, body, most, longest)
            except Unreadable as error:
                # 422 as FastAPI documents it: a list of what is wrong, and where.
                listed = [{"loc": ["body"], "msg": str(error), "type": "json_invalid"}]
                raise HTTPException(error.status, listed if error.status == 422 else str(error)) from None

    class BoundedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handler = super().get_route_handler()

            async def bounded(request: Request) -> Response:
                return await handler(BoundedRequest(request.scope, request.receive))

            return bounded

    return BoundedRoute


def _answer_errors(app: FastAPI) -> None:
    def handler(status: int):
        async def answer(_: Request, error: Exception) -> JSONResponse:
            headers = {"Retry-After": str(math.ceil(error.seconds))} if isinstance(error, Busy) else None
            return JSONResponse({"detail": str(error)[:_LONGEST_DETAIL]}, status, headers)

        return answer

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        """FastAPI's own answer repeats the input, which may be no text, or megabytes."""
        assert isinstance(error, RequestValidationError)
        found = [{key: one[key] for key in ("loc", "msg", "type")} for one in error.errors()[:_MOST_ERRORS]]
        return JSONResponse({"detail": found}, 422)

    app.add_exception_handler(RequestValidationError, invalid)
    kinds = ((InputError, 400), (TooMuch, 413), (Busy, 429), (Gone, 499), (Failed, 500), (Closing, 503))
    for kind, status in kinds:
        app.add_exception_handler(kind, handler(status))


async def _hung_up(request: Request) -> None:
    """Returns when the client is no longer there; its body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add_routes(app: FastAPI, scorer: Scorer) -> None:
    @app.get("/health")
    async def health() -> schemas.Health:
        """Whose scores these are, and how long the queue is."""
        facts = {"status": "ok", "dimensions": scorer.rubric.dimension_names, "waiting": scorer.waiting}
        return schemas.Health.model_validate(scorer.identity | facts)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {CONTENT_TYPE_LATEST: {}}}})
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(generate_latest(scorer.registry), media_type=CONTENT_TYPE_LATEST)

    @app.post("/v1/score", responses=ANSWERS)
    async def score(http: Request, request: schemas.ScoreRequest) -> schemas.ScoreReply:
        """Whole distributions."""
        names = scorer.rubric.check_names(request.dimensions)
        images, prompts = [item.image for item in request.items], [item.prompt for item in request.items]
        scores = await scorer.score(images, prompts, partial(_hung_up, http))
        return schemas.ScoreReply.model_validate(scorer.identity | {"scores": scores.select(names).to_dicts()})

    @app.post("/compute", responses=ANSWERS)
    async def compute(http: Request, request: schemas.ComputeRequest) -> schemas.RewardReply:
        """Flow-Factory: one prompt for all images, or one each."""
        images = [request.image] if isinstance(request.image, str) else request.image
        scorer.prices.check_count(len(images))
        prompts = [request.prompt] * len(images) if isinstance(request.prompt, str) else request.prompt
        if not images or len(images) != len(prompts):
            raise InputError(
                f"{len(images)} images and {len(prompts)} prompts; expected one prompt per image, at least one"
            )
        found = await scorer.reward(images, prompts, request.dimensions, partial(_hung_up, http))
        return schemas.RewardReply.model_validate(found)

    @app.post("/get_reward", responses=ANSWERS)
    async def get_reward(http: Request, request: schemas.RewardRequest) -> schemas.RewardReply:
        """OpenRLHF."""
        images, prompts = [one.image for one in request.query], [one.prompt for one in request.query]
        found = await scorer.reward(images, prompts, request.dimensions, partial(_hung_up, http))
        return schemas.RewardReply.model_validate(found)


def _add_pickle_route(app: FastAPI, scorer: Scorer) -> None:
    @app.post("/", include_in_schema=False)
    async def pickled(request: Request) -> Response:
        """flow_grpo reads `outputs`, verl-omni `scores`."""
        try:
            body = await request.body()
            images, prompts = await scorer.read(len(body), pickles.read_request, body)
            del body
            found = await scorer.reward(images, prompts, None, partial(_hung_up, request))
        except (InputError, TooMuch) as error:
            # What their clients expect of an error.
            return Response(str(error)[:_LONGEST_DETAIL], 500, media_type="text/plain")
        return Response(pickles.reply(found), media_type="application/octet-stream")
