"""What a training run made in, the proof that nothing leaked into it out; a run that cannot give it ends here.

Every guard looks at what was made and used, not at the code that should have made it right: it takes the stays that
are in the parts, fits again what was fitted, and scores through the model that is about to be saved.
What each guard proves, and what it cannot, is in docs/leak-guards.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.ensemble import MemberSpec
from models.record import to_plain
from models.scorer import Scorer
from pipelines.cohort import Cohort
from pipelines.config import RunConfig
from pipelines.dataset import fold_key, part_indices
from pipelines.leak_finding import Finding, require
from pipelines.leak_guards_data import check_features, check_patients, check_statistics
from pipelines.leak_guards_future import check_future
from pipelines.leak_guards_labels import check_labels
from pipelines.part_data import Dataset, PartData, fold_name, patients_digest
from pipelines.split import Part, patient_folds

# The part that each thing is fitted on.
FITTED_ON = {
    "encoding": Part.TRAIN,
    "tokenizer": Part.TRAIN,
    "target_scale": Part.TRAIN,
    "pretraining": Part.TRAIN,
    "network": Part.TRAIN,
    "trees": Part.TRAIN,
    "best_epoch": Part.VALIDATION,
    "member_weights": Part.CALIBRATION,
    "calibration": Part.CALIBRATION,
    "uncertainty": Part.CALIBRATION,
    "thresholds": Part.CALIBRATION,
}
# Of these each member has its own where it leaves a fold out: `network/2` saw everyone but that fold.
OF_MEMBERS = ("pretraining", "network", "trees", "best_epoch")
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
    cohort: Cohort,
    config: RunConfig,
    data: Dataset,
    scorer: Scorer,
    *,
    fitted: Mapping[str, Fitted],
    known: NDArray[np.bool_],
) -> tuple[Finding, ...]:
    """The guards of a finished model, before it is saved.

    Args:
        cohort: all stays.
        config: the run's configuration.
        data: the parts, with the record of what saw whom.
        scorer: the model.
        fitted: what was fitted on the stays to calibrate on, by name, such as the calibration.
        known: as for `check_left_out`.

    Raises:
        LeakError: if one does not hold.
    """
    return (
        check_record(cohort, config, data),
        *check_left_out(data, scorer.bundle.members, known),
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
    known: NDArray[np.bool_],
) -> Bundle:
    """The bundle of a model that passes every guard, with what they found.

    Args:
        cohort: all stays.
        config: the run's configuration.
        data: the parts, with the record of what saw whom.
        scorer: the model, with its bundle as it is so far.
        before: what `check_data` found.
        fitted: as for `check_model`.
        known: as for `check_left_out`.

    Raises:
        LeakError: if a guard does not hold.
    """
    findings = before + check_model(cohort, config, data, scorer, fitted=fitted, known=known)
    seen = fitted_parts(cohort, config, data)
    facts = scorer.bundle.cohort | {"fitted_on": seen, "patient_digests": dict(data.fitted_on)}
    return replace(scorer.bundle, causal=scorer.network.streams, guards=records(findings), cohort=facts)


def check_record(cohort: Cohort, config: RunConfig, data: Dataset) -> Finding:
    """The patients that each fitted thing is recorded to have seen are its own."""
    needed: tuple[str, ...] = (*ALWAYS, "tokenizer") if data.tokenizer is not None else ALWAYS
    if data.parent is not None:  # which brought what it needs to encode
        needed = tuple(thing for thing in needed if thing not in ("encoding", "tokenizer"))
    seen, folds = fitted_parts(cohort, config, data), config.ensemble.folds
    for thing in needed:
        names = [fold_name(thing, k) for k in range(folds)] if folds and thing in OF_MEMBERS else [thing]
        for name in names:
            require("record", name in seen, f"the patients of the {name}", "no record of them")
    for thing, patients in seen.items():
        own = _own_patients(thing, folds)
        require("record", own is not None, "things that have patients of their own", f"{thing!r} among the record")
        got = "the patients of no part" if patients is None else f"part '{patients}'"
        require("record", patients == own, f"the {thing} to have seen part '{own}'", got)
    return Finding("record", "; ".join(f"{thing}: {patients}" for thing, patients in seen.items()))


def _own_patients(thing: str, folds: int) -> str | None:
    """Whom a thing of this name must have seen, as `fitted_parts` calls them; None for a name that is not known."""
    base, _, fold = thing.partition("/")
    part = FITTED_ON.get(base)
    if part is None or (bool(fold) != bool(folds and base in OF_MEMBERS)):
        return None
    if fold:
        return _fold_words(int(fold), left_out=part is Part.TRAIN)
    return str(part if not folds else Part.TRAIN)


def _fold_words(fold: int, *, left_out: bool) -> str:
    return f"{Part.TRAIN} without fold {fold}" if left_out else f"fold {fold} of {Part.TRAIN}"


def fitted_parts(cohort: Cohort, config: RunConfig, data: Dataset) -> dict[str, str | None]:
    """Whom each fitted thing has seen, by name: a part, or a part's fold or others; None: the patients of no part."""
    indices = part_indices(cohort, config)
    sets = {str(part): [cohort.patient_id[i] for i in index] for part, index in indices.items()}
    train = sets[Part.TRAIN]
    folds = patient_folds(train, fold_key(config), config.ensemble.folds)
    for fold in range(config.ensemble.folds):
        for left_out in (True, False):
            patients = [p for p, own in zip(train, folds.tolist(), strict=True) if (own != fold) == left_out]
            sets[_fold_words(fold, left_out=left_out)] = patients
    words: dict[str, list[str | None]] = {}
    for name, patients in sets.items():
        words.setdefault(patients_digest(patients, config.split.key), []).append(name)
    found = {}
    for thing, digest in data.fitted_on.items():
        # Of two folds, one is also all but the other: the same patients have two names.
        names, own = words.get(digest, [None]), _own_patients(thing, config.ensemble.folds)
        found[thing] = own if own in names else names[0]
    return found


