"""A registered version and a site's own cohort in, what a training takes over from that version out.

The weights mean something under the version's own encoding alone, so the new run takes encoding, tokenizer, channels,
shape and weights of every member, and trains on with its own settings on local patients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from models.bundle import Bundle
from models.encoding import Encoding, EncodingConfig
from models.ensemble import Member
from models.errors import ConfigError, DataError, RefusedError
from models.network import NetworkConfig
from models.notes import NotesConfig
from models.record import from_plain, to_plain
from models.scorer import Scorer
from models.stay import Ints
from models.task import TargetKind
from pipelines.cohort import Cohort
from pipelines.config import RunConfig
from pipelines.ensemble_config import EnsembleConfig
from pipelines.evaluate import evaluate
from pipelines.origin import seen_cohorts
from pipelines.score_cohort import labelled_scores

PARENT = "parent"
# Tables of the configuration that say what the weights are.
TAKEN: dict[str, type[Any]] = {
    "encoding": EncodingConfig,
    "notes": NotesConfig,
    "network": NetworkConfig,
    "ensemble": EnsembleConfig,
}


@dataclass(frozen=True)
class Parent:
    """The version from which a training starts.

    Args:
        scorer: the model.
        address: of the version, for people.
    """

    scorer: Scorer
    address: str

    @property
    def bundle(self) -> Bundle:
        """Its facts."""
        return self.scorer.bundle

    @property
    def encoding(self) -> Encoding:
        """Its fitted encoding."""
        return self.bundle.encoding

    def member(self, number: int) -> Member:
        """One of its members."""
        return list(self.scorer.network)[number]

    def weights(self, number: int) -> dict[str, Tensor]:
        """Weights of one of its networks, on the CPU."""
        return {name: t.detach().cpu().clone() for name, t in self.member(number).state_dict().items()}

    def facts(self, cohort: dict[str, Any]) -> dict[str, Any]:
        """Facts of the local cohort with those of what the weights saw before."""
        old = self.bundle
        licences = dict.fromkeys(x for x in (str(old.cohort.get("licence", "")), str(cohort["licence"])) if x)
        return {
            **cohort,
            "licence": "; ".join(licences),
            "warm_started_from": {"name": old.name, "digest": self.scorer.digest, "created": old.created},
            "trained_on": old.cohort,
        }


def inherited_config(config: RunConfig, parent: Parent) -> RunConfig:
    """The run's configuration with the tables that say what the parent's weights are.

    Args:
        config: of the run.
        parent: where it starts.

    Raises:
        ConfigError: if the run has another task, pre-trains, or the parent does not tell its shape.
    """
    bundle = parent.bundle
    if replace(config.task, description="") != replace(bundle.task, description=""):
        raise ConfigError(
            f"task must be the parent's ({bundle.task.outcome}, {bundle.task.kind}, {bundle.task.scope}), got another; "
            "take its [task] table, or train without --warm-start"
        )
    if config.task.kind is TargetKind.REGRESSION:
        raise ConfigError(
            "task.kind must be binary or multiclass for a warm start, got regression, whose weights are in the "
            "scale of the parent's patients; train without --warm-start"
        )
    if config.pretraining.epochs:
        raise ConfigError(
            f"pretraining.epochs must be 0 with a warm start, got {config.pretraining.epochs}; the weights are given"
        )
    known = {name: table for name, table in bundle.config.items() if name in TAKEN}
    tables = {name: from_plain(TAKEN[name], table, where=f"parent's {name}") for name, table in known.items()}
    taken = replace(config, **tables)
    _check_shape(taken, bundle)
    return taken


def _check_shape(config: RunConfig, bundle: Bundle) -> None:
    """Refuses a parent whose members are others than its configuration says."""
    wanted, given = config.ensemble.specs(config.network, config.seed), bundle.members
    shapes = [[(m.kind, m.weight, m.network) for m in members] for members in (wanted, given)]
    if shapes[0] != shapes[1]:
        raise ConfigError(
            "parent must hold the members that its configuration names, got others; start from a version that "
            "`sequela train` registered"
        )


def check_local(cohort: Cohort, parent: Parent, say: Callable[[str], None]) -> None:
    """Refuses a cohort that the parent's encoding would misread, and says what of it is not used.

    Args:
        cohort: the local patients.
        parent: where the run starts.
        say: receives lines for people.

    Raises:
        RefusedError: if it is the cohort that the parent was trained on.
        DataError: if a channel or static variable is declared in another way.
    """
    bundle = parent.bundle
    if cohort.fingerprint in seen_cohorts(bundle.cohort):
        raise RefusedError(
            "cohort must be another one than the parent was trained on, got that one; its patients are no new evidence"
        )
    units = {c.name: c.unit for c in bundle.channels}
    statics = {s.name: to_plain(s) for s in bundle.statics}
    odd = [c.name for c in cohort.channels if units.get(c.name, c.unit) != c.unit]
    odd += [s.name for s in cohort.statics if statics.get(s.name, to_plain(s)) != to_plain(s)]
    if odd:
        raise DataError(
            f"cohort must declare channels and static variables as the parent does, got others for {', '.join(odd)}; "
            "prepare it with the parent's units and categories"
        )
    never = parent.encoding.never_observed(cohort.stays)
    unused = [c.name for c in cohort.channels if c.name not in parent.encoding.channels.names]
    say(f"  starts from {parent.address}, {parent.scorer.digest[:23]}: its encoding, shape and weights")
    if never:
        say(f"  never observed here, of the parent's channels: {', '.join(never)}")
    if unused:
        say(f"  not used, as the parent does not know them: {', '.join(unused)}")


def parent_figures(parent: Parent, cohort: Cohort, holdout: Ints, config: RunConfig) -> dict[str, Any]:
    """Figures of the parent as it is, with its own calibration and thresholds, on the local hold-out."""
    scores = labelled_scores(parent.scorer, cohort, holdout)
    return evaluate(scores, config.task, config.evaluation, thresholds=parent.bundle.thresholds)
