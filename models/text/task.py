"""What a model of texts predicts: the kind of task and its labels in, the network's outputs and their names out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from models.errors import ConfigError
from models.task import LabelScope, TargetKind, TaskSpec


class TextTaskKind(StrEnum):
    """One label a document, any number of labels a document, or a label at every token."""

    CLASSIFICATION = "classification"
    MULTILABEL = "multilabel"
    TAGGING = "tagging"


@dataclass(frozen=True)
class TextTask:
    """The task of a model of texts; travels inside the artifact.

    Args:
        kind: what is labelled.
        labels: names of the labels, in the order of the outputs; left empty in a configuration, they are the corpus's.
        language: of the documents: `en`, `ja` or empty.
        description: what is predicted, in words, for answers and cards.
    """

    kind: TextTaskKind = TextTaskKind.CLASSIFICATION
    labels: tuple[str, ...] = ()
    language: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        """Refuses labels that occur twice, and a single class."""
        if len(set(self.labels)) != len(self.labels):
            raise ConfigError("task.labels must name each label once, got one twice; drop the second")
        if self.kind is TextTaskKind.CLASSIFICATION and len(self.labels) == 1:
            raise ConfigError(
                "task.labels must be two or more for a classification, got one; add the other, or choose multilabel"
            )

    def spec(self, name: str) -> OutputsTask:
        """The same task as the training loop reads it: targets of the document's tokens.

        Args:
            name: of the model.
        """
        if self.kind is TextTaskKind.MULTILABEL:
            return OutputsTask(name, kind=TargetKind.BINARY, columns=self.labels)
        scope = LabelScope.STEP if self.kind is TextTaskKind.TAGGING else LabelScope.STAY
        return OutputsTask(name, kind=TargetKind.MULTICLASS, scope=scope, classes=self.labels, columns=self.labels)


@dataclass(frozen=True)
class OutputsTask(TaskSpec):
    """A task whose outputs have names of their own.

    Args:
        columns: names of what is predicted, one output each.
    """

    columns: tuple[str, ...] = ()

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the network's outputs, in order."""
        return self.columns