def check_left_out(data: Dataset, members: Sequence[MemberSpec], known: NDArray[np.bool_]) -> tuple[Finding, ...]:
    """Where members leave folds out, the logits that calibrate are those of members that never saw the stay.

    Args:
        data: the parts.
        members: what each is.
        known: (steps, members) whose logits calibrate at a step of `Dataset.calibration`.
    """
    if data.folds is None:
        return ()
    part = data.calibration
    fold_of = dict(zip(part.patient_id, data.folds.tolist(), strict=True))
    whole = all(fold_of[p] == fold for p, fold in zip(part.patient_id, data.folds.tolist(), strict=True))
    require("left_out", whole, "a patient in one fold", "one in two")
    fold = np.repeat(data.folds, part.encoded.lengths)
    for number, member in enumerate(members):
        strangers = known[:, number] & (fold != member.fold)
        require(
            "left_out", not strangers.any(), "logits of members that never saw the stay", "one of a member that did"
        )
    require("left_out", bool(known.any(axis=1).all()), "such a member for every stay", "stays without one")
    folds = len(np.unique(data.folds))
    detail = f"{len(part.stays):,} stays in {folds} folds, each calibrated by members that never saw it"
    return (Finding("left_out", detail),)


def check_refit(name: str, thing: Fitted, data: Dataset) -> Finding:
    """What was fitted on the stays to calibrate on is what they give again."""
    part = data.calibration
    same = _plain(thing.fit(part)) == _plain(thing.value)
    require(name, same, f"the {name} that the stays to calibrate on give", "another")
    return Finding(name, f"fitted again on the {len(part.stays):,} stays to calibrate on")


def _plain(value: Any) -> str:
    return json.dumps(to_plain(value), sort_keys=True)
