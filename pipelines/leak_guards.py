"""What a training run made in, the proof that nothing leaked into it out; a run that cannot give it ends here.

Every guard looks at what was made and used, not at the code that should have made it right: it takes the stays that
are in the parts, fits again what was fitted, and scores through the model that is about to be saved.
What each guard proves, and what it cannot, is in docs/leak-guards.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from models.bundle import Bundle
from models.record import to_plain
from models.scorer import Scorer
from pipelines.cohort import Cohort
from pipelines.config import RunConfig
from pipelines.dataset import Dataset, PartData, part_indices, patients_digest
from pipelines.leak_finding import Finding, require
from pipelines.leak_guards_data import check_features, check_patients, check_statistics
from pipelines.leak_guards_future import check_future
from pipelines.leak_guards_labels import check_labels
from pipelines.split import Part

# The part that each thing is fitted on.
FITTED_ON = {
    "encoding": Part.TRAIN,
    "tokenizer": Part.TRAIN,
    "target_scale": Part.TRAIN,
    "pretraining": Part.TRAIN,
    "network": Part.TRAIN,
    "trees": Part.TRAIN,
    "best_epoch": Part.VALIDATION,
    "calibration": Part.CALIBRATION,
    "uncertainty": Part.CALIBRATION,
    "thresholds": Part.CALIBRATION,
}
# What every run fits, and must have recorded.
ALWAYS = ("encoding", "target_scale", "network", "calibration")

Refit = Callable[[PartData], Any]


@dataclass(frozen=True)
class Fitted:
    """Something that is fitted on one part, and how to fit it again.

    Args:
        value: as it is about to be saved; plain values.
        fit: fits it on a part.
    """

    value: Any
    fit: Refit


def check_data(cohort: Cohort, config: RunConfig, data: Dataset) -> tuple[Finding, ...]:
    """The guards that need no network, so that a leak costs no training.

    Raises:
        LeakError: if one does not hold.
    """
    train = data.parts[Part.TRAIN]
    return (
        check_patients(cohort, config, data),
        check_statistics(cohort, config, data),
        check_features(cohort, config, data),
        check_labels(cohort.outcome_rows, train.index, train.stays, data.encoding),
    )


def check_model(
    cohort: Cohort, config: RunConfig, data: Dataset, scorer: Scorer, *, fitted: Mapping[str, Fitted]
) -> tuple[Finding, ...]:
    """The guards of a finished model, before it is saved.

    Args:
        cohort: all stays.
        config: the run's configuration.
        data: the parts, with the record of what saw whom.
        scorer: the model.
        fitted: what was fitted on the calibration part, by name, such as the calibration.

    Raises:
        LeakError: if one does not hold.
    """
    return (
        check_record(cohort, config, data),
        *(check_refit(name, thing, data) for name, thing in fitted.items()),
        check_future(scorer, data.parts[Part.TEST], seed=config.seed),
    )


def records(findings: tuple[Finding, ...]) -> tuple[dict[str, Any], ...]:
    """What the bundle holds of the guards: name, passed and detail of each."""
    return tuple(to_plain(finding) for finding in findings)


def guarded(
    cohort: Cohort,
    config: RunConfig,
    data: Dataset,
    scorer: Scorer,
    *,
    before: tuple[Finding, ...],
    fitted: Mapping[str, Fitted],
) -> Bundle:
    """The bundle of a model that passes every guard, with what they found.

    Args:
        cohort: all stays.
        config: the run's configuration.
        data: the parts, with the record of what saw whom.
        scorer: the model, with its bundle as it is so far.
        before: what `check_data` found.
        fitted: as for `check_model`.

    Raises:
        LeakError: if a guard does not hold.
    """
    findings = before + check_model(cohort, config, data, scorer, fitted=fitted)
    seen = {thing: str(part) for thing, part in fitted_parts(cohort, config, data).items()}
    facts = scorer.bundle.cohort | {"fitted_on": seen, "patient_digests": dict(data.fitted_on)}
    return replace(scorer.bundle, causal=scorer.network.streams, guards=records(findings), cohort=facts)


def check_record(cohort: Cohort, config: RunConfig, data: Dataset) -> Finding:
    """The patients that each fitted thing is recorded to have seen are those of its own part."""
    needed: tuple[str, ...] = (*ALWAYS, "tokenizer") if data.tokenizer is not None else ALWAYS
    if data.parent is not None:  # which brought what it needs to encode
        needed = tuple(thing for thing in needed if thing not in ("encoding", "tokenizer"))
    parts = fitted_parts(cohort, config, data)
    for thing in needed:
        require("record", thing in parts, f"the patients of the {thing}", "no record of them")
    for thing, part in parts.items():
        own = FITTED_ON.get(thing)
        require("record", own is not None, "things that have a part of their own", f"{thing!r} among the record")
        require(
            "record", part is own, f"the {thing} to have seen the {own} part", f"the {part or 'patients of no'} part"
        )
    return Finding("record", "; ".join(f"{thing}: {part}" for thing, part in parts.items()))


def fitted_parts(cohort: Cohort, config: RunConfig, data: Dataset) -> dict[str, Part | None]:
    """The part whose patients each fitted thing has seen, by name; None: the patients of no part."""
    part_of = {
        patients_digest([cohort.patient_id[i] for i in index], config.split.key): part
        for part, index in part_indices(cohort, config).items()
    }
    return {thing: part_of.get(digest) for thing, digest in data.fitted_on.items()}


def check_refit(name: str, thing: Fitted, data: Dataset) -> Finding:
    """What was fitted on the calibration part is what that part gives again."""
    part = data.parts[Part.CALIBRATION]
    same = _plain(thing.fit(part)) == _plain(thing.value)
    require(name, same, f"the {name} that the calibration part gives", "another")
    return Finding(name, f"fitted again on {len(part.stays):,} stays of the calibration part")


def _plain(value: Any) -> str:
    return json.dumps(to_plain(value), sort_keys=True)
