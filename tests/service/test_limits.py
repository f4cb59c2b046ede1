import time

import pytest

from models.errors import ConfigError
from service.errors import Problem
from service.keys import Scope, make_key
from service.limits import RateLimits, parse_rate

KEY, _ = make_key("ward", [Scope.SCORE])


def refusals(limits, key, tries):
    refused = []
    for _ in range(tries):
        try:
            limits.admit(key)
        except Problem as problem:
            refused.append(problem)
    return refused


def admitted(limits, key, tries):
    return tries - len(refusals(limits, key, tries))


def test_a_refusal_says_when_to_come_back():
    refused = refusals(RateLimits("5/minute"), KEY, 10)
    assert [p.status_code for p in refused] == [429] * 5
    assert all(1 <= int(p.headers["Retry-After"]) <= 120 for p in refused)


@pytest.mark.parametrize("amount", [1, 7, 100, 1234])
def test_a_key_gets_its_share_and_not_one_more(amount):
    assert admitted(RateLimits(f"{amount}/hour"), KEY, amount + 50) == amount


def test_one_key_does_not_use_up_anothers_share():
    limits = RateLimits("5/hour")
    other, _ = make_key("other", [Scope.SCORE])
    assert admitted(limits, KEY, 10) == 5
    assert admitted(limits, other, 10) == 5


def test_a_rate_of_its_own_goes_before_the_services():
    own, _ = make_key("own", [Scope.SCORE], rate="2/hour")
    assert admitted(RateLimits("50/hour"), own, 10) == 2


def test_waiting_as_long_as_told_is_enough():
    limits = RateLimits("3/second")
    refused = refusals(limits, KEY, 20)
    time.sleep(int(refused[-1].headers["Retry-After"]) + 1.0)
    assert refusals(limits, KEY, 1) == []


@pytest.mark.parametrize("words", ["", "many", "5", "5/fortnight", "-5/second"])
def test_other_words_for_a_rate_are_refused(words):
    with pytest.raises(ConfigError, match="rate must"):
        parse_rate(words)
