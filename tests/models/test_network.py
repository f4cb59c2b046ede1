from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.batch import Chunk, NoteBatch
from models.cells import Cell, Initialisation
from models.errors import ConfigError, DataError
from models.network import NetworkConfig, RecurrentNetwork
from models.notes import NotesConfig
from models.pooling import Pooling
from tests.tape_data import LAYOUT

NOTES = NotesConfig(enabled=True, embedding_size=4, hidden_size=3)


def network_of(cell: Cell = Cell.GRU, *, notes: bool = False, **changes: Any) -> RecurrentNetwork:
    torch.manual_seed(0)
    config = NetworkConfig(cell=cell, hidden_size=changes.pop("hidden_size", 5), **changes)
    network = RecurrentNetwork(
        config,
        width=4,
        outputs=2,
        notes=NOTES if notes else None,
        vocabulary_size=20 if notes else 0,
        layout=LAYOUT,
    )
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return network.double().eval()


def features_of(batch: int = 3, time: int = 12) -> Tensor:
    torch.manual_seed(7)
    return torch.randn(batch, time, 4, dtype=torch.float64)


def chunk_of(features: Tensor, *, reset: bool = True, notes: NoteBatch | None = None) -> Chunk:
    batch, time, _ = features.shape
    return Chunk(features, torch.ones(batch, time, dtype=torch.bool), torch.full((batch,), reset), notes)


def read_in_parts(network: RecurrentNetwork, features: Tensor, cuts: list[int]) -> tuple[Tensor, tuple[Tensor, ...]]:
    state = network.initial_state(len(features))
    logits = []
    for begin, end in pairwise([0, *cuts, features.shape[1]]):
        out, state = network(chunk_of(features[:, begin:end], reset=begin == 0), state)
        logits.append(out)
    return torch.cat(logits, dim=1), state.tensors


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("pooling", list(Pooling))
@pytest.mark.parametrize("cell", list(Cell))
@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(1, 11), unique=True).map(sorted))
def test_any_chunking_gives_the_logits_and_states_of_the_whole(
    cell: Cell, pooling: Pooling, learned: bool, cuts: list[int]
) -> None:
    own = {"recurrent_dropout": 0.5} if cell is Cell.GRU_D else {"projection_size": 6}
    network = network_of(cell, pooling=pooling, layers=2, learn_initial_state=learned, skip=learned, **own)
    features = features_of()
    whole, state = read_in_parts(network, features, [])
    parts, parts_state = read_in_parts(network, features, cuts)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-10)
    torch.testing.assert_close(parts_state, state, rtol=0, atol=1e-10)


