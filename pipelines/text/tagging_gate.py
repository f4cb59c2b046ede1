"""A registered tagger and the champion in, the verdict on their hold-out out: what promotion asks of a tagger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from models.record import from_plain
from models.text.tagger import Tagger
from models.text.tagging_artifact import TaggingModel, load_tagging_artifact
from pipelines.gate import GateCheck, GateVerdict
from pipelines.registry import ModelVersion
from pipelines.settings import Settings
from pipelines.split import Part
from pipelines.text.corpus import Corpus
from pipelines.text.recorded import recorded_corpus, recorded_folders
from pipelines.text.tagging_config import TaggingRunConfig
from pipelines.text.tagging_data import split_documents
from pipelines.text.tagging_evaluate import tag_documents
from pipelines.text.tagging_metrics import SpanCounts, count_spans, span_difference
from pipelines.text.verdict import compared, verdict


def judge_tagging(
    candidate: ModelVersion, champion: ModelVersion | None, settings: Settings, *, folders: Sequence[Path] = ()
) -> GateVerdict:
    """The verdict on a candidate, as of `pipelines.text.verdict`; nothing is moved.

    Args:
        candidate: the version that shall be promoted.
        champion: whom it is compared with; None without one.
        settings: where MLflow is.
        folders: of the candidate's corpora; those that its run recorded where left out.
    """

    def judge(model: TaggingModel) -> tuple[GateCheck, Callable[[TaggingModel], list[GateCheck]]]:
        config = from_plain(TaggingRunConfig, model.bundle.config, where="config")
        held_out = _held_out(folders or recorded_folders(candidate), model, config)
        ours = _counts(model.tagger, held_out)
        spans, least = int(ours.annotated.sum()), config.gate.min_spans
        amount = GateCheck("spans", spans >= least, spans, f"at least {least}")
        return amount, lambda rival: _comparison(ours, rival, held_out, config)

    bound = "digests and golden spans hold"
    return verdict(candidate, champion, settings, load=load_tagging_artifact, judge=judge, bound=bound)


def _comparison(
    ours: SpanCounts, champion: TaggingModel, held_out: Corpus, config: TaggingRunConfig
) -> list[GateCheck]:
    return compared(
        "f1",
        same=champion.bundle.labels == ours.labels,
        does="mark",
        differ="task.labels differ",
        margin=config.gate.f1_margin,
        difference=lambda: span_difference(ours, _counts(champion.tagger, held_out), held_out.group, config.evaluation),
    )


def _counts(tagger: Tagger, held_out: Corpus) -> SpanCounts:
    tagged = tag_documents(tagger, held_out.documents.text)
    return count_spans(held_out.spans, [[t.span for t in spans] for spans in tagged], tagger.tag_set.labels)


def _held_out(folders: Sequence[Path], model: TaggingModel, config: TaggingRunConfig) -> Corpus:
    corpus = recorded_corpus(folders, model.bundle.corpus["fingerprint"])
    return corpus.select(split_documents(corpus, config.split, config.held_out)[Part.TEST].tolist())
