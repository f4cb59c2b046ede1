"""A registered model of documents and a site's own corpus in, what a training takes over from that model out.

Weights mean something under the model's own tokens alone, so the new run takes the tokenizer, the shape and the number
of the networks, and their weights; the heads too where the labels are the same ones. The linear member is fitted anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from models.errors import ConfigError, RefusedError
from models.text.bundle import TextBundle
from models.text.network import TextNetwork
from models.text.scorer import TextScorer
from models.text.task import TextTask
from pipelines.text.config import TextRunConfig
from pipelines.text.corpus import Corpus

_HEADS = ("head.", "pools.")


@dataclass(frozen=True)
class TextParent:
    """The version from which a training starts.

    Args:
        scorer: the model.
        address: of the version, for people.
    """

    scorer: TextScorer
    address: str

    @property
    def bundle(self) -> TextBundle:
        """Its facts."""
        return self.scorer.bundle

    @property
    def networks(self) -> tuple[TextNetwork, ...]:
        """Its networks, without the linear member."""
        return tuple(member for member in self.scorer.network if isinstance(member, TextNetwork))

    def weights(self, number: int, task: TextTask) -> dict[str, Tensor]:
        """Weights of one of its networks, on the CPU; without those of a head that answers for other labels."""
        mine = self.bundle.task
        same = (mine.kind, mine.labels) == (task.kind, task.labels)
        found = self.networks[number].state_dict().items()
        return {n: t.detach().cpu().clone() for n, t in found if same or not n.startswith(_HEADS)}

    @property
    def facts(self) -> dict[str, Any]:
        """What the artifact says of what its weights saw before."""
        own = self.bundle
        return {
            "warm_started_from": {"name": own.name, "digest": self.scorer.digest, "created": own.created},
            "trained_on": dict(own.corpus),
        }


def inherited_text_config(config: TextRunConfig, parent: TextParent) -> TextRunConfig:
    """The run's configuration with the tables that say what the parent's weights are.

    Raises:
        ConfigError: if the run makes weights of its own before the task.
    """
    made = config.pretraining.epochs, config.pretraining.vectors_window, config.vectors.file
    if any(made):
        raise ConfigError(
            "pretraining.epochs and pretraining.vectors_window must be 0 and vectors.file empty with a warm start, got "
            "one of them; the weights are given"
        )
    return replace(
        config,
        network=parent.bundle.network,
        tokenizer=parent.scorer.tokenizer.config,
        members=replace(config.members, networks=len(parent.networks)),
    )


def check_local(corpus: Corpus, parent: TextParent, say: Callable[[str], None]) -> None:
    """Refuses the corpus that the parent was trained on, and says where the run starts.

    Raises:
        RefusedError: if it is that one: its documents are no new evidence.
    """
    seen = parent.bundle.corpus
    if corpus.fingerprint in (seen.get("fingerprint"), seen.get("trained_on", {}).get("fingerprint")):
        raise RefusedError(
            "corpus must be another one than the parent was trained on, got that one; its documents are no new evidence"
        )
    say(f"  starts from {parent.address}, {parent.scorer.digest[:23]}: its tokenizer, shape and weights")
