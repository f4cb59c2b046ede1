from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.cells import Cell
from models.cut import Cut, gather
from models.encoded import Encoded
from models.ensemble import Ensemble
from models.forward import cut_chunk, hidden_states, score_logits, score_members
from models.network import NetworkConfig, RecurrentNetwork
from models.notes import NotesConfig
from models.pooling import Pooling
from tests.tape_data import LAYOUT, encoded_of, with_notes

LENGTHS = [1, 9, 4, 30, 17, 9, 2]
NOTES = NotesConfig(enabled=True, embedding_size=4, hidden_size=3)


def network_of(*, notes: bool = False, **changes: Any) -> RecurrentNetwork:
    torch.manual_seed(0)
    config = NetworkConfig(hidden_size=6, layers=2, **changes)
    return RecurrentNetwork(
        config,
        width=5,
        outputs=2,
        notes=NOTES if notes else None,
        vocabulary_size=20 if notes else 0,
        layout=LAYOUT,
    ).double()


@pytest.mark.parametrize("notes", [False, True])
@pytest.mark.parametrize("cell", list(Cell))
@settings(max_examples=10, deadline=None)
@given(rows=st.integers(1, 8), truncation_length=st.integers(1, 40))
def test_scores_do_not_depend_on_rows_or_chunks(cell: Cell, notes: bool, rows: int, truncation_length: int) -> None:
    encoded = encoded_of(LENGTHS, dtype=np.float64)
    encoded = with_notes(encoded) if notes else encoded
    network = network_of(cell=cell, pooling=Pooling.ATTENTION, notes=notes)
    whole = score_logits(network, encoded, truncation_length=100)
    parts = score_logits(network, encoded, rows=rows, truncation_length=truncation_length)
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-10)


def test_every_stay_is_scored_as_it_is_alone() -> None:
    encoded, network = with_notes(encoded_of(LENGTHS, dtype=np.float64)), network_of(notes=True)
    together = score_logits(network, encoded)
    for stay in range(len(encoded)):
        alone = score_logits(network, encoded.select([stay]))
        steps = slice(encoded.step_offsets[stay], encoded.step_offsets[stay + 1])
        np.testing.assert_allclose(together[steps], alone, rtol=0, atol=1e-10)


def test_notes_change_the_scores() -> None:
    encoded, network = encoded_of(LENGTHS), network_of(notes=True)
    assert not np.allclose(score_logits(network, encoded), score_logits(network, with_notes(encoded)))


def test_a_network_with_notes_scores_stays_without_any() -> None:
    assert np.isfinite(score_logits(network_of(notes=True), encoded_of(LENGTHS))).all()


def test_a_bidirectional_network_scores_whole_stays() -> None:
    encoded, network = encoded_of(LENGTHS, dtype=np.float64), network_of(bidirectional=True)
    one, other = (score_logits(network, encoded, rows=rows, truncation_length=3) for rows in (1, 8))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-10)


def test_scoring_leaves_the_mode_and_uses_no_dropout() -> None:
    encoded, network = encoded_of(LENGTHS), network_of(dropout=0.5, output_dropout=0.5)
    network.train()
    assert np.array_equal(score_logits(network, encoded), score_logits(network, encoded))
    assert network.training


def test_no_stay_at_all_gives_no_scores() -> None:
    assert score_logits(network_of(), encoded_of([])).shape == (0, 2)


def test_a_chunk_holds_the_rows_steps_and_zeros_behind_them() -> None:
    encoded = encoded_of(LENGTHS)
    chunk = cut_chunk(encoded, Cut(np.array([1, 10, 0]), np.array([3, 1, 0]), np.array([True, False, True])))
    assert chunk.valid.tolist() == [[True, True, True], [True, False, False], [False, False, False]]
    assert chunk.reset.tolist() == [True, False, True]
    np.testing.assert_array_equal(chunk.features[0], encoded.features[1:4])
    np.testing.assert_array_equal(chunk.features[1, 0], encoded.features[10])
    assert not chunk.features[~chunk.valid].any()


def test_a_chunk_holds_exactly_the_notes_of_its_steps() -> None:
    encoded = with_notes(encoded_of([12, 12]), every=3)
    chunk = cut_chunk(encoded, Cut(np.array([4, 12]), np.array([6, 2]), np.array([False, True])))
    assert chunk.notes is not None
    assert list(zip(chunk.notes.row.tolist(), chunk.notes.step.tolist(), strict=True)) == [(0, 2), (0, 5), (1, 0)]
    for index, note in enumerate([3, 4, 5]):
        expected = encoded.tokens[encoded.note_offsets[note] : encoded.note_offsets[note + 1]]
        length = int(chunk.notes.lengths[index])
        assert chunk.notes.tokens[index, :length].tolist() == expected.tolist()
        assert not chunk.notes.tokens[index, length:].any()


def test_steps_without_notes_make_a_chunk_without_notes() -> None:
    encoded = with_notes(encoded_of([12]), every=12)
    assert cut_chunk(encoded, Cut(np.array([1]), np.array([5]), np.array([False]))).notes is None


def test_memory_mapped_features_give_the_same_scores(tmp_path: Path) -> None:
    encoded, network = encoded_of(LENGTHS), network_of()
    np.save(tmp_path / "features.npy", encoded.features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    other = Encoded(mapped, encoded.step_offsets, encoded.time_min)
    np.testing.assert_array_equal(score_logits(network, other), score_logits(network, encoded))


def test_a_mapped_file_is_read_as_the_array_in_memory(tmp_path: Path) -> None:
    array = encoded_of(LENGTHS).features
    cut = Cut(np.array([5, 0, 30, 0]), np.array([4, 7, 1, 0]), np.ones(4, dtype=bool))
    for kind in (np.float32, np.float64):
        np.save(tmp_path / "array.npy", array.astype(kind))
        mapped = np.load(tmp_path / "array.npy", mmap_mode="r")
        assert gather(mapped, cut).dtype == kind
        np.testing.assert_array_equal(gather(mapped, cut), gather(array.astype(kind), cut))
        np.testing.assert_array_equal(gather(mapped[1:], cut), gather(array[1:].astype(kind), cut))


def test_hidden_states_of_one_stay_end_in_the_carried_state() -> None:
    encoded, network = encoded_of(LENGTHS, dtype=np.float64), network_of().eval()
    states = hidden_states(network, encoded, 3)
    assert states.shape == (2, 30, 6)
    cut = Cut(encoded.step_offsets[[3]], encoded.lengths[[3]], np.ones(1, dtype=bool))
    _, after = network(cut_chunk(encoded, cut), network.initial_state(1))
    np.testing.assert_allclose(states[:, -1], after.tensors[0][:, 0].detach().numpy(), rtol=0, atol=1e-6)


def test_every_part_of_a_network_is_left_in_the_mode_in_which_it_came() -> None:
    network = network_of(output_dropout=0.5).eval()
    ensemble = Ensemble([network])  # in training mode, as every module that was just made
    score_members(ensemble, encoded_of(LENGTHS))
    assert ensemble.training
    assert not any(part.training for part in network.modules())
    network.train()
    score_logits(network, encoded_of(LENGTHS))
    assert all(part.training for part in network.modules())
