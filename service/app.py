"""Settings and a verified scorer in, an ASGI application out; nothing is global, nothing is loaded here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from models.disclaimer import DISCLAIMER_EN, DISCLAIMER_JA
from models.scorer import Scorer
from service import admin, batch
from service.access import SECURITY_SCHEMES, Access
from service.assembly import assembled
from service.audit import Audit, AuditEvent, NoAudit
from service.errors import ProblemDocument, install_error_handlers
from service.live import routes as stays
from service.live.store import StoreError
from service.live.upkeep import kept_up
from service.logs import Event, RequestLines, log_failure
from service.middleware import Envelope
from service.routes import Service, router, scoring
from service.schema import ScoreRequest
from service.selection import Origin, Selected
from service.settings import Settings
from service.text import routes as notes
from service.text.models import TextModels
from service.traces import Traces

TITLE = "Sequela (research use only)"
API_VERSION = "1"
# The most asked for come first: a request meets them in this order.
ROUTERS = (stays.router, scoring, router, batch.router, notes.router, admin.router)
DESCRIPTION = f"""{DISCLAIMER_EN}

{DISCLAIMER_JA}

Scores of a stay so far by one registered recurrent model; classes and spans of documents by others. Every response
carries the header
`X-Research-Use-Only: true`; every body that holds a risk carries the disclaimer. Refusals are problem
documents (RFC 9457) and never repeat what was sent.
"""


def create_app(
    settings: Settings,
    scorer: Scorer | None,
    *,
    origin: Origin | None = None,
    audit: Audit | None = None,
    challenger: Selected | None = None,
    texts: TextModels | None = None,
) -> FastAPI:
    """Builds the application.

    Args:
        settings: limits, keys and accepted hosts.
        scorer: a verified model of stays; None where documents alone are served.
        origin: how it was found; an artifact folder where left out.
        audit: where records of what it does go, closed when it ends; nowhere where left out.
        challenger: a verified model that answers a share of the patients; None for none.
        texts: verified models of documents; None for none.

    Raises:
        ArtifactError: if the challenger predicts something else.
        ConfigError: if it would be open to others without keys, or keys or traces cannot be had.
    """
    selected = None if scorer is None else Selected(scorer, origin or Origin())
    service, live, keeping, changes, documents = assembled(settings, selected, challenger, audit or NoAudit(), texts)
    app = FastAPI(
        title=TITLE,
        description=DESCRIPTION,
        version=API_VERSION,
        lifespan=_lifespan,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the query and the host that were sent
        # The service's own figures and traces say what may be said; FastAPI's would look for others at every request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.service = service
    app.state.access = Access.of(settings)
    app.state.lines = RequestLines()
    app.state.traces = Traces(settings.otlp_endpoint) if settings.otlp_endpoint else None
    app.state.live, app.state.keeping, app.state.changes = live, keeping, changes
    app.state.texts = documents
    # Not by `include_router`, whose routers within routers cost every request.
    app.router.routes.extend(route for one in ROUTERS for route in one.routes)
    install_error_handlers(app)
    app.add_middleware(
        Envelope,
        metrics=service.metrics,
        lines=app.state.lines,
        accepted_hosts=settings.accepted_hosts,
        max_body_bytes=settings.max_body_bytes,
        streamed=frozenset({batch.PATH}),
        tracer=app.state.traces,
        draining=lambda: live.watchers.ended,
    )
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    app.state.refusal = ""
    try:
        await app.state.keeping.open()
        await app.state.texts.rollover.warm_up()
        for place in service.models.places:
            if place.current is not None:
                await place.current.warm_up(service.inference)
    except Exception as error:
        log_failure(Event.FAILED, error, request_id="")
        if isinstance(error, StoreError):  # its words are this service's own, and name the remedy
            app.state.refusal = str(error)
        raise
    champion = service.models.champion.current
    digest, version = (champion.digest, champion.version) if champion else ("", "")
    async with (
        kept_up(app.state.live, app.state.keeping, service.settings, service.audit),
        app.state.changes.going_on(),
    ):
        service.audit.record(AuditEvent.STARTED, digest=digest, version=version)
        service.ready = True
        yield
        service.ready = False
    await service.inference.drain()
    await app.state.texts.lanes.drain()
    service.audit.record(AuditEvent.STOPPED, digest=digest, version=version)
    service.audit.close()
    app.state.lines.flush()
    if app.state.traces is not None:
        app.state.traces.close()


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The schema, with what no route's signature names: the body of `/v1/score`, and refusals."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schema["components"]["securitySchemes"] = SECURITY_SCHEMES
        components = schema["components"]["schemas"]
        adapters: dict[str, TypeAdapter[Any]] = {"ScoreRequest": TypeAdapter(ScoreRequest), **stays.SCHEMAS}
        adapters |= {model.__name__: TypeAdapter(model) for model in notes.SCHEMAS}
        for name, adapter in {**adapters, "ProblemDocument": TypeAdapter(ProblemDocument)}.items():
            described = adapter.json_schema(ref_template="#/components/schemas/{model}")
            components.update(described.pop("$defs", {}))
            components[name] = described
        app.openapi_schema = schema
    return app.openapi_schema
