from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.encoded import Encoded
from models.errors import ConfigError, DataError
from pipelines.labels import StepTargets
from pipelines.tapes import Tapes
from pipelines.training_config import Reduction
from tests.tape_data import encoded_of, stay_targets, step_targets, with_notes


def numbered(lengths: list[int]) -> tuple[Encoded, StepTargets]:
    """Stays whose one feature is the number of the time step, from 1: zero is padding."""
    encoded = encoded_of(lengths, width=1)
    encoded.features[:, 0] = np.arange(len(encoded.features)) + 1
    return encoded, stay_targets(encoded)


def tapes_of(lengths: list[int], **changes: Any) -> Tapes:
    settings_: dict[str, Any] = {"rows": 4, "truncation_length": 5, "seed": 1}
    return Tapes(*numbered(lengths), **(settings_ | changes))


def steps_of(tapes: Tapes) -> list[list[int]]:
    """Time steps in the order in which each row reads them; a reset is a 0."""
    rows: dict[int, list[int]] = {}
    for batch in tapes:
        for row in range(len(batch.chunk.reset)):
            valid = batch.chunk.valid[row]
            if valid.any():
                read = rows.setdefault(row, [])
                read.extend([0] if batch.chunk.reset[row] else [])
                read.extend((batch.chunk.features[row, valid, 0].long()).tolist())
    return list(rows.values())


LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, rows=st.integers(1, 6), truncation_length=st.integers(1, 45), epoch=st.integers(0, 3))
def test_every_step_of_every_stay_is_read_once_in_order_from_a_reset(
    lengths: list[int], rows: int, truncation_length: int, epoch: int
) -> None:
    tapes = tapes_of(lengths, rows=rows, truncation_length=truncation_length)
    tapes.load_state_dict({"epoch": epoch, "position": 0})
    read = [step for row in steps_of(tapes) for step in row]
    stays = [list(range(begin + 1, end + 1)) for begin, end in pairwise(np.cumsum([0, *lengths]))]
    begins = [i for i, step in enumerate(read) if step == 0] + [len(read)]
    found = sorted(read[begin + 1 : end] for begin, end in pairwise(begins))
    assert found == stays


@settings(max_examples=40, deadline=None)
@given(lengths=LENGTHS, rows=st.integers(1, 6), truncation_length=st.integers(1, 45))
def test_every_epoch_has_as_many_batches_as_the_first(lengths: list[int], rows: int, truncation_length: int) -> None:
    tapes = tapes_of(lengths, rows=rows, truncation_length=truncation_length)
    assert [sum(1 for _ in tapes) for _ in range(4)] == [len(tapes)] * 4


def test_only_the_last_chunk_of_a_stay_may_be_padded() -> None:
    assert [int(b.chunk.valid[0].sum()) for b in tapes_of([23], rows=1)] == [5, 5, 5, 5, 3]
    batches = list(tapes_of(np.random.default_rng(0).integers(1, 40, 30).tolist()))
    for batch, following in pairwise(batches):
        padded = ~batch.chunk.valid.all(1)
        assert following.chunk.reset[padded].all()


def test_targets_and_weights_stand_at_their_steps() -> None:
    encoded = encoded_of([7, 3, 12], width=2)
    targets = step_targets(encoded, outputs=2)
    for batch in Tapes(encoded, targets, rows=2, truncation_length=5, seed=0):
        expected = (batch.chunk.features > 0) & batch.chunk.valid[..., None]
        assert (batch.target == expected).all()
        assert (batch.weight == batch.chunk.valid[..., None]).all()


def test_the_order_is_a_function_of_seed_and_epoch_alone() -> None:
    first, second = tapes_of([3] * 20), tapes_of([3] * 20)
    epochs = [steps_of(first) for _ in range(3)]
    assert [steps_of(second) for _ in range(3)] == epochs
    assert epochs[0] != epochs[1] != epochs[2]
    assert steps_of(tapes_of([3] * 20, seed=2)) != epochs[0]


