"""From a key and the moment to whether one more request of it is admitted, and if not, how long it shall wait.

Counts lie in this process: several replicas admit each its own share, so set the limit to a share where that matters.
"""

from __future__ import annotations

import math
import time
from http import HTTPStatus

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from models.errors import ConfigError
from service.errors import Problem, ProblemKind
from service.keys import ApiKey


def parse_rate(text: str) -> RateLimitItem:
    """A limit in words, such as `100/second` or `6000/minute`.

    Raises:
        ConfigError: for other words.
    """
    try:
        return parse(text)
    except ValueError:
        raise ConfigError(
            "rate must be a number per second, minute, hour or day, got other words; write 100/second"
        ) from None


class RateLimits:
    """Counts the requests of every key over a sliding window.

    A key with a large share takes one hundredth of it at once, and requests are then paid from that: the window is
    exact to one hundredth, and asked a hundred times less often.

    Args:
        default: the limit of a key that has none of its own.
    """

    def __init__(self, default: str) -> None:
        self._default = parse_rate(default)
        self._parsed: dict[str, RateLimitItem] = {}
        self._paid: dict[str, int] = {}
        self._window = SlidingWindowCounterRateLimiter(MemoryStorage())

    def admit(self, key: ApiKey) -> None:
        """Counts one request.

        Raises:
            Problem: 429 with `Retry-After`, if the key has had its share.
        """
        paid = self._paid.get(key.id, 0)
        if paid:
            self._paid[key.id] = paid - 1
            return
        limit = self._default if key.rate is None else self._own(key.rate)
        for share in sorted({max(1, limit.amount // 100), 1}, reverse=True):
            if self._window.hit(limit, key.id, cost=share):
                self._paid[key.id] = share - 1
                return
        wait = self._window.get_window_stats(limit, key.id).reset_time - time.time()
        raise Problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            ProblemKind.RATE_LIMITED,
            "This key has made as many requests as it may; try again later.",
            headers={"Retry-After": str(max(1, math.ceil(wait)))},
        )

    def _own(self, rate: str) -> RateLimitItem:
        if rate not in self._parsed:
            self._parsed[rate] = parse_rate(rate)
        return self._parsed[rate]
