"""A cohort and its encoded parts in, the proof that parts, statistics and features are each their own stays' out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np

from models.encoded import Encoded
from models.stay import Ints, Stays
from pipelines.cohort import Cohort
from pipelines.config import RunConfig
from pipelines.dataset import FittedFeatures, encode_stays, fit_features, inherited_features, part_indices
from pipelines.leak_finding import Finding, require
from pipelines.outcomes import Outcomes
from pipelines.part_data import Dataset
from pipelines.split import Part
from pipelines.warm_start import Parent

# Two stays with so many observations alike are one.
TWIN_ROWS = 10
# Stays a part whose features are made again.
SAMPLE = 8
# Features of float32, computed in other shapes.
ROUNDING = 1e-6


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
        require("patients", len(set(ids)) == len(ids), "each stay once", f"a stay twice in the {name} part")
        require("patients", patients == part.patient_id, "the cohort's patients", f"others in the {name} part")
        same = set(ids) == {cohort.stays.stay_id[i] for i in expected[name]} and len(part.encoded) == len(ids)
        for patient in patients:
            here = use_of.setdefault(patient, use) is use
            require("patients", here, "a patient in one part", f"one who is in the {name} part and another")
        for content in _contents(part.stays):
            here = use_of_content.setdefault(content, use) is use
            require("patients", here, "a stay in one part", f"one of the {name} part in another under another patient")
        require("patients", same, "the parts of the split", f"other stays in the {name} part")
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
    """What was fitted to the features is what the training stays alone give, whatever their outcomes are.

    A parent's encoding and vocabulary must be the parent's, to whom these patients are unknown.
    """
    if data.parent is not None:
        return _check_inherited(cohort, data, data.parent)
    index = part_indices(cohort, config)[Part.TRAIN]
    alone = _without_outcomes(cohort, index, seed=config.seed)
    again = fit_features(alone, np.arange(len(index)), config)
    require(
        "statistics",
        again.encoding == data.encoding,
        "the encoding's statistics to be those of the training stays",
        "others",
    )
    require(
        "statistics",
        _text(again) == (None if data.tokenizer is None else data.tokenizer.to_json()),
        "the vocabulary to be that of the training notes",
        "another",
    )
    vocabulary = f" and {data.tokenizer.vocabulary_size:,} tokens" if data.tokenizer is not None else ""
    channels = len(data.encoding.channels.names)
    return Finding("statistics", f"{channels} channels{vocabulary}, fitted again on {len(index):,} training stays")


def _check_inherited(cohort: Cohort, data: Dataset, parent: Parent) -> Finding:
    features = inherited_features(parent)
    same = features.encoding == data.encoding and features.tokenizer is data.tokenizer
    require("statistics", same, "the parent's encoding and vocabulary", "others")
    elsewhere = parent.bundle.cohort.get("fingerprint") != cohort.fingerprint
    require("statistics", elsewhere, "a parent of other patients", "one of these")
    return Finding("statistics", f"those of the parent {parent.scorer.digest}, fitted on another cohort")


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
        require(
            "features",
            _same(seen, blind, rounding=0.0),
            "features that do not depend on outcomes",
            f"others in the {name} part",
        )
        require(
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