def test_without_shuffling_every_epoch_is_the_same() -> None:
    tapes = tapes_of([3, 9, 4, 8, 1], shuffle=False)
    assert steps_of(tapes) == steps_of(tapes)


@pytest.mark.parametrize("position", range(7))
def test_tapes_go_on_where_their_state_was_taken(position: int) -> None:
    lengths = [3, 9, 14, 4, 8, 1, 20, 7, 7]
    whole, cut = tapes_of(lengths), tapes_of(lengths)
    expected = [b.chunk.features.sum().item() for _ in range(2) for b in whole]
    seen = []
    for batch in cut:
        if len(seen) == position:
            break
        seen.append(batch.chunk.features.sum().item())
        state = cut.state_dict()
    resumed = tapes_of(lengths)
    resumed.load_state_dict(state if position else {"epoch": 0, "position": 0})
    rest = [b.chunk.features.sum().item() for _ in range(2) for b in resumed][: len(expected) - len(seen)]
    assert seen + rest == expected


def test_the_last_batch_leaves_the_cursor_at_the_next_epoch() -> None:
    tapes = tapes_of([3, 9, 14])
    *_, _last = tapes
    assert tapes.state_dict() == {"epoch": 1, "position": 0}


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_the_rows_of_one_schedule(world: int) -> None:
    lengths = [3, 9, 14, 4, 8, 1, 20, 7, 7, 30]
    whole = tapes_of(lengths)
    ranks = [tapes_of(lengths, rank=rank, world=world) for rank in range(world)]
    assert {len(r) for r in ranks} == {len(whole)}
    assert [row for r in ranks for row in steps_of(r)] == steps_of(whole)
    parts = [[(b.normaliser, b.amount) for b in r] for r in ranks]
    assert all(p == parts[0] for p in parts)


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("reduction", list(Reduction))
def test_the_normaliser_counts_all_batches_of_one_optimiser_step(accumulate: int, reduction: Reduction) -> None:
    tapes = tapes_of([3, 9, 14, 4, 8, 1, 20, 7, 7, 30], accumulate=accumulate, reduction=reduction)
    batches = list(tapes)
    amounts = [float(b.weight.sum()) for b in batches]
    if reduction is Reduction.SUM:
        amounts = [float((b.weight > 0).flatten(1).any(1).sum()) for b in batches]
    assert [b.amount for b in batches] == amounts
    for begin in range(0, len(batches), accumulate):
        window = slice(begin, begin + accumulate)
        assert {b.normaliser for b in batches[window]} == {sum(amounts[window])}


def test_an_epoch_is_longer_than_full_rows_by_less_than_one_stay() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 300).tolist()
    tapes = tapes_of(lengths, rows=8)
    filled = [int(b.chunk.valid.any(1).sum()) for b in tapes]
    chunks_of_longest_stay = 12
    assert 0 <= len(tapes) - sum(filled) / 8 < chunks_of_longest_stay


def test_stays_of_one_length_leave_no_batch_empty() -> None:
    assert len(tapes_of([40] * 12)) == 3 * 8


def test_similar_lengths_lie_side_by_side() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 400).tolist()
    batches = list(tapes_of(lengths, rows=8, truncation_length=60))
    assert sum(int(b.chunk.valid.sum()) for b in batches) / sum(b.chunk.valid.numel() for b in batches) > 0.7


def test_notes_travel_with_their_steps() -> None:
    encoded = with_notes(encoded_of([7, 3, 12]), every=2)
    tapes = Tapes(encoded, stay_targets(encoded), rows=2, truncation_length=5, seed=0)
    assert sum(len(b.chunk.notes.lengths) for b in tapes if b.chunk.notes) == len(encoded.note_step)


def test_rows_that_do_not_divide_over_the_processes_are_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of 3"):
        tapes_of([3], rows=4, world=3)


def test_targets_of_other_stays_are_refused() -> None:
    with pytest.raises(DataError, match="targets must be those"):
        Tapes(encoded_of([5]), stay_targets(encoded_of([6])), rows=1, truncation_length=5, seed=0)
