"""From settings of the environment and a verified model to a server that answers HTTP until SIGTERM."""

from __future__ import annotations

import gc
import signal
import socket
import sys
from contextlib import suppress
from types import FrameType

import uvicorn
from fastapi import FastAPI

from models.errors import ConfigError, SequelaError
from service.access import Access
from service.app import create_app
from service.audit import AuditLog
from service.logs import Event, configure_logging, log_event
from service.protocol import ResearchProtocol
from service.selection import select_challenger, select_model
from service.settings import Settings, settings_from_environment
from service.text.models import select_text_models

# Objects that are made, and not yet freed, between two collections of the youngest.
GARBAGE_AFTER = 10_000


def serve() -> int:
    """Runs the service and returns its exit status, as `service.__main__` explains it."""
    configure_logging()
    # A signal before the server listens ends the start; uvicorn takes both signals over while it runs.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    try:
        settings = settings_from_environment()
        Access.of(settings)  # whoever forgot the keys hears so at once, not after a download
        audit = None if settings.audit_folder is None else AuditLog(settings.audit_folder)
        selected = select_model(settings) if settings.stays_model else None
        challenger = select_challenger(settings)
        texts = select_text_models(settings)
        listening = _listen(settings)
        scorer, origin = (selected.scorer, selected.origin) if selected else (None, None)
        app = create_app(settings, scorer, origin=origin, audit=audit, challenger=challenger, texts=texts)
    except SequelaError as error:
        sys.stderr.write(f"sequela serve: {error}\n")
        return 2 if isinstance(error, ConfigError) else 1
    return _serve(settings, app, listening)


def _serve(settings: Settings, app: FastAPI, listening: socket.socket) -> int:
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            http=ResearchProtocol,
            ws="none",
            lifespan="on",
            timeout_graceful_shutdown=settings.shutdown_timeout_s,
        )
    )
    app.openapi()  # made here once, not within a request
    # What lives now lives until the end: collecting it again and again would only delay requests.
    gc.collect()
    gc.freeze()
    # Requests leave no cycles, so looking for them after every few hundred objects finds none.
    gc.set_threshold(GARBAGE_AFTER, 20, 50)
    host, port = listening.getsockname()[:2]
    log_event(Event.LISTENING, host=str(host), port=int(port))
    try:
        with suppress(SystemExit):  # a start that failed ends with a status of this module's own
            server.run(sockets=[listening])
    finally:
        log_event(Event.STOPPED)
        if app.state.refusal:
            sys.stderr.write(f"sequela serve: {app.state.refusal}\n")
    return 0 if server.started else 1


class _Server(uvicorn.Server):
    """The server; open event streams end when it is told to, for it waits until every answer is complete."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Takes a signal."""
        app: FastAPI = self.config.app  # type: ignore[assignment]  # given as such
        app.state.live.watchers.ended = True
        super().handle_exit(sig, frame)


def _listen(settings: Settings) -> socket.socket:
    """A listening socket.

    Raises:
        ConfigError: if the address is taken or not this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(
            f"host and port must be free to listen on, got {settings.host}:{settings.port} ({error.strerror}); "
            "set SEQUELA_HOST or SEQUELA_PORT"
        ) from None


def _end(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise SystemExit(0)