@pytest.mark.parametrize("pooling", list(Pooling))
@pytest.mark.parametrize("cell", list(Cell))
def test_risks_in_float32_agree_whole_chunked_and_stepped(cell: Cell, pooling: Pooling) -> None:
    torch.manual_seed(3)
    config = NetworkConfig(cell=cell, pooling=pooling, layers=2)
    network = RecurrentNetwork(config, width=4, outputs=2, layout=LAYOUT).eval()
    features = torch.randn(3, 336, 4)
    whole, _ = read_in_parts(network, features, [])
    for cuts in (list(range(1, 336)), list(range(64, 336, 64))):
        parts, _ = read_in_parts(network, features, cuts)
        torch.testing.assert_close(parts.sigmoid(), whole.sigmoid(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("cell", list(Cell))
def test_batch_mates_do_not_matter(cell: Cell) -> None:
    network, features = network_of(cell, pooling=Pooling.ATTENTION), features_of(batch=5)
    together, _ = read_in_parts(network, features, [])
    alone, _ = read_in_parts(network, features[2:3], [])
    torch.testing.assert_close(together[2:3], alone, rtol=0, atol=1e-10)


@pytest.mark.parametrize("pooling", list(Pooling))
@pytest.mark.parametrize("cell", list(Cell))
def test_a_changed_future_leaves_the_past_bit_equal(cell: Cell, pooling: Pooling) -> None:
    network, features = network_of(cell, pooling=pooling, layers=2), features_of()
    changed = features.clone()
    changed[:, 7:] += 1.0
    before, _ = read_in_parts(network, features, [])
    after, _ = read_in_parts(network, changed, [])
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.equal(before[:, 7:], after[:, 7:])


def test_a_row_that_resets_forgets_and_the_others_do_not() -> None:
    network, features = network_of(Cell.LSTM, pooling=Pooling.MEAN), features_of(batch=2)
    _, state = network(chunk_of(features[:, :6]), network.initial_state(2))
    chunk = Chunk(features[:, 6:], torch.ones(2, 6, dtype=torch.bool), torch.tensor([True, False]))
    logits, _ = network(chunk, state)
    fresh, _ = network(chunk_of(features[:, 6:]), network.initial_state(2))
    whole, _ = read_in_parts(network, features, [])
    torch.testing.assert_close(logits[0], fresh[0])
    torch.testing.assert_close(logits[1], whole[1, 6:])


def test_a_reset_row_takes_the_learned_beginning_and_trains_it() -> None:
    network = network_of(learn_initial_state=True)
    logits, _ = network(chunk_of(features_of()), network.initial_state(3))
    logits.sum().backward()
    assert network.beginning is not None
    assert network.beginning["h"].grad is not None
    assert network.beginning["h"].grad.abs().sum() > 0


def test_the_gradient_stops_at_the_chunks_edge_and_the_state_does_not() -> None:
    network, features = network_of(), features_of().requires_grad_()
    _, state = network(chunk_of(features[:, :6]), network.initial_state(3))
    carried, _ = network(chunk_of(features[:, 6:], reset=False), state.detach())
    carried.sum().backward()
    assert features.grad is not None
    assert not features.grad[:, :6].any()
    assert features.grad[:, 6:].any()
    fresh, _ = network(chunk_of(features[:, 6:]), network.initial_state(3))
    assert (carried - fresh).abs().max() > 1e-3


def test_padding_changes_no_valid_step() -> None:
    network = network_of(pooling=Pooling.MEAN)
    features = features_of(batch=2)
    valid = torch.ones(2, 12, dtype=torch.bool)
    valid[1, 8:] = False
    features[1, 8:] = 100.0
    logits, _ = network(Chunk(features, valid, torch.ones(2, dtype=torch.bool)), network.initial_state(2))
    short, _ = read_in_parts(network, features[1:2, :8], [])
    torch.testing.assert_close(logits[1:2, :8], short, rtol=0, atol=1e-10)


@pytest.mark.parametrize("pooling", list(Pooling))
@pytest.mark.parametrize("cell", [cell for cell in Cell if cell is not Cell.GRU_D])
def test_a_bidirectional_network_reads_each_stay_from_its_own_end(cell: Cell, pooling: Pooling) -> None:
    network = network_of(cell, bidirectional=True, layers=2, pooling=pooling)
    features = features_of(batch=2)
    valid = torch.ones(2, 12, dtype=torch.bool)
    valid[1, 8:] = False
    features[1, 8:] = 100.0
    logits, _ = network(Chunk(features, valid, torch.ones(2, dtype=torch.bool)), network.initial_state(2))
    short, _ = read_in_parts(network, features[1:2, :8], [])
    torch.testing.assert_close(logits[1:2, :8], short, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("cell", "module"), [(Cell.GRU, torch.nn.GRU), (Cell.LSTM, torch.nn.LSTM)])
def test_a_bidirectional_stack_is_torchs_own(cell: Cell, module: Any) -> None:
    network, features = network_of(cell, bidirectional=True, layers=2), features_of()
    reference = module(4, 5, num_layers=2, bidirectional=True, batch_first=True).double()
    for index in range(2):
        for suffix, layers in (("", network.stack.layers), ("_reverse", network.stack.backward_layers)):
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(reference, f"{kind}_l{index}{suffix}").data = getattr(layers[index], f"{kind}_l0").data
    expected = network.head(reference(features)[0])
    torch.testing.assert_close(read_in_parts(network, features, [])[0], expected, rtol=0, atol=1e-10)


def test_a_bidirectional_network_refuses_to_stream() -> None:
    network, features = network_of(bidirectional=True), features_of()
    assert not network.streams
    with pytest.raises(DataError, match="whole stays"):
        network(chunk_of(features, reset=False), network.initial_state(3))


@pytest.mark.parametrize("forget_bias", [1.0, 3.0])
def test_an_lstms_forget_gate_begins_with_its_bias(forget_bias: float) -> None:
    network = RecurrentNetwork(NetworkConfig(cell=Cell.LSTM, forget_bias=forget_bias), width=4, outputs=1)
    layer = network.stack.layers[0]
    total = (layer.bias_ih_l0 + layer.bias_hh_l0).chunk(4)  # type: ignore[operator]
    assert total[1].eq(forget_bias).all()
    assert not any(total[gate].any() for gate in (0, 2, 3))


def test_recurrent_weights_begin_orthogonal_gate_by_gate() -> None:
    network = RecurrentNetwork(NetworkConfig(cell=Cell.GRU, hidden_size=6), width=4, outputs=1)
    for block in network.stack.layers[0].weight_hh_l0.chunk(3):  # type: ignore[operator]
        torch.testing.assert_close(block @ block.T, torch.eye(6), rtol=0, atol=1e-5)


def test_xavier_weights_lie_within_their_bound() -> None:
    config = NetworkConfig(cell=Cell.LSTM, hidden_size=6, initialisation=Initialisation.XAVIER)
    network = RecurrentNetwork(config, width=4, outputs=1)
    assert network.stack.layers[0].weight_hh_l0.abs().max() <= (6 / 12) ** 0.5  # type: ignore[operator]
    assert network.stack.layers[0].weight_ih_l0.abs().max() <= (6 / 10) ** 0.5  # type: ignore[operator]


def note_batch(rows: list[int], steps: list[int], texts: list[list[int]]) -> NoteBatch:
    longest = max(map(len, texts))
    tokens = torch.tensor([text + [0] * (longest - len(text)) for text in texts])
    return NoteBatch(tokens, torch.tensor([len(t) for t in texts]), torch.tensor(rows), torch.tensor(steps))


def test_a_note_matters_from_its_own_step_on_and_in_its_own_row() -> None:
    network, features = network_of(notes=True), features_of()
    without, _ = network(chunk_of(features), network.initial_state(3))
    with_note, _ = network(chunk_of(features, notes=note_batch([1], [5], [[3, 4, 5]])), network.initial_state(3))
    assert torch.equal(with_note[[0, 2]], without[[0, 2]])
    assert torch.equal(with_note[1, :5], without[1, :5])
    assert (with_note[1, 5:] - without[1, 5:]).abs().min() > 0


def test_notes_at_one_step_are_averaged_whatever_their_order_and_padding() -> None:
    network, features = network_of(notes=True), features_of()
    one = note_batch([1, 1], [5, 5], [[3, 4, 5], [6]])
    other = note_batch([1, 1], [5, 5], [[6], [3, 4, 5]])
    outputs = [network(chunk_of(features, notes=n), network.initial_state(3))[0] for n in (one, other)]
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=1e-12)
    assert network.notes is not None
    placed = network.notes(one, batch=3, time=12)
    singles = [network.notes(note_batch([1], [5], [t]), batch=3, time=12)[1, 5] for t in ([3, 4, 5], [6])]
    torch.testing.assert_close(placed[1, 5], (singles[0] + singles[1]) / 2)


def test_a_network_that_reads_notes_needs_a_vocabulary() -> None:
    with pytest.raises(ConfigError, match="vocabulary_size"):
        RecurrentNetwork(NetworkConfig(), width=4, outputs=1, notes=NOTES)


def test_a_chunk_of_another_width_is_refused() -> None:
    network = network_of()
    with pytest.raises(DataError, match="4 features, got 3"):
        network(chunk_of(features_of()[:, :, :3]), network.initial_state(3))


@pytest.mark.parametrize("other", [network_of(Cell.LSTM), network_of(hidden_size=6), network_of(layers=2)])
def test_a_state_of_another_network_is_refused(other: RecurrentNetwork) -> None:
    with pytest.raises(DataError, match="begin with initial_state"):
        network_of()(chunk_of(features_of()), other.initial_state(3))


def test_a_state_of_another_batch_is_refused() -> None:
    network = network_of()
    with pytest.raises(DataError, match="begin with initial_state"):
        network(chunk_of(features_of()), network.initial_state(2))


@pytest.mark.parametrize("change", [{"hidden_size": 0}, {"layers": 0}, {"dropout": 1.0}, {"input_dropout": -0.1}])
def test_sizes_and_probabilities_without_meaning_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        NetworkConfig(**change)


def test_a_skip_adds_what_is_linear_in_the_steps_own_inputs() -> None:
    with_skip, without = network_of(skip=True), network_of()
    without.load_state_dict({k: v for k, v in with_skip.state_dict().items() if k != "skip.weight"})
    features = features_of()
    added = read_in_parts(with_skip, features, [])[0] - read_in_parts(without, features, [])[0]
    torch.testing.assert_close(added, features @ with_skip.state_dict()["skip.weight"].T, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        read_in_parts(with_skip, features, [3, 7])[0], read_in_parts(with_skip, features, [])[0], rtol=0, atol=1e-10
    )
