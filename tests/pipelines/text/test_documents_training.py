"""A run on documents learns, is calibrated, judged beside a baseline and kept, in memory that no long text raises."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from models.encoded import Encoded
from models.ensemble import Ensemble
from models.errors import ConfigError, DataError
from models.text.artifact import load_text_artifact
from models.text.documents import Documents
from models.text.network import TextNetworkConfig
from models.text.phrases import PhrasesConfig
from models.text.reading import ReadTexts
from models.text.scoring import document_logits
from models.text.task import TextTask, TextTaskKind
from models.text.tokenizer import TokenizerConfig
from pipelines.bootstrap import Resampling
from pipelines.split import Part, SplitConfig
from pipelines.text.config import (
    MembersConfig,
    TextBaselinesConfig,
    TextCalibrationConfig,
    TextPretrainingConfig,
    TextRunConfig,
)
from pipelines.text.corpus import Corpus, make_corpus
from pipelines.text.dataset import TextPart, build_dataset, document_targets
from pipelines.text.document_calibrate import best_thresholds
from pipelines.text.document_metrics import naming, naming_difference
from pipelines.text.members import fit_members, refitted
from pipelines.text.phrase_fit import fit_phrases, phrase_table
from pipelines.text.pretrain import pretrain_text, token_targets
from pipelines.text.train import TrainedDocuments, train_documents
from pipelines.text.vectors import token_vectors
from pipelines.training_config import Monitor, TrainingConfig

TRAINING = TrainingConfig(
    truncation_length=16, rows=16, max_epochs=4, learning_rate=2e-2, monitor=Monitor.LAST, accelerator="cpu"
)
CONFIG = TextRunConfig(
    name="reports",
    split=SplitConfig(train=0.6, validation=0.1, calibration=0.15, test=0.15),
    tokenizer=TokenizerConfig(vocabulary_size=400, min_groups=2),
    network=TextNetworkConfig(embedding_size=12, hidden_size=12),
    phrases=PhrasesConfig(longest=2, min_groups=2),
    pretraining=TextPretrainingConfig(epochs=1, rows=16, truncation_length=16),
    training=TRAINING,
    evaluation=Resampling(draws=50),
)
ORGANS = {"heart": ("murmur", "rhythm", "valve"), "lung": ("cough", "wheeze", "sputum"), "knee": ("limp", "swelling")}


def corpus(count: int = 160, *, several: bool = False) -> Corpus:
    draw = random.Random(5)
    texts, labels = [], []
    for _ in range(count):
        own = draw.sample(sorted(ORGANS), draw.randint(0, 2) if several else 1)
        words = [draw.choice(ORGANS[label]) for label in own for _ in range(3)]
        words += draw.choices(("seen", "today", "no", "pain", "stable", "plan"), k=draw.randint(3, 30))
        draw.shuffle(words)
        texts.append(" ".join(words))
        labels.append(own)
    names = tuple(f"d{i}" for i in range(count))
    return make_corpus(Documents(names, tuple(texts), "en"), source="invented", licence="none", labels=labels)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedDocuments:
    return train_documents(corpus(), CONFIG, folder=tmp_path_factory.mktemp("run"))


def test_a_run_learns_what_the_words_tell_and_judges_it_beside_the_baseline(trained: TrainedDocuments) -> None:
    ours = trained.figures["metrics"]["macro_f1"]
    assert ours["low"] <= ours["value"] <= ours["high"]
    assert ours["value"] > 0.8
    assert set(trained.figures["rivals"]["tfidf"]) == {"metrics", "difference"}
    assert len(trained.history) == TRAINING.max_epochs


def test_the_artifact_gives_the_risks_that_were_judged(trained: TrainedDocuments) -> None:
    loaded = load_text_artifact(trained.artifact, expected_digest=trained.digest)
    texts = ["cough and wheeze", "valve murmur"]
    np.testing.assert_array_equal(loaded.classify(texts).probability, trained.scorer.classify(texts).probability)
    assert loaded.bundle.metrics["documents"] == trained.figures["documents"]


def test_a_label_that_no_document_of_a_part_has_is_told_and_stands_on_the_card(tmp_path: Path) -> None:
    whole, said = corpus(), list[str]()
    named = replace(whole, labels=(("rare",), *whole.labels[1:]))
    found = train_documents(named, CONFIG, folder=tmp_path, say=said.append)
    facts = found.bundle.corpus
    absent = {fact for fact in facts if facts[fact] == ["rare"]}
    assert absent  # one document cannot be in both parts
    assert absent <= {"labels_without_training_document", "labels_without_hold_out_document"}
    assert [line for line in said if line.startswith("  1 of 4 labels") and line.endswith("rare")]
    assert all(fact in (found.artifact / "card.md").read_text(encoding="utf-8") for fact in absent)


def test_several_labels_a_document_are_named_above_their_own_thresholds(tmp_path: Path) -> None:
    task = TextTask(TextTaskKind.MULTILABEL)
    config = replace(CONFIG, task=task, pretraining=TextPretrainingConfig())
    found = train_documents(corpus(several=True), config, folder=tmp_path)
    assert found.figures["metrics"]["macro_f1"]["value"] > 0.8
    assert found.figures["unlabelled"] == 0


def test_a_declared_threshold_is_that_of_every_label(tmp_path: Path) -> None:
    config = replace(
        CONFIG,
        task=TextTask(TextTaskKind.MULTILABEL),
        pretraining=TextPretrainingConfig(),
        calibration=TextCalibrationConfig(threshold=0.4),
        training=replace(TRAINING, max_epochs=1),
        baselines=TextBaselinesConfig(tfidf=False),
    )
    assert train_documents(corpus(several=True), config, folder=tmp_path).bundle.decision == (0.4,) * len(ORGANS)


@pytest.mark.parametrize("threshold", [-0.1, 1.0])
def test_a_threshold_that_is_no_risk_is_refused(threshold: float) -> None:
    with pytest.raises(ConfigError, match=r"calibration\.threshold must be"):
        TextCalibrationConfig(threshold=threshold)


def test_the_linear_member_says_at_a_texts_end_what_its_table_says() -> None:
    data = build_dataset(corpus(), CONFIG)
    part = data.parts[Part.TRAIN]
    member = fit_phrases([part], data.task, CONFIG.phrases, vocabulary_size=data.tokenizer.vocabulary_size)
    keys, rarity = member.get_buffer("keys").numpy(), member.get_buffer("rarity").double().numpy()
    table = phrase_table(part.ids, keys, rarity, longest=2, vocabulary_size=data.tokenizer.vocabulary_size)
    expected = table @ member.weight.double().numpy() + member.head.get_parameter("bias").double().numpy()
    np.testing.assert_allclose(document_logits(Ensemble([member]), part.read), expected, atol=1e-4)


@pytest.mark.parametrize("held", [(0, 1), (1, 2), (0, 1, 2), (2,)])
def test_the_linear_member_tells_the_classes_that_its_documents_have(held: tuple[int, ...]) -> None:
    ids = np.array([[1 + number % len(held), 9] for number in range(30)]).ravel()
    read = ReadTexts(Encoded(ids[:, None], np.arange(0, 61, 2), np.arange(60)), np.zeros((60, 2), dtype=np.int32))
    label = np.array([[held[number % len(held)]] for number in range(30)], dtype=np.float32)
    part = TextPart(np.arange(30), tuple(map(str, range(30))), read, label)
    task = TextTask(labels=("a", "b", "c"))
    member = fit_phrases([part], task, PhrasesConfig(min_groups=2), vocabulary_size=20)
    logits = document_logits(Ensemble([member]), read)
    assert logits.shape == (30, 3)
    assert logits.argmax(axis=1).tolist() == label[:, 0].tolist()


def test_what_other_parts_hold_changes_neither_tokens_nor_phrases() -> None:
    whole = corpus()
    data = build_dataset(whole, CONFIG)
    outside = {int(i) for part, p in data.parts.items() if part is not Part.TRAIN for i in p.rows}
    texts = tuple("quite another text 123" if i in outside else t for i, t in enumerate(whole.documents.text))
    changed = replace(whole, documents=replace(whole.documents, text=texts))
    assert build_dataset(changed, CONFIG).tokenizer.to_json() == data.tokenizer.to_json()


def test_every_token_but_a_texts_first_is_predicted_or_taken_out() -> None:
    ids = np.arange(1, 41)
    encoded = Encoded(ids[:, None], np.array([0, 10, 40]), np.arange(40))
    read, targets = token_targets(encoded, TextPretrainingConfig(epochs=1, masked_token_weight=0.5), seed=1)
    taken = read.features[:, 0] == 0
    assert 0 < taken.sum() < 20
    assert (targets.value[taken, 0] == ids[taken]).all()
    free = np.setdiff1d(np.flatnonzero(~taken), [9, 39])
    assert (targets.value[free, 0] == ids[free + 1]).all()
    assert targets.weight[[i for i in (9, 39) if not taken[i]]].sum() == 0


def test_pre_training_lowers_the_surprise_of_the_next_token(tmp_path: Path) -> None:
    ids = np.tile(np.arange(1, 9), 200)
    encoded = Encoded(ids[:, None], np.arange(0, 1601, 80), np.arange(1600))
    config = TextPretrainingConfig(epochs=6, rows=4, truncation_length=16, learning_rate=2e-2)
    found = pretrain_text(
        encoded, network=CONFIG.network, vocabulary_size=10, config=config, training=TRAINING, seed=0, folder=tmp_path
    )
    assert found is not None
    assert found.course is not None
    losses = [row["train_loss"] for row in found.course.history]
    assert losses[-1] < 0.5 * losses[0]
    assert {name.split(".")[0] for name in found.weights} == {"embedding", "stack"}


def test_tokens_that_stand_among_the_same_others_get_like_vectors() -> None:
    draw = np.random.default_rng(0)
    # 1 and 2 stand between 3 and 4, 5 and 6 between 7 and 8; no other tells them apart.
    sentences = [
        [3, draw.integers(1, 3), 4] if draw.random() < 0.5 else [7, draw.integers(5, 7), 8] for _ in range(300)
    ]
    ids = np.array(sentences).ravel()
    encoded = Encoded(ids[:, None], np.arange(0, 901, 3), np.arange(900))
    made = token_vectors(encoded, vocabulary_size=12, width=4, window=2, spread=0.5, seed=0)
    likeness = torch.nn.functional.cosine_similarity(made[1:7, None], made[None, 1:7], dim=2)
    assert likeness[0, 1] > 0.9
    assert likeness[4, 5] > 0.9
    assert likeness[0, 4] < 0.1
    assert not made[0].any()
    assert float(made[ids].square().mean().sqrt()) == pytest.approx(0.5, rel=1e-5)
    torch.testing.assert_close(made, token_vectors(encoded, vocabulary_size=12, width=4, window=2, spread=0.5, seed=0))


def test_the_linear_member_is_fitted_again_on_all_that_is_not_held_out(tmp_path: Path) -> None:
    data = build_dataset(corpus(), CONFIG)
    config = replace(CONFIG, members=replace(CONFIG.members, phrase_share=0.4))
    first = fit_members(data, config, folder=tmp_path)
    again = refitted(first, data, config)
    everyone = [part for name, part in data.parts.items() if name is not Part.TEST]
    expected = fit_phrases(everyone, data.task, CONFIG.phrases, vocabulary_size=data.tokenizer.vocabulary_size)
    torch.testing.assert_close(list(again.ensemble)[-1].state_dict(), expected.state_dict())
    assert next(iter(again.ensemble)) is next(iter(first.ensemble))
    assert again.ensemble.weights == (0.6, 0.4)
    assert refitted(first, data, replace(config, phrases=replace(config.phrases, refit=False))) is first


def test_a_label_stands_at_a_documents_end_and_weighs_less_at_earlier_chunks() -> None:
    part = build_dataset(corpus(), CONFIG).parts[Part.TEST]
    targets = document_targets(part, truncation_length=8, replication=0.25)
    ends = part.read.encoded.step_offsets[1:] - 1
    assert (targets.weight[ends] == 1).all()
    assert set(np.unique(targets.weight)) == {0.0, 0.25, 1.0}


def test_f1_is_that_of_scikit_learn() -> None:
    draw = np.random.default_rng(2)
    truth, named = (np.eye(4, dtype=bool)[draw.integers(0, 4, 60)] for _ in range(2))
    found = naming(truth, named, "abcd")(np.ones((1, 60)))
    assert found["macro_f1"][0] == pytest.approx(f1_score(truth.argmax(1), named.argmax(1), average="macro"))
    assert found["f1_b"][0] == pytest.approx(f1_score(truth[:, 1], named[:, 1]))
    same = naming_difference(truth, named, named, "abcd", [str(i) for i in range(60)], Resampling(draws=50))
    assert same == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_thresholds_give_each_label_its_best_f1() -> None:
    risk = np.array([[0.9], [0.4], [0.3], [0.1]])
    (threshold,) = best_thresholds(risk, np.array([[1.0], [1.0], [0.0], [0.0]]))
    assert threshold == pytest.approx(0.35)


def test_what_contradicts_itself_is_refused() -> None:
    with pytest.raises(DataError, match="multilabel"):
        build_dataset(corpus(several=True), replace(CONFIG, task=TextTask(labels=tuple(sorted(ORGANS)))))
    both = replace(CONFIG.network, bidirectional=True, max_tokens=16)
    with pytest.raises(ConfigError, match="next_token_weight"):
        replace(CONFIG, network=both)
    with pytest.raises(ConfigError, match="networks"):
        MembersConfig(networks=0)
