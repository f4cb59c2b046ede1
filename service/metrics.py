"""From requests, batches, scores and stays to Prometheus figures; no label ever comes from a patient or a sender.

Counting costs well under a microsecond, because a figure is a plain number here and becomes Prometheus' own when it is
read. So every figure must be written from one thread alone: the event loop, unless a method says otherwise.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from models.disclaimer import DISCLAIMER_EN

CONTENT_TYPE = CONTENT_TYPE_LATEST
LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
FINE_BUCKETS_S = (0.0001, 0.00025, 0.0005, *LATENCY_BUCKETS_S)
BATCH_BUCKETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0)
SCORE_BUCKETS = tuple(i / 20 for i in range(1, 21))
DIFFERENCE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5)

Labels = tuple[str, ...]


class Buckets:
    """A histogram's numbers: values up to each bound, those beyond the last, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Counts one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """Values up to and including each bound, as Prometheus counts them."""
        reached, found = 0, []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            reached += count
            found.append((bound, float(reached)))
        return found


class Histograms(Collector):
    """One histogram for each combination of labels."""

    def __init__(self, name: str, help_text: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self._name, self._help, self._labels, self._bounds = name, help_text, labels, bounds
        self._children: dict[Labels, Buckets] = {}

    def of(self, *labels: str) -> Buckets:
        """The histogram of these labels."""
        found = self._children.get(labels)
        if found is None:
            found = self._children[labels] = Buckets(self._bounds)
        return found

    def collect(self) -> Iterator[Metric]:
        """What Prometheus reads."""
        family = HistogramMetricFamily(self._name, self._help, labels=self._labels)
        for labels, buckets in list(self._children.items()):
            family.add_metric(labels, buckets.cumulative(), buckets.total)
        yield family


class Batches(Collector):
    """What the model took at once: how many steps or stays, how long each waited, and how long the model took."""

    def __init__(self) -> None:
        waited = "Time that a step or a whole stay waited for the model."
        took = "Steps, or whole stays, that the model took at once."
        self._queue = Histograms("sequela_queue_seconds", waited, (), FINE_BUCKETS_S)
        self._compute = Histograms(
            "sequela_compute_seconds", "Time that the model took for a batch.", (), FINE_BUCKETS_S
        )
        self._size = Histograms("sequela_batch_size", took, (), BATCH_BUCKETS)

    def observe(self, queued_s: Sequence[float], compute_s: float) -> None:
        """Adds one batch."""
        self._size.of().observe(len(queued_s))
        self._compute.of().observe(compute_s)
        queue = self._queue.of()
        for seconds in queued_s:
            queue.observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """What Prometheus reads."""
        for histograms in (self._queue, self._compute, self._size):
            yield from histograms.collect()


class Counters(Collector):
    """One count for each combination of labels."""

    def __init__(self, name: str, help_text: str, labels: Sequence[str]) -> None:
        self._name, self._help, self._labels = name, help_text, labels
        self.counts: Tally[Labels] = Tally()

    def collect(self) -> Iterator[Metric]:
        """What Prometheus reads."""
        family = CounterMetricFamily(self._name, self._help, labels=self._labels)
        for labels, count in list(self.counts.items()):
            family.add_metric(labels, count)
        yield family


class Readings(Collector):
    """Gauges that are read when they are asked for."""

    def __init__(self) -> None:
        self._read: list[tuple[str, str, Callable[[], float]]] = []

    def watch(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """Adds one gauge; `read` may be called at any time while the application lives."""
        self._read.append((name, help_text, read))

    def collect(self) -> Iterator[Metric]:
        """What Prometheus reads."""
        for name, help_text, read in self._read:
            yield GaugeMetricFamily(name, help_text, value=read())


class Metrics:
    """The figures of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counters("sequela_requests", "Requests by route template and status.", ("route", "status"))
        self._latency = Histograms(
            "sequela_request_seconds",
            "Time from a request's first byte to its answer's last.",
            ("route",),
            LATENCY_BUCKETS_S,
        )
        self._batches = Batches()
        self._scores = Histograms(
            "sequela_score",
            f"Latest risks of answers, by output and version. {DISCLAIMER_EN}",
            ("output", "version"),
            SCORE_BUCKETS,
        )
        self._rejected = Counters("sequela_rejected", "Inputs that no score used, by reason.", ("reason",))
        self._documents = Counters("sequela_documents", "Documents that were answered for, by model.", ("model",))
        self._replays = Counters("sequela_replays", "Stays replayed from an earlier time, by reason.", ("reason",))
        self._swaps = Counters("sequela_swaps", "Changes of the model that answers, by outcome.", ("outcome",))
        self._text_swaps = Counters(
            "sequela_text_swaps", "Changes of models of documents, by name and outcome.", ("model", "outcome")
        )
        self._shadow = Histograms(
            "sequela_shadow_difference",
            f"How far a version that is tried is from the answers, by output and version. {DISCLAIMER_EN}",
            ("output", "version"),
            DIFFERENCE_BUCKETS,
        )
        self._readings = Readings()
        labels = ("name", "version", "digest", "source")
        self._model = Gauge("sequela_model_info", "The model that answers; always 1.", labels, registry=self.registry)
        self._text_models = Gauge(
            "sequela_text_model_info",
            "The models of documents that answer, by name in the settings; always 1.",
            ("model", *labels),
            registry=self.registry,
        )
        for collector in self._collectors():
            self.registry.register(collector)

    def _collectors(self) -> Iterable[Collector]:
        yield from (self._requests, self._latency, self._batches, self._scores, self._rejected, self._documents)
        yield from (self._replays, self._swaps, self._text_swaps, self._shadow, self._readings)

    def set_model(self, *, name: str, version: str, digest: str, source: str) -> None:
        """States the model that answers, in place of any before."""
        self._model.clear()
        self.add_model(name=name, version=version, digest=digest, source=source)

    def add_model(self, *, name: str, version: str, digest: str, source: str) -> None:
        """States a model that answers beside the others."""
        self._model.labels(name=name, version=version, digest=digest, source=source).set(1)

    def set_text_models(self, models: Iterable[Mapping[str, str]]) -> None:
        """States the models of documents that answer, in place of any before.

        Args:
            models: of each its `model` (name in the settings), `name`, `version`, `digest` and `source`.
        """
        self._text_models.clear()
        for labels in models:
            self._text_models.labels(**labels).set(1)

    def count_request(self, *, route: str, status: int, seconds: float) -> None:
        """Counts one answered request; `route` is a template, never a path."""
        self._requests.counts[route, str(status)] += 1
        self._latency.of(route).observe(seconds)

    def count_rejected(self, reasons: Tally[str]) -> None:
        """Counts inputs that were rejected."""
        for reason, count in reasons.items():
            self._rejected.counts[reason,] += count

    def count_documents(self, model: str, count: int) -> None:
        """Counts documents that a model of the settings answered for."""
        self._documents.counts[model,] += count

    def count_replay(self, reason: str) -> None:
        """Counts one stay that was replayed: `late`, `corrected`, `withdrawn`, `restored`, `swapped`."""
        self._replays.counts[reason,] += 1

    def count_swap(self, outcome: str) -> None:
        """Counts one change of model: `switched`, `refused`, `rolled_back`."""
        self._swaps.counts[outcome,] += 1

    def count_text_swap(self, model: str, outcome: str) -> None:
        """Counts one change of a model of documents, by its name in the settings: `switched`, `refused`."""
        self._text_swaps.counts[model, outcome] += 1

    def observe_scores(self, outputs: Sequence[str], risks: Sequence[float], *, version: str = "") -> None:
        """Adds an answer's latest probabilities to the histogram of the version that made it."""
        for output, risk in zip(outputs, risks, strict=True):
            self._scores.of(output, version).observe(risk)

    def observe_shadow(self, outputs: Sequence[str], differences: Sequence[float], *, version: str) -> None:
        """Adds how far a version that is tried was from an answer."""
        for output, difference in zip(outputs, differences, strict=True):
            self._shadow.of(output, version).observe(difference)

    def observe_batch(self, queued_s: Sequence[float], compute_s: float) -> None:
        """Adds one batch: how long each of its steps or stays waited, and how long the model took.

        Always from one thread, which need not be the event loop's.
        """
        self._batches.observe(queued_s, compute_s)

    def watch_stays(self, count: Callable[[], int], state_bytes: Callable[[], int]) -> None:
        """States how many stays live in memory, and how many bytes their states take."""
        self._readings.watch("sequela_live_stays", "Stays whose state is in memory.", count)
        self._readings.watch("sequela_state_bytes", "Bytes of the states in memory.", state_bytes)

    def watch_queue(self, length: Callable[[], int]) -> None:
        """States how many steps wait for the model."""
        self._readings.watch("sequela_queue_length", "Steps that wait for the model.", length)

    def watch_audit(self, records: Callable[[], int]) -> None:
        """States how many records the audit holds."""
        self._readings.watch("sequela_audit_records", "Records of the audit chain.", records)

    def exposition(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)
