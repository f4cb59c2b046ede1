"""The configuration of a run on a corpus: one TOML file and overrides in, a frozen `TextRunConfig` out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from models.calibration import CalibrationMethod
from models.errors import ConfigError
from models.record import from_plain
from models.text.network import TextNetworkConfig
from models.text.phrases import PhrasesConfig
from models.text.task import TextTask
from models.text.tokenizer import TokenizerConfig
from pipelines.bootstrap import Resampling
from pipelines.config import read_plain
from pipelines.split import SplitConfig
from pipelines.text.identifiers.guard import IdentifiersConfig
from pipelines.text.vector_file import VectorsConfig
from pipelines.training_config import Monitor, TrainingConfig


@dataclass(frozen=True)
class TextPretrainingConfig:
    """What the networks learn from the notes themselves before the task.

    Args:
        epochs: passes over the training texts; 0 = no pre-training.
        learning_rate: peak of the schedule.
        next_token_weight: share in the loss of predicting every next token; one direction alone.
        masked_token_weight: share of predicting tokens that were taken out.
        mask_share: share of the tokens that are taken out; which ones is drawn once a run.
        rows: tapes; the loss over a whole vocabulary takes rows times truncation_length times its size of memory.
        truncation_length: tokens per backward pass; 0 = training.truncation_length, as a bidirectional network needs.
        unlabelled: texts without a label are learnt from too.
        vectors_window: tokens on either side of one from which its vector is made before all else
            (`pipelines.text.vectors`); 0 = vectors begin by chance.
        vectors_spread: standard deviation of those vectors' numbers.
    """

    epochs: int = 0
    learning_rate: float = 3e-3
    next_token_weight: float = 1.0
    masked_token_weight: float = 0.0
    mask_share: float = 0.15
    rows: int = 32
    truncation_length: int = 64
    unlabelled: bool = True
    vectors_window: int = 0
    vectors_spread: float = 0.3

    def __post_init__(self) -> None:
        """Refuses numbers without meaning."""
        if self.vectors_window < 0 or self.vectors_spread <= 0:
            raise ConfigError(
                f"pretraining.vectors_window and vectors_spread must be at least 0 and above 0, got "
                f"{self.vectors_window} and {self.vectors_spread}; raise them"
            )
        if self.epochs < 0 or self.learning_rate <= 0:
            raise ConfigError(
                f"pretraining.epochs and learning_rate must be at least 0 and above 0, got {self.epochs} and "
                f"{self.learning_rate}; raise them"
            )
        if self.rows < 1 or self.truncation_length < 0:
            raise ConfigError(
                f"pretraining.rows and truncation_length must be at least 1 and 0, got {self.rows} and "
                f"{self.truncation_length}; raise them"
            )
        if min(self.next_token_weight, self.masked_token_weight) < 0 or (
            self.epochs and self.next_token_weight + self.masked_token_weight <= 0
        ):
            raise ConfigError("pretraining must weigh next or masked tokens above 0, got neither; set one of them")
        if self.masked_token_weight > 0 and not 0 < self.mask_share < 1:
            raise ConfigError(
                f"pretraining.mask_share must be above 0 and below 1, got {self.mask_share}; give a share"
            )


@dataclass(frozen=True)
class LossConfig:
    """How labels become a loss.

    Args:
        balance: how far rare classes count as much as common ones: 1 fully, 0 not at all. The networks then learn
            logits as if classes were equally common, to which the true frequencies are added for the risks.
        smoothing: share of every label that is spread over all classes.
        replication: weight that a document's label has at the end of each chunk before its last.

    Source: Menon et al. 2021, Long-tail learning via logit adjustment.
    """

    balance: float = 1.0
    smoothing: float = 0.0
    replication: float = 0.3

    def __post_init__(self) -> None:
        """Refuses shares that are none."""
        for name in ("balance", "smoothing", "replication"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"loss.{name} must be from 0 to 1, got {getattr(self, name)}; give a share")


@dataclass(frozen=True)
class TextBaselinesConfig:
    """Which baselines stand in the same table.

    Args:
        tfidf: TF-IDF with logistic regression; of characters for Japanese.
    """

    tfidf: bool = True


@dataclass(frozen=True)
class MembersConfig:
    """What the model is made of.

    Args:
        networks: networks of different seeds whose logits are averaged.
        phrases: whether a linear member on phrases stands beside them.
        phrase_share: weight of the linear member; 0 = the validation part chooses, which needs many documents.
    """

    networks: int = 1
    phrases: bool = True
    phrase_share: float = 0.0

    def __post_init__(self) -> None:
        """Refuses a model without a network."""
        if self.networks < 1:
            raise ConfigError(f"members.networks must be at least 1, got {self.networks}; raise the number")
        if not 0 <= self.phrase_share < 1:
            raise ConfigError(
                f"members.phrase_share must be at least 0 and below 1, got {self.phrase_share}; give a share"
            )


@dataclass(frozen=True)
class TextCalibrationConfig:
    """How logits become risks.

    Args:
        method: `none`, `temperature` or `platt`, fitted on the calibration part.
        threshold: risk from which each of several labels is named; 0 = where its F1 on the calibration part is
            highest, which needs many documents with the label.
    """

    method: CalibrationMethod = CalibrationMethod.TEMPERATURE
    threshold: float = 0.0

    def __post_init__(self) -> None:
        """Refuses curves, which several classes do not have, and a risk that is none."""
        if not 0 <= self.threshold < 1:
            raise ConfigError(
                f"calibration.threshold must be at least 0 and below 1, got {self.threshold}; give a risk, or 0 for "
                "one that is chosen"
            )
        if self.method not in (CalibrationMethod.NONE, CalibrationMethod.TEMPERATURE, CalibrationMethod.PLATT):
            raise ConfigError(
                f"calibration.method must be none, temperature or platt, got '{self.method}'; choose one of them"
            )


@dataclass(frozen=True)
class TextGate:
    """What a version must show before it is promoted.

    Args:
        macro_f1_margin: least lower bound of the paired difference in macro-F1, candidate minus champion.
        min_documents: least number of labelled documents in the hold-out.
    """

    macro_f1_margin: float = -0.02
    min_documents: int = 50


def _text_training() -> TrainingConfig:
    return TrainingConfig(truncation_length=512, rows=32, max_epochs=8, learning_rate=4e-3, monitor=Monitor.LAST)


@dataclass(frozen=True)
class TextRunConfig:
    """Everything that decides what a run on a corpus does; its resolved form travels inside the artifact.

    Args:
        name: name of the registered model.
        task: what is predicted; without labels they are the corpus's.
        seed: of every random choice.
        threads: CPU threads of the training; 0 = as many as there are cores.
    """

    name: str
    task: TextTask = field(default_factory=TextTask)
    seed: int = 0
    threads: int = 0
    split: SplitConfig = field(default_factory=SplitConfig)
    identifiers: IdentifiersConfig = field(default_factory=IdentifiersConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    vectors: VectorsConfig = field(default_factory=VectorsConfig)
    network: TextNetworkConfig = field(default_factory=TextNetworkConfig)
    phrases: PhrasesConfig = field(default_factory=PhrasesConfig)
    members: MembersConfig = field(default_factory=MembersConfig)
    pretraining: TextPretrainingConfig = field(default_factory=TextPretrainingConfig)
    training: TrainingConfig = field(default_factory=_text_training)
    loss: LossConfig = field(default_factory=LossConfig)
    calibration: TextCalibrationConfig = field(default_factory=TextCalibrationConfig)
    evaluation: Resampling = field(default_factory=Resampling)
    baselines: TextBaselinesConfig = field(default_factory=TextBaselinesConfig)
    gate: TextGate = field(default_factory=TextGate)

    def __post_init__(self) -> None:
        """Refuses a name that MLflow would not take, and settings that contradict each other."""
        if not self.name.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(f"name must be letters, digits, - and _, got {self.name!r}; rename the model")
        if self.network.bidirectional:
            if self.training.truncation_length < self.network.max_tokens:
                raise ConfigError(
                    "training.truncation_length must be at least network.max_tokens for a bidirectional network, got "
                    f"{self.training.truncation_length} below {self.network.max_tokens}; raise it"
                )
            if self.pretraining.epochs and self.pretraining.next_token_weight > 0:
                raise ConfigError(
                    "pretraining.next_token_weight must be 0 for a bidirectional network, which has read the next "
                    f"token, got {self.pretraining.next_token_weight}; use masked_token_weight"
                )
            if self.pretraining.epochs and self.pretraining.truncation_length:
                raise ConfigError(
                    "pretraining.truncation_length must be 0 for a bidirectional network, which reads whole texts, "
                    f"got {self.pretraining.truncation_length}; set it to 0"
                )


def load_text_config(path: Path, overrides: Sequence[str] = ()) -> TextRunConfig:
    """Reads a TOML file and applies `key=value` overrides.

    Raises:
        ConfigError: for an unreadable file, an unknown key or a value of another type.
        UsageError: for an override that is not `key=value`.
    """
    return from_plain(TextRunConfig, read_plain(path, overrides), where="config")
