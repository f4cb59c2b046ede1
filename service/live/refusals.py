"""Why a call on a live stay cannot be made durable in, how it is refused out."""

from __future__ import annotations

import logging
from http import HTTPStatus

from service.errors import Problem, ProblemKind
from service.live.store import StoreError
from service.logs import Event, log_event


def no_such_stay() -> Problem:
    """The refusal of a call on a stay that there is not."""
    return Problem(HTTPStatus.NOT_FOUND, ProblemKind.NOT_FOUND, "There must be such a stay; PUT it first.")


def unavailable(error: StoreError) -> Problem:
    """The refusal of a call while the store fails; the log says why, in the store's own words."""
    log_event(Event.STORE_FAILED, level=logging.ERROR, reason=str(error))
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        ProblemKind.UNAVAILABLE,
        "The store of live stays fails, and no score is given that is not stored. Send the call again, with the same "
        "Idempotency-Key or observation_ids: nothing counts twice.",
        headers={"Retry-After": "1"},
    )


def still_running() -> Problem:
    """The refusal of a call with the key of one that has no answer yet."""
    return Problem(HTTPStatus.CONFLICT, ProblemKind.CONFLICT, "A call with this Idempotency-Key is still running.")


def busy() -> Problem:
    """The refusal of a call on a stay that others change faster."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        ProblemKind.BUSY,
        "Others change the stay all the time; try again.",
        headers={"Retry-After": "1"},
    )


def other_body() -> Problem:
    """The refusal of a call with the key of one that had another body."""
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        ProblemKind.REPEAT_KEY,
        "The Idempotency-Key must be a new one for another body.",
    )
