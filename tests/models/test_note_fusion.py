"""Notes past the cell: chunks, steps and engines agree, no note speaks before its time, a stay needs none."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.batch import Chunk, NoteBatch
from models.cells import Cell
from models.encoding import EncodingConfig
from models.engine import make_engine
from models.errors import ConfigError
from models.grid import GridKind
from models.network import NetworkConfig, Reads, RecurrentNetwork
from models.notes import NoteFusion, NoteReading, NotesConfig
from models.pooling import Pooling
from tests.models.test_live import stepped_risks
from tests.support import NOTES, save_small_model

WIDTH, VOCABULARY, TIME = 4, 12, 9
KINDS = [
    (reading, fusion, reads) for reading in NoteReading for fusion in NoteFusion for reads in (Reads.ALL, Reads.NOTES)
]
charted = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(0, TIME - 1),
        st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=4, unique=True),
    ),
    max_size=6,
)
Note = tuple[int, int, list[int]]


def network_of(reading: NoteReading, fusion: NoteFusion, reads: Reads, **changes: object) -> RecurrentNetwork:
    torch.manual_seed(0)
    config = NetworkConfig(hidden_size=5, pooling=Pooling.MEAN, reads=reads, **changes)
    notes = NotesConfig(enabled=True, embedding_size=3, hidden_size=4, reading=reading, fusion=fusion)
    network = RecurrentNetwork(config, width=WIDTH, outputs=2, notes=notes, vocabulary_size=VOCABULARY)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return network.double().eval()


def batch_of(notes: list[Note], begin: int, end: int) -> NoteBatch | None:
    inside = [(row, step - begin, ids) for row, step, ids in notes if begin <= step < end]
    if not inside:
        return None
    lengths = torch.tensor([len(ids) for _, _, ids in inside])
    tokens = torch.zeros(len(inside), int(lengths.max()), dtype=torch.int64)
    for number, (_, _, ids) in enumerate(inside):
        tokens[number, : len(ids)] = torch.tensor(ids)
    row, step = (torch.tensor([note[k] for note in inside]) for k in (0, 1))
    return NoteBatch(tokens, lengths, row, step)


def read(network: RecurrentNetwork, notes: list[Note], cuts: list[int] | None = None) -> Tensor:
    torch.manual_seed(7)
    features = torch.randn(3, TIME, WIDTH, dtype=torch.float64)
    state, logits = network.initial_state(3), []
    for begin, end in pairwise([0, *(cuts or []), TIME]):
        valid = torch.ones(3, end - begin, dtype=torch.bool)
        chunk = Chunk(features[:, begin:end], valid, torch.full((3,), begin == 0), batch_of(notes, begin, end))
        out, state = network(chunk, state)
        logits.append(out)
    return torch.cat(logits, dim=1).detach()


@pytest.mark.parametrize(("reading", "fusion", "reads"), KINDS)
@settings(max_examples=6)
@given(notes=charted, cuts=st.lists(st.integers(1, TIME - 1), unique=True).map(sorted))
def test_any_chunking_gives_the_logits_of_the_whole(reading, fusion, reads, notes, cuts):
    network = network_of(reading, fusion, reads)
    torch.testing.assert_close(read(network, notes, cuts), read(network, notes), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("reading", "fusion", "reads"), KINDS)
@settings(max_examples=6)
@given(notes=charted, others=charted, now=st.integers(0, TIME - 1))
def test_what_is_written_later_changes_nothing_before(reading, fusion, reads, notes, others, now):
    network = network_of(reading, fusion, reads)
    changed = [n for n in notes if n[1] <= now] + [n for n in others if n[1] > now]
    before, after = (read(network, told)[:, : now + 1] for told in (notes, changed))
    torch.testing.assert_close(before, after, rtol=0, atol=1e-12)


@pytest.mark.parametrize("fusion", [NoteFusion.LATE, NoteFusion.GATED])
def test_a_stay_without_notes_has_the_logits_of_measurements_alone(fusion):
    network = network_of(NoteReading.TERMS, fusion, Reads.ALL)
    silent = network_of(NoteReading.TERMS, fusion, Reads.ALL)
    torch.nn.init.zeros_(silent.note_memory.head.weight)
    told = read(network, [(1, 2, [3, 4])])
    assert torch.equal(told[0], read(silent, [])[0])
    assert not torch.equal(told[1], read(silent, [])[1])
    assert torch.equal(told[1, :2], read(silent, [])[1, :2])


def test_a_term_that_is_written_again_adds_nothing():
    network = network_of(NoteReading.TERMS, NoteFusion.LATE, Reads.ALL)
    once, again = [(0, 1, [3, 4])], [(0, 1, [3, 4]), (0, 5, [4]), (0, 6, [3])]
    torch.testing.assert_close(read(network, once), read(network, again), rtol=0, atol=1e-12)


def test_late_fusion_adds_the_weights_of_the_terms_so_far():
    network = network_of(NoteReading.TERMS, NoteFusion.LATE, Reads.ALL)
    weight = network.note_memory.head.weight.detach()
    added = read(network, [(0, 1, [3]), (0, 4, [5])])[0] - read(network, [])[0]
    torch.testing.assert_close(added[2], weight[:, 3] + weight[:, -1], rtol=0, atol=1e-10)
    torch.testing.assert_close(added[8], weight[:, 3] + weight[:, 5] + weight[:, -1], rtol=0, atol=1e-10)


def test_a_network_of_notes_alone_reads_no_measurement():
    network = network_of(NoteReading.TERMS, NoteFusion.LATE, Reads.NOTES)
    torch.manual_seed(1)
    valid, begins = torch.ones(1, 3, dtype=torch.bool), torch.ones(1, dtype=torch.bool)
    notes = batch_of([(0, 1, [2])], 0, 3)
    one, other = (
        network(Chunk(torch.randn(1, 3, WIDTH, dtype=torch.float64), valid, begins, notes), network.initial_state(1))[0]
        for _ in range(2)
    )
    assert torch.equal(one, other)


def test_a_network_of_measurements_has_no_part_that_reads_notes():
    network = network_of(NoteReading.TERMS, NoteFusion.LATE, Reads.SIGNALS)
    assert network.notes is None
    assert network.note_memory is None
    assert torch.equal(read(network, [(0, 1, [2])]), read(network, []))


@pytest.mark.parametrize("changes", [{"skip_pieces": 2}, {"cell": Cell.GRU_D}])
def test_notes_alone_go_with_nothing_that_reads_measurements(changes):
    with pytest.raises(ConfigError, match="reads must not be notes"):
        NetworkConfig(reads=Reads.NOTES, **changes)


def test_a_network_of_notes_alone_needs_notes():
    with pytest.raises(ConfigError, match=r"notes\.enabled must be true"):
        RecurrentNetwork(NetworkConfig(reads=Reads.NOTES), width=3, outputs=1)


@pytest.mark.parametrize("grid", list(GridKind))
@pytest.mark.parametrize(
    ("reading", "fusion"),
    [
        (NoteReading.TERMS, NoteFusion.LATE),
        (NoteReading.TOKENS, NoteFusion.GATED),
        (NoteReading.TERMS, NoteFusion.EARLY),
    ],
)
def test_a_note_posted_to_a_live_stay_is_one_more_step(reading, fusion, grid, tmp_path):
    chosen = replace(NOTES, reading=reading, fusion=fusion, exclude=("discharge",))
    further = [NetworkConfig(hidden_size=3, reads=Reads.NOTES), NetworkConfig(hidden_size=3, reads=Reads.SIGNALS)]
    model = save_small_model(tmp_path / "model", read=chosen, further=further, encoding=EncodingConfig(grid=grid))
    scorer = model.scorer()
    assert scorer.bundle.notes == chosen
    for index in range(3):
        stay = model.cohort.stays.select([index])
        whole = scorer.score(stay).risk
        assert np.abs(stepped_risks(scorer, stay) - whole).max() <= 1e-6
        assert len(np.unique(whole)) > 1


@pytest.mark.parametrize("kind", ["numpy", "device"])
def test_every_engine_replays_what_was_written(kind, tmp_path):
    chosen = replace(NOTES, reading=NoteReading.TERMS, fusion=NoteFusion.LATE)
    model = save_small_model(tmp_path / "model", read=chosen, further=[NetworkConfig(hidden_size=3, reads=Reads.NOTES)])
    scorer, stays = model.scorer(), model.cohort.stays.select(range(5))
    encoding = scorer.bundle.encoding
    encoded = encoding.encode(stays, tokenizer=scorer.tokenizer)
    reference, engine = (make_engine(scorer, name).replay(encoded).values for name in ("reference", kind))
    assert np.abs(reference - engine).max() <= 1e-5
    assert reference.any()
