"""From the served bundle to what `GET /v1/model` and `GET /v1/model/card` say of it."""

from __future__ import annotations

from models.bundle import Bundle
from models.channels import Channel, StaticKind, StaticVariable
from models.disclaimer import DISCLAIMER_EN, DISCLAIMER_JA
from models.record import to_plain
from models.scorer import Scorer
from service.schema_answers import ChannelFacts, ModelFacts, StaticFacts
from service.selection import Origin


def model_facts(scorer: Scorer, origin: Origin) -> ModelFacts:
    """Everything that a client needs in order to send a stay, and a reader in order to judge the model."""
    bundle = scorer.bundle
    used = set(bundle.encoding.channels.names)
    return ModelFacts(
        name=bundle.name,
        version=origin.version,
        digest=scorer.digest,
        source=str(origin.source),
        device=str(scorer.device),
        created=bundle.created,
        task=to_plain(bundle.task),
        outputs=list(bundle.task.output_names),
        channels=[_channel_facts(c) for c in bundle.channels if c.name in used],
        static=[_static_facts(s) for s in bundle.encoding.statics.variables],
        grid=to_plain(bundle.encoding.grid),
        reads_notes=bundle.notes is not None,
        members=[to_plain(member) for member in bundle.members],
        calibration={"method": str(bundle.calibration.method)},
        thresholds=bundle.thresholds,
        metrics=bundle.metrics,
        cohort=bundle.cohort,
        versions=bundle.versions,
        disclaimer=DISCLAIMER_EN,
        disclaimer_ja=DISCLAIMER_JA,
    )


def model_card(scorer: Scorer) -> str:
    """The artifact's own card, or one made of the bundle's facts; either holds the disclaimer."""
    card = scorer.card or _card_of(scorer.bundle, scorer.digest)
    if DISCLAIMER_EN in card:
        return card
    return f"{card}\n\n{DISCLAIMER_EN}\n\n{DISCLAIMER_JA}\n"


def _channel_facts(channel: Channel) -> ChannelFacts:
    return ChannelFacts(
        name=channel.name,
        title=channel.title,
        loinc=list(channel.loinc),
        unit=channel.unit,
        accepted_units=[channel.unit, *channel.accepts],
        hard_limits=channel.hard,
        soft_limits=channel.soft,
    )


def _static_facts(variable: StaticVariable) -> StaticFacts:
    numeric = variable.kind is StaticKind.NUMERIC
    return StaticFacts(
        name=variable.name,
        kind=str(variable.kind),
        unit=variable.unit if numeric else None,
        accepted_units=[variable.unit, *variable.accepts] if numeric else [],
        categories=list(variable.categories),
    )


def _members(bundle: Bundle) -> str:
    kinds = [member.network.cell if member.network else member.kind for member in bundle.members]
    return f"{len(kinds)} member{'s' if len(kinds) > 1 else ''} ({', '.join(map(str, kinds))})"


def _card_of(bundle: Bundle, digest: str) -> str:
    task = bundle.task
    horizons = ", ".join(f"{h:g} h" for h in task.horizons_h) or "by the end of the stay"
    figures = [
        f"| {model} | {name} | {figure['value']} | {figure['low']} | {figure['high']} |"
        for model, report in bundle.metrics.items()
        for name, figure in report["metrics"].items()
    ]
    return "\n".join(
        [
            f"# {bundle.name}",
            "",
            DISCLAIMER_EN,
            "",
            DISCLAIMER_JA,
            "",
            f"Predicts {task.description or task.outcome} ({task.kind}; {horizons}).",
            f"Reads {len(bundle.encoding.channels.names)} channels, {len(bundle.encoding.statics.variables)} static "
            f"variables{' and notes' if bundle.notes else ''}; {_members(bundle)}.",
            "",
            f"Made {bundle.created or 'at an unknown time'}; digest `{digest}`.",
            f"Trained on: {bundle.cohort.get('source', 'not stated')}; "
            f"licence: {bundle.cohort.get('licence', 'not stated')}.",
            "",
            "| model | figure | value | low | high |",
            "|---|---|---|---|---|",
            *figures,
            "",
        ]
    )
