"""What a training run made in, the proof that nothing leaked into it out; a run that cannot give it ends here.

Every guard looks at what was made and used, not at the code that should have made it right: it takes the stays that
are in the parts, fits again what was fitted, and scores through the model that is about to be saved.
What each guard proves, and what it cannot, is in docs/leak-guards.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.encoded import Encoded
from models.record import to_plain
from models.scorer import Scorer
from models.stay import Ints, Stays
from pipelines.cohort import Cohort
from pipelines.config import RunConfig
from pipelines.dataset import (
    Dataset,
    FittedFeatures,
    PartData,
    encode_stays,
    fit_features,
    part_indices,
    patients_digest,
)
from pipelines.leak_finding import Finding, LeakError
from pipelines.leak_guards_future import check_future
from pipelines.leak_guards_labels import check_labels
from pipelines.outcomes import Outcomes
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
# Two stays with so many observations alike are one.
TWIN_ROWS = 10
# Stays a part whose features are made again.
SAMPLE = 8
# Features of float32, computed in other shapes.
ROUNDING = 1e-6

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


def check_patients(cohort: Cohort, config: RunConfig, data: Dataset) -> Finding:
    """No patient is in two parts and no stay occurs twice, by the stays that are in the parts."""
    owner = dict(zip(cohort.stays.stay_id, cohort.patient_id, strict=True))
    expected = part_indices(cohort, config)
    # The validation part may serve calibration as well, where it decided nothing else.
    shared = {Part.VALIDATION: Part.CALIBRATION} if config.calibration.include_validation else {}
    use_of: dict[str, Part] = {}
    use_of_content: dict[bytes, Part] = {}
    for name, part in data.parts.items():
        ids, use = part.stays.stay_id, shared.get(name, name)
        patients = tuple(owner.get(i, "") for i in ids)
        _require("patients", len(set(ids)) == len(ids), "each stay once", f"a stay twice in the {name} part")
        _require("patients", patients == part.patient_id, "the cohort's patients", f"others in the {name} part")
        same = set(ids) == {cohort.stays.stay_id[i] for i in expected[name]} and len(part.encoded) == len(ids)
        for patient in patients:
            here = use_of.setdefault(patient, use) is use
            _require("patients", here, "a patient in one part", f"one who is in the {name} part and another")
        for content in _contents(part.stays):
            here = use_of_content.setdefault(content, use) is use
            _require("patients", here, "a stay in one part", f"one of the {name} part in another under another patient")
        _require("patients", same, "the parts of the split", f"other stays in the {name} part")
    counts = ", ".join(f"{name} {len(part.stays):,}" for name, part in data.parts.items())
    return Finding("patients", f"{len(use_of):,} patients, each in one part; stays: {counts}")


def _contents(stays: Stays) -> list[bytes]:
    """A digest of every stay with enough observations to be one of a kind."""
    names = json.dumps(stays.channels).encode()
    found = []
    for begin, end in zip(stays.offsets[:-1].tolist(), stays.offsets[1:].tolist(), strict=True):
        if end - begin >= TWIN_ROWS:
            digest = hashlib.sha256(names)
            for column in (stays.time_min, stays.channel, stays.value):
                digest.update(np.ascontiguousarray(column[begin:end]).data)
            found.append(digest.digest())
    return found


def check_statistics(cohort: Cohort, config: RunConfig, data: Dataset) -> Finding:
    """What was fitted to the features is what the training stays alone give, whatever their outcomes are."""
    index = part_indices(cohort, config)[Part.TRAIN]
    alone = _without_outcomes(cohort, index, seed=config.seed)
    again = fit_features(alone, np.arange(len(index)), config)
    _require(
        "statistics",
        again.encoding == data.encoding,
        "the encoding's statistics to be those of the training stays",
        "others",
    )
    _require(
        "statistics",
        _text(again) == (None if data.tokenizer is None else data.tokenizer.to_json()),
        "the vocabulary to be that of the training notes",
        "another",
    )
    vocabulary = f" and {data.tokenizer.vocabulary_size:,} tokens" if data.tokenizer is not None else ""
    channels = len(data.encoding.channels.names)
    return Finding("statistics", f"{channels} channels{vocabulary}, fitted again on {len(index):,} training stays")


def _text(fitted: FittedFeatures) -> str | None:
    return None if fitted.tokenizer is None else fitted.tokenizer.to_json()


def _without_outcomes(cohort: Cohort, index: Ints, *, seed: int) -> Cohort:
    """These stays as a cohort of their own, with outcomes drawn at random."""
    drawn = np.random.default_rng(seed).integers(0, 2, len(index)).astype(np.float64)
    untimed = np.full(len(index), np.nan)
    return replace(
        cohort,
        stays=cohort.stays.select(index),
        patient_id=tuple(cohort.patient_id[i] for i in index),
        outcome_rows=Outcomes.from_columns(dict.fromkeys(cohort.outcome_rows.names, (drawn, untimed))),
    )


def check_features(cohort: Cohort, config: RunConfig, data: Dataset) -> Finding:
    """Features of some stays of every part are those that their stays give, bit-equal under other outcomes."""
    random = np.random.default_rng((config.seed, 0xFEA7))
    fitted = FittedFeatures(data.encoding, data.tokenizer, "")
    stays = 0
    for name, part in data.parts.items():
        rows = np.sort(random.permutation(len(part.index))[:SAMPLE])
        index = part.index[rows]
        seen = encode_stays(cohort, index, fitted)
        blind = encode_stays(_without_outcomes(cohort, index, seed=config.seed), np.arange(len(index)), fitted)
        _require(
            "features",
            _same(seen, blind, rounding=0.0),
            "features that do not depend on outcomes",
            f"others in the {name} part",
        )
        _require(
            "features",
            all(_same(_only(part.encoded, row), _only(seen, i), rounding=ROUNDING) for i, row in enumerate(rows)),
            "the features that the part's stays give",
            f"others in the {name} part",
        )
        stays += len(rows)
    return Finding("features", f"{stays} stays encoded again, with their outcomes and with random ones")


def _only(encoded: Encoded, stay: int) -> Encoded:
    """One stay, without looking at the others."""
    begin, end = (int(x) for x in encoded.step_offsets[stay : stay + 2])
    first, last = encoded.note_step.searchsorted([begin, end]).tolist()
    tokens = encoded.note_offsets[first : last + 1]
    return Encoded(
        features=np.asarray(encoded.features[begin:end]),
        step_offsets=np.array([0, end - begin]),
        time_min=encoded.time_min[begin:end],
        note_step=encoded.note_step[first:last] - begin,
        note_offsets=tokens - tokens[0],
        tokens=encoded.tokens[tokens[0] : tokens[-1]],
    )


def _same(one: Encoded, other: Encoded, *, rounding: float) -> bool:
    exact = ("step_offsets", "time_min", "note_step", "note_offsets", "tokens")
    equal = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in exact)
    return equal and np.allclose(one.features, other.features, rtol=rounding, atol=rounding)


def check_record(cohort: Cohort, config: RunConfig, data: Dataset) -> Finding:
    """The patients that each fitted thing is recorded to have seen are those of its own part."""
    needed = (*ALWAYS, "tokenizer") if data.tokenizer is not None else ALWAYS
    parts = fitted_parts(cohort, config, data)
    for thing in needed:
        _require("record", thing in parts, f"the patients of the {thing}", "no record of them")
    for thing, part in parts.items():
        own = FITTED_ON.get(thing)
        _require("record", own is not None, "things that have a part of their own", f"{thing!r} among the record")
        _require(
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
    _require(name, same, f"the {name} that the calibration part gives", "another")
    return Finding(name, f"fitted again on {len(part.stays):,} stays of the calibration part")


def _plain(value: Any) -> str:
    return json.dumps(to_plain(value), sort_keys=True)


def _require(guard: str, holds: bool, expected: str, got: str) -> None:
    if not holds:
        remedy = "fit it on its own part alone and train again; see docs/leak-guards.md"
        raise LeakError(guard, expected=expected, got=got, remedy=remedy)
