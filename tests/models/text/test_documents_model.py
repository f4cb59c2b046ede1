"""Networks and phrases of documents: chunks, batches, attribution and the artifact hold what they promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.artifact_folder import MANIFEST
from models.batch import Chunk
from models.calibration import Calibration
from models.cells import Cell
from models.encoded import Encoded
from models.ensemble import Ensemble
from models.errors import ArtifactError, ConfigError, DataError
from models.pooling import Pooling
from models.streaming import StreamingNetwork
from models.task import TargetKind
from models.text.artifact import load_text_artifact, save_text_artifact
from models.text.attribution import token_weights
from models.text.bundle import TextBundle, TextMemberKind, TextMemberSpec
from models.text.network import TextNetwork, TextNetworkConfig
from models.text.phrases import PhraseMember, PhrasesConfig, common_phrases, phrase_keys
from models.text.reading import ReadTexts
from models.text.scorer import TextScorer
from models.text.scoring import document_logits
from models.text.task import TextTask, TextTaskKind
from models.text.tokenizer import TextTokenizer, TokenizerConfig

VOCABULARY, LABELS = 40, ("cough", "fever", "pain")
TEXTS = ("cough at night", "fever and cough", "pain in the left knee", "no fever, no pain") * 3


def network(**changes: object) -> TextNetwork:
    torch.manual_seed(3)
    shape = {"embedding_size": 6, "hidden_size": 5, "pooling": tuple(Pooling), **changes}
    return TextNetwork(TextNetworkConfig(**shape), vocabulary_size=VOCABULARY, outputs=3).double().eval()  # type: ignore[arg-type]


def phrases(longest: int = 3, texts: list[list[int]] | None = None, outputs: int = 3) -> PhraseMember:
    ids = [np.array(t) for t in texts or [[1, 2, 3, 1, 2], [2, 3, 4], [1, 2, 2, 2]]]
    groups = [str(i) for i in range(len(ids))]
    found = common_phrases(ids, groups, PhrasesConfig(longest=longest, min_groups=1), VOCABULARY)
    member = PhraseMember(*found, longest=longest, vocabulary_size=VOCABULARY, outputs=outputs).double()
    draw = np.random.default_rng(0)
    member.take(draw.normal(size=(member.phrases, outputs)), draw.normal(size=outputs))
    return member.eval()


def read(*texts: list[int]) -> ReadTexts:
    ids = np.concatenate([np.array(t, dtype=np.int64) for t in texts])
    offsets = np.cumsum([0, *map(len, texts)])
    return ReadTexts(Encoded(ids[:, None], offsets, np.arange(len(ids))), np.zeros((len(ids), 2), dtype=np.int32))


def chunk(ids: list[int], *, begins: bool) -> Chunk:
    tokens = torch.tensor(ids)[None, :, None]
    return Chunk(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool), torch.tensor([begins]))


MEMBERS = [network(), network(cell=Cell.LSTM, layers=2), network(pool_embeddings=False), phrases(), phrases(1)]


@pytest.mark.parametrize("member", MEMBERS, ids=["gru", "lstm", "cell_alone", "phrases", "words"])
@settings(max_examples=20, deadline=None)
@given(ids=st.lists(st.integers(1, 6), min_size=2, max_size=14), cut=st.integers(1, 13))
def test_a_text_in_chunks_has_the_logits_of_the_whole(member: StreamingNetwork, ids: list[int], cut: int) -> None:
    whole, _ = member(chunk(ids, begins=True), member.initial_state(1))
    first, state = member(chunk(ids[:cut], begins=True), member.initial_state(1))
    parts = [first]
    if ids[cut:]:
        parts.append(member(chunk(ids[cut:], begins=False), state)[0])
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-10)


@settings(max_examples=20, deadline=None)
@given(rows=st.lists(st.lists(st.integers(1, 6), min_size=0, max_size=9), min_size=1, max_size=4), begins=st.booleans())
def test_logits_at_ends_are_those_of_the_last_tokens(rows: list[list[int]], begins: bool) -> None:
    every, ends = network(), network()
    ends.at_ends = True
    longest = max(1, *map(len, rows))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])[..., None]
    own = Chunk(ids, ids[..., 0] > 0, torch.full((len(rows),), begins))
    before = every(own, every.initial_state(len(rows)))[1] if not begins else every.initial_state(len(rows))
    (whole, after), (last, left) = every(own, before), ends(own, before)
    for row, text in enumerate(rows):
        if text:
            torch.testing.assert_close(last[row, len(text) - 1], whole[row, len(text) - 1], rtol=0, atol=1e-10)
            assert not last[row, : len(text) - 1].any()
            for mine, theirs in zip(left.tensors[1:], after.tensors[1:], strict=True):
                torch.testing.assert_close(mine[:, row], theirs[:, row], rtol=0, atol=1e-10)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=12))
def test_phrases_are_counted_weighed_and_normalised_as_defined(ids: list[int]) -> None:
    member = phrases()
    keys, rarity = member.get_buffer("keys").numpy(), member.get_buffer("rarity").double().numpy()
    feature = np.zeros(member.phrases)
    for key in np.concatenate(phrase_keys(np.array(ids), 3, VOCABULARY)):
        feature += keys == key
    feature = np.where(feature > 0, rarity * (1 + np.log(np.maximum(feature, 1))), 0)
    feature /= max(np.linalg.norm(feature), 1e-6)
    expected = feature @ member.weight.numpy() + member.head.get_parameter("bias").numpy()
    found, _ = member(chunk(ids, begins=True), member.initial_state(1))
    np.testing.assert_allclose(found[0, -1].detach().numpy(), expected, atol=1e-6)


def test_phrases_of_too_few_groups_do_not_enter() -> None:
    texts = [np.array([1, 2]), np.array([1, 3]), np.array([9, 9])]
    keys, _ = common_phrases(texts, ["a", "b", "b"], PhrasesConfig(longest=2, min_groups=2), VOCABULARY)
    assert keys.tolist() == phrase_keys(np.array([1]), 2, VOCABULARY)[0].tolist()


@pytest.mark.parametrize("shape", [{}, {"bidirectional": True, "max_tokens": 50}], ids=["one_way", "two_ways"])
def test_logits_do_not_depend_on_the_texts_read_together(shape: dict[str, object]) -> None:
    ensemble = Ensemble([network(**shape).float(), phrases().float()])
    texts = [[1, 2, 3, 4, 5], [7], [3, 3, 2, 1] * 9]
    together = document_logits(ensemble, read(*texts))
    alone = [document_logits(ensemble, read(text))[0] for text in texts]
    np.testing.assert_allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize("cell", [Cell.GRU, Cell.LSTM])
def test_scoring_leaves_the_layers_as_they_are_for_other_threads(cell: Cell) -> None:
    ensemble = Ensemble([network(cell=cell).float()])
    moved: list[object] = []
    for layer in ensemble.modules():
        if isinstance(layer, torch.nn.RNNBase):
            layer._apply = lambda *args, **kwargs: moved.append(args)  # type: ignore[method-assign, assignment, misc]
    document_logits(ensemble.eval(), read([1, 2, 3]), device="cpu")
    assert not moved


def test_a_bidirectional_network_refuses_the_rest_of_a_text() -> None:
    both = network(bidirectional=True, max_tokens=8)
    with pytest.raises(DataError, match="whole texts"):
        both(chunk([1, 2], begins=False), both.initial_state(1))
    with pytest.raises(ConfigError, match="max_tokens"):
        TextNetworkConfig(bidirectional=True)


def test_the_linear_members_token_weights_add_up_to_what_it_says() -> None:
    member = phrases()
    ids = np.array([1, 2, 3, 1, 2, 2])
    logits, _ = member(chunk(ids.tolist(), begins=True), member.initial_state(1))
    weights = token_weights(Ensemble([network(), member], [1e-9, 1 - 1e-9]), ids, 1)
    assert weights.sum() == pytest.approx(float(logits[0, -1, 1] - member.head.get_parameter("bias")[1]), abs=1e-5)


def test_a_networks_token_weights_follow_the_logit_along_the_vectors() -> None:
    lone, ids, step = network(), np.array([5, 1, 7, 2]), 1e-6
    weights = token_weights(Ensemble([lone]), ids, 2)
    vectors, begun = lone.embed(torch.from_numpy(ids)[None]), chunk(ids.tolist(), begins=True)
    for token, weight in enumerate(weights):
        moved = []
        for sign in (1, -1):
            scaled = vectors.clone()
            scaled[0, token] *= 1 + sign * step
            moved.append(float(lone.read(scaled, begun, lone.initial_state(1))[0][0, -1, 2].detach()))
        assert weight == pytest.approx((moved[0] - moved[1]) / (2 * step), abs=1e-6)


@pytest.fixture(scope="module")
def scorer() -> TextScorer:
    tokenizer = TextTokenizer.train(TEXTS, [str(i) for i in range(len(TEXTS))], TokenizerConfig(min_groups=2))
    torch.manual_seed(0)
    shape = TextNetworkConfig(embedding_size=6, hidden_size=5)
    size = tokenizer.vocabulary_size
    ids = [tokenizer.encode(text).ids.astype(np.int64) for text in TEXTS]
    keys, rarity = common_phrases(ids, [str(i) for i in range(len(ids))], PhrasesConfig(longest=2), size)
    linear = PhraseMember(keys, rarity, longest=2, vocabulary_size=size, outputs=3)
    linear.take(np.random.default_rng(1).normal(size=(len(keys), 3)), np.zeros(3))
    bundle = TextBundle(
        name="reports",
        task=TextTask(labels=LABELS),
        network=shape,
        members=(
            TextMemberSpec(TextMemberKind.NETWORK, 0.5),
            TextMemberSpec(TextMemberKind.PHRASES, 0.5, longest=2, phrases=len(keys)),
        ),
        calibration=Calibration.identity(TargetKind.MULTICLASS, 3),
        shift=(0.0, 0.5, -0.5),
        decision=(0.0, -0.5, 0.5),
    )
    lone = TextNetwork(shape, vocabulary_size=size, outputs=3, at_ends=True)
    return TextScorer(bundle, Ensemble([lone, linear]), tokenizer)


def test_a_saved_model_answers_as_before_and_holds_no_pickle(scorer: TextScorer, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    digest = save_text_artifact(folder, scorer)
    loaded = load_text_artifact(folder, expected_digest=digest)
    np.testing.assert_array_equal(loaded.classify(TEXTS).probability, scorer.classify(TEXTS).probability)
    assert {p.suffix for p in folder.iterdir()} == {".json", ".safetensors"}
    assert (folder / MANIFEST).is_file()


@pytest.mark.parametrize("name", ["bundle.json", "weights.safetensors", "tokenizer.json", "golden.json"])
def test_an_altered_file_is_refused(scorer: TextScorer, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "bundle"
    save_text_artifact(folder, scorer)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(bytes(data))
    with pytest.raises(ArtifactError, match=name):
        load_text_artifact(folder)


def test_each_named_label_comes_with_the_place_of_every_token_in_the_original_text(scorer: TextScorer) -> None:
    text = "Ｆｅｖｅｒ and　cough ㍉"
    found = scorer.classify([text], attribution=True)
    (attribution,) = found.attribution[0]
    assert (attribution.label,) == found.named[0]
    assert len(attribution.tokens) == found.tokens_read[0]
    assert {text[t.start : t.end] for t in attribution.tokens} >= {"and"} or len(attribution.tokens) > 3
    assert all(0 <= t.start <= t.end <= len(text) for t in attribution.tokens)
    assert sum(map(float, found.probability[0])) == pytest.approx(1.0)


def test_the_named_class_is_the_likeliest_if_all_were_equally_common(scorer: TextScorer) -> None:
    risk = scorer.risks(np.array([[0.1, 0.0, 0.05]]))
    assert risk.argmax() == 1
    assert scorer.named(risk) == [[0]]


def test_an_empty_text_is_answered(scorer: TextScorer) -> None:
    assert np.isfinite(scorer.classify([""], attribution=True).probability).all()
    assert scorer.classify([]).probability.shape == (0, 3)


def test_a_single_class_is_no_classification() -> None:
    with pytest.raises(ConfigError, match="two or more"):
        TextTask(labels=("one",))
    assert TextTask(TextTaskKind.MULTILABEL, ("one",)).spec("m").output_names == ("one",)
