"""One contender of `benchmarks/serving.py` as a process: says its port on standard output, then serves until it ends.

    python benchmarks/serving_server.py KIND        # reads the service's own environment variables

`sequela` is the service as `python -m service` starts it, with two empty endpoints beside its own: `/noop/lean` reads,
validates and answers in the service's own way, `/noop/typed` lets FastAPI do so; both stand behind the service's keys,
limits and layer, and give one constant answer. `bare` is a FastAPI application with the typed endpoint alone. `naive`
steps the eager network inside the route, and keeps states in a dictionary. `litserve` serves windows.
"""

from __future__ import annotations

import gc
import json
import socket
import sys
from pathlib import Path

import uvicorn
from fastapi import APIRouter, FastAPI, Request, Response

from models.artifact import load_artifact
from models.scorer import Scorer
from service.access import GuardedRoute, LeanRoute, needs
from service.app import create_app
from service.audit import AuditLog
from service.bodies import JSON, read_json
from service.keys import Scope
from service.live.answers import LiveBinaryAnswer
from service.live.schema import OBSERVATIONS, ObservationsRequest, parse
from service.logs import configure_logging
from service.schema import ScoreRequest
from service.schema_answers import BinaryAnswer
from service.score_body import read_score
from service.scoring import StayScoring
from service.selection import Origin
from service.server import _listen, _serve
from service.settings import Settings, settings_from_environment

STEP, WINDOW = "/step", "/window"
LEAN, TYPED = "/noop/lean", "/noop/typed"


def constants(scorer: Scorer, settings: Settings) -> tuple[LiveBinaryAnswer, BinaryAnswer]:
    """An answer to a step and one to a window, as the model words them."""
    window = json.loads(StayScoring(scorer, Origin(), settings).score(b'{"as_of_h": 1}').content)
    live = {"revision": 2, "accepted": {"observations": 6, "notes": 0}, "replayed_from_h": None, "change": 0.01}
    return LiveBinaryAnswer.model_validate({**window, **live}), BinaryAnswer.model_validate(window)


def add_lean(app: FastAPI, step: LiveBinaryAnswer, window: BinaryAnswer) -> None:
    """Empty endpoints that read, validate and answer as the service's own do."""
    router = APIRouter(route_class=LeanRoute)
    stepped, scored = step.model_dump_json().encode(), window.model_dump_json().encode()

    @router.post(f"{LEAN}{STEP}/{{stay_id}}", openapi_extra=needs(Scope.SCORE))
    async def lean_step(request: Request) -> Response:
        parse(OBSERVATIONS, await read_json(request, seconds=30), known=frozenset())
        return Response(stepped, media_type=JSON)

    @router.post(f"{LEAN}{WINDOW}", openapi_extra=needs(Scope.SCORE))
    async def lean_window(request: Request) -> Response:
        read_score(await read_json(request, seconds=30), known=frozenset())
        return Response(scored, media_type=JSON)

    app.router.routes[:0] = router.routes  # found as soon as the routes that are measured beside them


def add_typed(app: FastAPI, router: APIRouter, step: LiveBinaryAnswer, window: BinaryAnswer) -> None:
    """Empty endpoints that declare their types and leave the rest to FastAPI."""

    @router.post(f"{TYPED}{STEP}/{{stay_id}}", openapi_extra=needs(Scope.SCORE))
    async def typed_step(stay_id: str, body: ObservationsRequest) -> LiveBinaryAnswer:
        del stay_id, body
        return step

    @router.post(f"{TYPED}{WINDOW}", openapi_extra=needs(Scope.SCORE))
    async def typed_window(body: ScoreRequest) -> BinaryAnswer:
        del body
        return window

    app.router.routes[:0] = router.routes  # found as soon as the routes that are measured beside them


def serve_sequela(settings: Settings, scorer: Scorer) -> None:
    """The service itself."""
    audit = None if settings.audit_folder is None else AuditLog(settings.audit_folder)
    app = create_app(settings, scorer, audit=audit)
    answers = constants(scorer, settings)
    add_lean(app, *answers)
    add_typed(app, APIRouter(route_class=GuardedRoute), *answers)
    listening = _listen(settings)
    _say(listening)
    _serve(settings, app, listening)


def serve_plain(app: FastAPI) -> None:
    """Any application with uvicorn's defaults; it too is spared collections of what lives until the end."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    # Connections take it over; without it every answer would wait for the other side's delayed confirmation.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    gc.collect()
    gc.freeze()
    _say(listening)
    server.run(sockets=[listening])


def _say(listening: socket.socket) -> None:
    print(json.dumps({"port": listening.getsockname()[1]}), flush=True)


def main() -> None:
    """Starts the contender that the first argument names."""
    kind = sys.argv[1]
    configure_logging()
    settings = settings_from_environment()
    scorer = load_artifact(Path(settings.model))
    if kind == "sequela":
        serve_sequela(settings, scorer)
        return
    if kind == "litserve":
        from serving_peers import serve_litserve

        serve_litserve(scorer, settings)
        return
    app = FastAPI()
    if kind == "bare":
        add_typed(app, APIRouter(), *constants(scorer, settings))
    else:
        from serving_peers import naive_router

        app.include_router(naive_router(scorer, settings))
    serve_plain(app)


if __name__ == "__main__":
    main()
