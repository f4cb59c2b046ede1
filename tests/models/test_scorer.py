"""A score depends on the stay's own past alone, whatever is scored with it and in whatever order it arrived."""

from dataclasses import replace

import numpy as np
import pytest

from models.cells import Cell
from models.forward import score_logits
from models.intake import Columns, NoteColumns, build_stays
from models.network import NetworkConfig
from models.scorer import Scorer, resolve_device
from models.stay import Stays
from models.trees import TreeMember
from tests.support import save_small_model


@pytest.fixture(scope="module", params=["one network", "networks and trees"])
def scorer_and_stays(request, tmp_path_factory) -> tuple[Scorer, Stays]:
    folder = tmp_path_factory.mktemp("models") / "small"
    several = {"further": [NetworkConfig(cell=Cell.LSTM, hidden_size=5)], "trees": True}
    model = save_small_model(folder, **(several if request.param == "networks and trees" else {}))
    return model.scorer(), model.cohort.stays


def test_the_same_inputs_score_bit_equal(scorer_and_stays):
    scorer, stays = scorer_and_stays
    assert np.array_equal(scorer.score(stays).risk, scorer.score(stays).risk)


def test_batch_mates_do_not_matter(scorer_and_stays):
    scorer, stays = scorer_and_stays
    together = scorer.score(stays)
    for index in (0, 7, 30):
        alone = scorer.score(stays.select([index]))
        rows = slice(*together.step_offsets[index : index + 2].tolist())
        assert np.abs(alone.risk - together.risk[rows]).max() <= 1e-6


def test_the_spread_is_the_standard_deviation_of_the_members_own_risks(scorer_and_stays):
    scorer, stays = scorer_and_stays
    scored = scorer.score(stays)
    encoded = scorer.bundle.encoding.encode(stays, tokenizer=scorer.tokenizer)
    hours, weights = encoded.time_min / 60.0, [member.weight for member in scorer.bundle.members]
    alone = [
        member.predict(encoded.features) if isinstance(member, TreeMember) else score_logits(member, encoded)
        for member in scorer.network
    ]
    risks = np.stack([scorer.bundle.calibration.apply(logit, hours) for logit in alone])
    mean = np.average(risks, axis=0, weights=weights)
    expected = np.sqrt(np.average((risks - mean) ** 2, axis=0, weights=weights))
    np.testing.assert_allclose(scored.spread, expected, rtol=0, atol=1e-7)
    combined = scorer.bundle.calibration.apply(np.average(alone, axis=0, weights=weights), hours)
    np.testing.assert_allclose(scored.risk, combined, rtol=0, atol=1e-7)
    assert np.any(scored.spread > 0.01) == (len(weights) > 1)


def test_any_order_of_arrival_and_repetition_gives_the_same_scores(scorer_and_stays):
    scorer, stays = scorer_and_stays
    rng = np.random.default_rng(0)
    shuffled = rebuilt(stays, rng.permutation(np.repeat(np.arange(len(stays.time_min)), 2)), rng)
    assert np.array_equal(scorer.score(shuffled).risk, scorer.score(stays).risk)


def test_a_changed_future_leaves_earlier_scores_bit_equal(scorer_and_stays):
    scorer, stays = scorer_and_stays
    before = scorer.score(stays)
    cut = 8 * 60
    later = stays.time_min > cut
    changed = replace(
        stays,
        value=np.where(later, stays.value + 1e-3, stays.value),
        note_text=tuple(
            "worse" if t > cut else x for t, x in zip(stays.note_time_min.tolist(), stays.note_text, strict=True)
        ),
    )
    after = scorer.score(changed)
    early = before.time_min <= cut
    assert np.array_equal(after.risk[early], before.risk[early])
    assert not np.array_equal(after.risk, before.risk)


def test_a_removed_future_leaves_earlier_scores_within_tolerance(scorer_and_stays):
    scorer, stays = scorer_and_stays
    stay = stays.select([2])
    cut = int(stay.end_min[0]) // 2
    kept = np.flatnonzero(stay.time_min <= cut)
    shorter = rebuilt(replace(stay, end_min=np.array([cut])), kept, np.random.default_rng(0))
    whole, part = scorer.score(stay), scorer.score(shorter)
    common = np.isin(whole.time_min, part.time_min) & (whole.time_min <= cut)
    matching = np.isin(part.time_min, whole.time_min[common])
    assert np.abs(whole.risk[common] - part.risk[matching]).max() <= 1e-6


def test_every_stay_is_scored_also_without_any_observation(scorer_and_stays):
    scorer, stays = scorer_and_stays
    empty = rebuilt(stays.select([0, 1]), np.zeros(0, dtype=np.int64), np.random.default_rng(0))
    empty = replace(empty, static=np.full_like(empty.static, np.nan))
    scored = scorer.score(empty)
    assert (np.diff(scored.step_offsets) >= 1).all()
    assert np.isfinite(scored.risk).all()
    assert scored.final.tolist() == (scored.step_offsets[1:] - 1).tolist()


def test_automatic_device_is_one_that_is_present():
    assert resolve_device("auto") in {"cpu", "cuda"}
    assert resolve_device("cpu") == "cpu"


def rebuilt(stays: Stays, rows: np.ndarray, rng: np.random.Generator) -> Stays:
    """The stays built anew from these rows in this order, and from their notes in any order."""
    notes = rng.permutation(len(stays.note_text))
    keep = notes[stays.note_time_min[notes] <= stays.end_min[stays.stay_of_note()[notes]]]
    columns = Columns(stays.stay_of_row()[rows], stays.time_min[rows], stays.channel[rows], stays.value[rows])
    built, _ = build_stays(
        stay_id=stays.stay_id,
        end_min=stays.end_min,
        columns=columns,
        channels=stays.channels,
        static=stays.static,
        static_names=stays.static_names,
        notes=NoteColumns(
            stays.stay_of_note()[keep],
            stays.note_time_min[keep],
            [stays.note_kind[i] for i in keep],
            [stays.note_text[i] for i in keep],
        ),
    )
    return built
