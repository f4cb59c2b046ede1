"""The models that answer, each with all that the routes need of it, and which of them answers for whom."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

import orjson

from models.scorer import Scorer
from service.batcher import Batcher
from service.errors import Problem, ProblemKind
from service.facts import model_card, model_facts
from service.live.stepper import Stepper
from service.schema_answers import ModelFacts
from service.scoring import StayScoring
from service.selection import Origin
from service.settings import Settings

NO_STAYS = "The service must have a model of stays for this; the operator names one in SEQUELA_MODEL."


@dataclass(frozen=True, eq=False)
class Served:
    """One verified model.

    Args:
        scoring: scores whole stays.
        stepper: steps live ones.
        facts: what `/v1/model` says.
        card: what `/v1/model/card` says.
    """

    scoring: StayScoring
    stepper: Stepper
    facts: ModelFacts
    card: str

    @classmethod
    def of(cls, scorer: Scorer, origin: Origin, settings: Settings, inference: Batcher) -> Served:
        """A loaded model."""
        scoring, stepper = StayScoring(scorer, origin, settings), Stepper(scorer, origin, inference)
        return cls(scoring, stepper, model_facts(scorer, origin), model_card(scorer))

    @property
    def digest(self) -> str:
        """Of its artifact."""
        return self.facts.digest

    @property
    def version(self) -> str:
        """In the registry; empty for a folder's."""
        return self.facts.version or ""

    async def warm_up(self, inference: Batcher) -> None:
        """Scores once and steps once, so that no request pays for what is set up then."""
        await inference.run(self.scoring.warm_up)
        await self.stepper.warm_up()


class Phase(StrEnum):
    """Where a change of model stands."""

    STEADY = "steady"
    SHADOW = "shadow"
    SWITCHING = "switching"
    KEEPING = "keeping"


@dataclass(eq=False)
class Place:
    """What one name of a model means at this moment.

    Args:
        model: the name, as the settings give it.
        current: answers; None where there is no verified model yet.
        aside: a newer model that is tried beside it, or the one before, which is kept; None for neither.
        phase: says which of the two, and whether stays still change.
        refused: version that was refused last; empty once another one answers.
    """

    model: str
    current: Served | None
    aside: Served | None = None
    phase: Phase = Phase.STEADY
    refused: str = ""


@dataclass(frozen=True)
class Arms:
    """Divides patients between two models: the same patient always falls to the same one.

    Args:
        share: of the patients that fall to the challenger.
        key: of the hash, so that nobody who chooses an identifier can choose the model.
        separator: what stands before it in a stay's identifier is the patient; empty: the whole identifier is.
    """

    share: float = 0.0
    key: bytes = b""
    separator: str = ""

    def challenged(self, stay_id: str) -> bool:
        """Whether the stay's patient falls to the challenger.

        Example:
            >>> arms = Arms(0.5, b"a key of the ward", separator=":")
            >>> arms.challenged("patient-7:first") == arms.challenged("patient-7:second")
            True
        """
        patient = stay_id.partition(self.separator)[0] if self.separator else stay_id
        found = hashlib.blake2b(patient.encode("utf-8", "surrogatepass"), key=self.key, digest_size=8).digest()
        return int.from_bytes(found, "big") < self.share * 2**64


class Models:
    """Which model answers.

    Args:
        champion: the place of `SEQUELA_MODEL`; without a name where documents alone are served.
        challenger: the place of `SEQUELA_CHALLENGER`.
        arms: which patients fall to it.
    """

    def __init__(self, champion: Place, challenger: Place | None = None, arms: Arms | None = None) -> None:
        self.champion, self.challenger, self._arms = champion, challenger, arms or Arms()

    @property
    def places(self) -> list[Place]:
        """All places that have a name."""
        return [place for place in (self.champion, self.challenger) if place is not None and place.model]

    @property
    def first(self) -> Served:
        """The champion.

        Raises:
            Problem: 503 where there is none, because documents alone are served.
        """
        current = self.champion.current
        if current is None:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, ProblemKind.UNAVAILABLE, NO_STAYS)
        return current

    def place(self, stay_id: str | None) -> Place:
        """Where the model of a stay stands; the champion's for a stay without an identifier."""
        other = self.challenger
        if stay_id and other is not None and other.current is not None and self._arms.challenged(stay_id):
            return other
        return self.champion

    def chosen(self, stay_id: str | None) -> Served:
        """The model that answers for a stay."""
        return self.place(stay_id).current or self.first

    def place_of(self, body: bytes) -> Place:
        """Where the model of a request to `/v1/score` stands; a body that does not hold is refused later."""
        if self.challenger is None:
            return self.champion
        try:
            stay_id = orjson.loads(body)["stay_id"]
        except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
            return self.champion
        return self.place(stay_id if isinstance(stay_id, str) else None)
