"""From requests and scores to Prometheus figures; no label ever comes from a patient or a sender."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from models.disclaimer import DISCLAIMER_EN

CONTENT_TYPE = CONTENT_TYPE_LATEST
LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SCORE_BUCKETS = tuple(i / 20 for i in range(1, 21))


class Metrics:
    """The figures of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "sequela_requests", "Requests by route template and status.", ("route", "status"), registry=self.registry
        )
        self._latency = Histogram(
            "sequela_request_seconds",
            "Time from a request's first byte to its answer's last.",
            ("route",),
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self._scores = Histogram(
            "sequela_score",
            f"Risks at the end of the stay, by output. {DISCLAIMER_EN}",
            ("output",),
            buckets=SCORE_BUCKETS,
            registry=self.registry,
        )
        self._rejected = Counter(
            "sequela_rejected", "Inputs that no score used, by reason.", ("reason",), registry=self.registry
        )
        self._model = Gauge(
            "sequela_model_info",
            "The model that answers; always 1.",
            ("name", "version", "digest", "source"),
            registry=self.registry,
        )

    def set_model(self, *, name: str, version: str, digest: str, source: str) -> None:
        """States the model that answers."""
        self._model.labels(name=name, version=version, digest=digest, source=source).set(1)

    def count_request(self, *, route: str, status: int, seconds: float) -> None:
        """Counts one answered request; `route` is a template, never a path."""
        self._requests.labels(route=route, status=str(status)).inc()
        self._latency.labels(route=route).observe(seconds)

    def count_rejected(self, reasons: Tally[str]) -> None:
        """Counts inputs that were rejected."""
        for reason, count in reasons.items():
            self._rejected.labels(reason=reason).inc(count)

    def observe_scores(self, outputs: Sequence[str], risks: Sequence[float]) -> None:
        """Adds one stay's final probabilities to the histogram."""
        for output, risk in zip(outputs, risks, strict=True):
            self._scores.labels(output=output).observe(risk)

    def exposition(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)
