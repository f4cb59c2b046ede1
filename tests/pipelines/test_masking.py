"""Observations are taken out before encoding: nothing that is left knows them, and no time step moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.encoding import Encoding, EncodingConfig
from models.grid import GridKind
from models.notes import NoteTokenizer
from models.stay import Stays
from pipelines.auxiliary import ValueReader
from pipelines.masking import mask_stays
from tests.support import NOTES, small_cohort

COHORT = small_cohort(stays=25)
STAYS = COHORT.stays
ENCODINGS = {
    kind: Encoding.fit(STAYS, EncodingConfig(grid=kind, width_h=2.0), statics=COHORT.statics) for kind in GridKind
}


def taken_out(whole: Stays, masked: Stays) -> np.ndarray:
    """Which observations are gone; what is left is in the same order."""
    keys = [list(zip(s.stay_of_row(), s.time_min, s.channel, s.value, strict=True)) for s in (whole, masked)]
    left = set(keys[1])
    assert len(left) == len(keys[1])
    gone = np.array([key not in left for key in keys[0]])
    assert [k for k, g in zip(keys[0], gone, strict=True) if not g] == keys[1]
    return gone


@settings(deadline=None, max_examples=12)
@given(kind=st.sampled_from(list(GridKind)), share=st.sampled_from([0.0, 0.15, 0.6, 0.99]), seed=st.integers(0, 99))
def test_time_steps_stay_where_they_are(kind: GridKind, share: float, seed: int) -> None:
    encoding = ENCODINGS[kind]
    masked = mask_stays(STAYS, encoding, share=share, seed=seed, notes=False)
    before, after = encoding.encode(STAYS), encoding.encode(masked)
    np.testing.assert_array_equal(after.time_min, before.time_min)
    np.testing.assert_array_equal(after.step_offsets, before.step_offsets)
    assert taken_out(STAYS, masked).any() == (share > 0)


@pytest.mark.parametrize("kind", list(GridKind))
def test_notes_keep_their_steps_too(kind: GridKind) -> None:
    patients = [COHORT.patient_id[i] for i in STAYS.stay_of_note()]
    tokenizer = NoteTokenizer.train(list(STAYS.note_text), patients, NOTES)
    masked = mask_stays(STAYS, ENCODINGS[kind], share=0.9, seed=1, notes=True)
    before, after = (ENCODINGS[kind].encode(s, tokenizer=tokenizer) for s in (STAYS, masked))
    np.testing.assert_array_equal(after.time_min, before.time_min)
    np.testing.assert_array_equal(after.note_step, before.note_step)


@pytest.mark.parametrize("kind", list(GridKind))
def test_no_feature_knows_what_was_taken_out(kind: GridKind) -> None:
    """Other values in the places that are taken out leave every feature as it is, bit by bit."""
    encoding = ENCODINGS[kind]
    masked = mask_stays(STAYS, encoding, share=0.3, seed=4, notes=False)
    gone = taken_out(STAYS, masked)
    value = STAYS.value.copy()
    value[gone] = value[gone] * 3.0 + 17.0
    order = np.lexsort((value, STAYS.channel, STAYS.time_min, STAYS.stay_of_row()))
    other = replace(STAYS, value=value[order])
    features = [
        encoding.encode(mask_stays(s, encoding, share=0.3, seed=4, notes=False)).features for s in (STAYS, other)
    ]
    np.testing.assert_array_equal(features[0], features[1])
    assert not np.array_equal(encoding.encode(STAYS).features, encoding.encode(other).features)


@pytest.mark.parametrize("kind", list(GridKind))
def test_whole_cells_are_taken_out(kind: GridKind) -> None:
    """A channel is not observed at all in a step that lost one of its values: no near copy of it is left."""
    encoding = ENCODINGS[kind]
    reader = ValueReader.of(encoding)
    whole, masked = encoding.encode(STAYS), encoding.encode(mask_stays(STAYS, encoding, share=0.4, seed=2, notes=False))
    steps = len(whole.time_min)
    (value, observed), (kept, still) = (reader.read(e, 0, steps) for e in (whole, masked))
    assert not (still & ~observed).any()
    np.testing.assert_array_equal(kept[still], value[still])


def test_about_the_asked_share_is_taken_out_and_the_seed_decides() -> None:
    encoding = ENCODINGS[GridKind.FIXED]
    reader = ValueReader.of(encoding)
    whole = encoding.encode(STAYS)
    observed = reader.read(whole, 0, len(whole.time_min))[1]
    drawn = [mask_stays(STAYS, encoding, share=0.25, seed=seed, notes=False) for seed in (1, 1, 2)]
    left = [reader.read(encoding.encode(s), 0, len(whole.time_min))[1] for s in drawn]
    np.testing.assert_array_equal(left[0], left[1])
    assert not np.array_equal(left[0], left[2])
    cells = int(observed.sum())
    assert cells > 1000
    assert 0.2 < 1 - left[0].sum() / cells < 0.3


def test_observations_that_the_encoding_does_not_use_are_left() -> None:
    config = EncodingConfig(grid=GridKind.EVENT, channels=STAYS.channels[:2])
    encoding = Encoding.fit(STAYS, config, statics=COHORT.statics)
    gone = taken_out(STAYS, mask_stays(STAYS, encoding, share=0.5, seed=0, notes=False))
    assert set(STAYS.channel[gone].tolist()) <= {0, 1}
    assert gone.any()
