"""From requests to OpenTelemetry spans, where the extra `traces` is installed and a collector's address is set.

A span holds the route's template, the method, the status and the request's id: no path, no header, no body. Of what a
sender passes on, `traceparent` alone is taken over, which is hexadecimal digits; `tracestate` and `baggage` are free
text and go no further.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from models.errors import ConfigError

SERVICE_NAME = "sequela"


@dataclass(frozen=True, slots=True)
class RequestSpan:
    """One request's span, and what makes spans below it."""

    span: Any
    tracer: Any
    api: ModuleType

    def end(self, *, route: str, method: str, status: int, request_id: str) -> None:
        """Ends it, with what may be said of the request."""
        self.span.update_name(f"{method} {route}")
        self.span.set_attributes(
            {
                "http.route": route,
                "http.request.method": method,
                "http.response.status_code": status,
                "sequela.request_id": request_id,
            }
        )
        if status >= 500:
            self.span.set_status(self.api.StatusCode.ERROR)
        self.span.end()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A span below it, such as `queue`, `compute` or `store`, around the block; an error's text stays out."""
        inner = self.tracer.start_span(name, context=self.api.set_span_in_context(self.span))
        try:
            yield
        except BaseException:
            inner.set_status(self.api.StatusCode.ERROR)
            raise
        finally:
            inner.end()


class Traces:
    """Makes spans and sends them, from a thread of its own.

    Args:
        endpoint: address of the collector, such as `http://collector:4318/v1/traces`.
        exporter: where spans go instead.

    Raises:
        ConfigError: if OpenTelemetry is not installed.
    """

    def __init__(self, endpoint: str, *, exporter: Any = None) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

            if exporter is None:
                from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

                exporter = OTLPSpanExporter(endpoint=endpoint)
        except ModuleNotFoundError:
            raise ConfigError(
                "traces must have OpenTelemetry, got none; install sequela[traces] or unset SEQUELA_OTLP_ENDPOINT"
            ) from None
        # Not `Resource.create`, which adds what it finds of the machine and its environment.
        self._provider = TracerProvider(resource=Resource({"service.name": SERVICE_NAME}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("service")
        self._parent = TraceContextTextMapPropagator()
        self._api = trace

    def begin(self, head: dict[bytes, bytes]) -> RequestSpan:
        """Begins the span of a request with these headers."""
        context = None
        if b"traceparent" in head:
            context = self._parent.extract({"traceparent": head[b"traceparent"].decode("latin-1")})
        span = self._tracer.start_span("request", context=context, kind=self._api.SpanKind.SERVER)
        return RequestSpan(span, self._tracer, self._api)

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()
