"""Figures in Prometheus' own format, and equal to what its own client would have counted."""

import math
from collections import Counter

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import FINE_BUCKETS_S, Histograms, Metrics


def samples(metrics):
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {(s.name, *sorted(s.labels.values())): s.value for f in families for s in f.samples}


def test_a_histogram_counts_as_the_official_client_does():
    values = [*FINE_BUCKETS_S, 0.0, -1.0, 1e9, math.inf, *np.random.default_rng(1).exponential(0.01, size=500).tolist()]
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    reference = Histogram("h", "Help.", ("a",), buckets=FINE_BUCKETS_S, registry=theirs)
    own = Histograms("h", "Help.", ("a",), FINE_BUCKETS_S)
    ours.register(own)
    for value in values:
        reference.labels("x").observe(value)
        own.of("x").observe(value)
    expected = [line for line in generate_latest(theirs).decode().splitlines() if "_created" not in line]
    assert generate_latest(ours).decode().splitlines() == expected


def test_every_figure_comes_out_under_its_name():
    metrics = Metrics()
    metrics.set_model(name="m", version="1", digest="d", source="registry")
    metrics.set_model(name="m", version="2", digest="e", source="registry")
    metrics.count_request(route="/v1/score", status=200, seconds=0.02)
    metrics.count_rejected(Counter(missing=3))
    metrics.count_replay("late")
    metrics.count_swap("switched")
    metrics.observe_scores(("death",), (0.31,), version="2")
    metrics.observe_batch((0.001, 0.003), 0.002)
    live = [2]
    metrics.watch_stays(lambda: live[0], lambda: 4096)
    metrics.watch_queue(lambda: 5)
    metrics.watch_audit(lambda: 7)
    live[0] = 3
    found = samples(metrics)
    expected = {
        ("sequela_requests_total", "/v1/score", "200"): 1,
        ("sequela_request_seconds_bucket", "/v1/score", "0.025"): 1,
        ("sequela_request_seconds_bucket", "/v1/score", "0.01"): 0,
        ("sequela_rejected_total", "missing"): 3,
        ("sequela_replays_total", "late"): 1,
        ("sequela_swaps_total", "switched"): 1,
        ("sequela_score_bucket", "0.35", "2", "death"): 1,
        ("sequela_batch_size_sum",): 2,
        ("sequela_queue_seconds_count",): 2,
        ("sequela_compute_seconds_sum",): 0.002,
        ("sequela_live_stays",): 3,
        ("sequela_state_bytes",): 4096,
        ("sequela_queue_length",): 5,
        ("sequela_audit_records",): 7,
    }
    assert {name: found.get(name) for name in expected} == expected
    assert [key for key in found if key[0] == "sequela_model_info"] == [
        ("sequela_model_info", "2", "e", "m", "registry")
    ]


def test_nothing_has_happened_in_a_new_application():
    found = samples(Metrics())
    assert {name[0] for name in found if name[0].startswith("sequela_")} == set()


def test_each_score_needs_the_name_of_its_output():
    with pytest.raises(ValueError, match="zip"):
        Metrics().observe_scores(("death",), (0.1, 0.2))
