"""The configuration of a tagging run: one TOML file and `key=value` overrides in, a frozen `TaggingRunConfig` out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from models.errors import ConfigError
from models.record import from_plain
from models.text.documents import LANGUAGES
from models.text.spans import TagSet
from models.text.tagging_network import TaggingConfig
from models.text.vocabulary import VocabularyConfig
from pipelines.bootstrap import Resampling
from pipelines.config import read_plain
from pipelines.split import SplitConfig
from pipelines.text.identifiers.guard import IdentifiersConfig
from pipelines.text.vector_file import VectorsConfig


class TaggingKind(StrEnum):
    """What a tagging run's task is called, beside those of other runs on documents."""

    TAGGING = "tagging"


class KeptEpoch(StrEnum):
    """Which epoch's weights a run keeps."""

    BEST = "best"
    LAST = "last"


@dataclass(frozen=True)
class TaggingTask:
    """What is marked.

    Args:
        labels: of the spans, in the order of the answers.
        kind: `tagging`.
        language: `en`, `ja` or empty.
        description: for people.
    """

    labels: tuple[str, ...]
    kind: TaggingKind = TaggingKind.TAGGING
    language: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        """Refuses labels that make no tags, and an unknown language."""
        TagSet(self.labels)
        if self.language not in LANGUAGES:
            raise ConfigError(f"task.language must be en, ja or empty, got {self.language!r}; leave it empty")


@dataclass(frozen=True)
class TaggingTraining:
    """How a tagging network is trained.

    Args:
        batch_windows: windows of sentences in a batch.
        max_epochs: rounds over the training part.
        learning_rate: its peak; it rises over `warmup_fraction` of the run and falls along a cosine.
        warmup_fraction: part of the run over which the rate rises.
        weight_decay: of weight matrices.
        gradient_clip: largest norm of the gradient; 0 = not clipped.
        average_decay: of the moving average of the weights that is validated and kept.
        keep: which epoch's. The best is a matter of luck where the validation part is small; the rate falls to nothing
            towards the last.
    """

    batch_windows: int = 32
    max_epochs: int = 8
    learning_rate: float = 4e-3
    warmup_fraction: float = 0.05
    weight_decay: float = 1e-2
    gradient_clip: float = 5.0
    average_decay: float = 0.99
    keep: KeptEpoch = KeptEpoch.BEST

    def __post_init__(self) -> None:
        """Refuses numbers that have no meaning."""
        for name, least in (("batch_windows", 1), ("max_epochs", 1), ("weight_decay", 0), ("gradient_clip", 0)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"training.{name} must be at least {least}, got {getattr(self, name)}; raise the number"
                )
        if self.learning_rate <= 0:
            raise ConfigError(f"training.learning_rate must be above 0, got {self.learning_rate}; raise it")
        for name in ("warmup_fraction", "average_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"training.{name} must be in [0, 1), got {getattr(self, name)}; give a fraction")


@dataclass(frozen=True)
class TaggingBaselines:
    """Which baselines are judged beside the network.

    Args:
        dictionary: mentions of the training part.
        linear_chain: a linear chain over features of words, by CRFsuite.
    """

    dictionary: bool = True
    linear_chain: bool = True


@dataclass(frozen=True)
class TaggingGate:
    """What a version must show before it is promoted.

    Args:
        f1_margin: least lower bound of the paired difference in exact-span F1, candidate minus champion.
        min_spans: least number of annotated spans in the hold-out.
    """

    f1_margin: float = -0.01
    min_spans: int = 50


@dataclass(frozen=True)
class TaggingRunConfig:
    """Everything that decides what a tagging run does; its resolved form travels inside the artifact.

    Args:
        name: name of the registered model.
        task: what is marked.
        seed: of every random choice.
        threads: CPU threads of the training; 0 = as many as there are cores.
        held_out: parts of the source itself that are the hold-out; without them `split.test` is. With them the share
            of `split.test` trains.
    """

    name: str
    task: TaggingTask
    seed: int = 0
    threads: int = 0
    held_out: tuple[str, ...] = ()
    identifiers: IdentifiersConfig = field(default_factory=IdentifiersConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    vectors: VectorsConfig = field(default_factory=VectorsConfig)
    network: TaggingConfig = field(default_factory=TaggingConfig)
    training: TaggingTraining = field(default_factory=TaggingTraining)
    evaluation: Resampling = field(default_factory=Resampling)
    baselines: TaggingBaselines = field(default_factory=TaggingBaselines)
    gate: TaggingGate = field(default_factory=TaggingGate)

    def __post_init__(self) -> None:
        """Refuses a name that MLflow or a file system would not take."""
        if not self.name.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(f"name must be letters, digits, - and _, got {self.name!r}; rename the model")


def load_tagging_config(path: Path, overrides: Sequence[str] = ()) -> TaggingRunConfig:
    """Reads a TOML file and applies `key=value` overrides.

    Raises:
        ConfigError: for an unreadable file, an unknown key or a value of another type.
        UsageError: for an override that is not `key=value`.
    """
    return from_plain(TaggingRunConfig, read_plain(path, overrides), where="config")
