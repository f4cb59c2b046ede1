"""A bundle and what was found on its stays in, the one object that card and page are made of out."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from models.bundle import Bundle
from pipelines.cohort import Cohort
from pipelines.evaluation_config import EvaluationConfig
from pipelines.model_card import card_facts

HOLDOUT = "the hold-out: patients that nothing was fitted or chosen on"
WHOLE = "every stay of the cohort"


def report_facts(
    bundle: Bundle,
    table: Mapping[str, Mapping[str, Any]],
    sections: Mapping[str, Any],
    evaluated: Mapping[str, Any],
    config: EvaluationConfig,
    *,
    comparisons: Sequence[Mapping[str, Any]] = (),
    history: Sequence[Mapping[str, float]] = (),
    digest: str = "",
    address: str = "",
    cautions: Sequence[str] = (),
) -> dict[str, Any]:
    """Everything that a report says, as plain values; it holds no row of a stay or patient.

    Args:
        bundle: the model's facts.
        table: figures as of `pipelines.evaluate`, by the name of the model, the reported one first.
        sections: as of `pipelines.report.sections.report_sections`.
        evaluated: as of `evaluated_facts`.
        config: how intervals were made.
        comparisons: as of `pipelines.report.comparisons.compare`.
        history: one row an epoch, where the training is reported.
        digest: of the artifact, where it is known.
        address: of the registered version, where it is one.
        cautions: what a reader must not take from the figures, beside what the reported model's own say.
    """
    own = next(iter(table.values()), {}).get("cautions", [])
    return {
        **card_facts(bundle),
        "metrics": {name: dict(figures) for name, figures in table.items()},
        **sections,
        "evaluated": dict(evaluated),
        "intervals": {
            "draws": config.bootstrap,
            "level": config.level,
            "seed": config.seed,
            "min_group": config.min_group,
        },
        "cautions": [*own, *cautions],
        "comparisons": [dict(entry) for entry in comparisons],
        "history": [dict(row) for row in history],
        "config": dict(bundle.config),
        "digest": digest,
        "address": address,
    }


def evaluated_facts(cohort: Cohort, figures: Mapping[str, Any], part: str) -> dict[str, Any]:
    """What was evaluated on, when.

    Args:
        cohort: from which the stays are.
        figures: as of `pipelines.evaluate`, of these stays.
        part: which stays of the cohort, in words.
    """
    counts = {name: figures[name] for name in ("stays", "patients", "events", "unlabelled_stays")}
    return {
        "source": cohort.source,
        "licence": cohort.licence,
        "fingerprint": cohort.fingerprint,
        "part": part,
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        **counts,
    }
