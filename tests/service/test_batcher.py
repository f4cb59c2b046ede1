"""Steps that wait together are computed together, each stay's in order; what is too much or too late is refused."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.live import LiveModel
from models.live_input import LiveInput
from service.batcher import Batcher, BatchFacts
from service.errors import Problem, ProblemKind
from tests.support import save_small_model


class Doubling:
    """A step that waits until it is let go, and remembers its batches."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.begun = threading.Event()
        if not held:
            self.go.set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.begun.set()
        self.go.wait(10)
        self.batches.append(list(items))
        if 13 in items:
            raise ValueError("unlucky")
        return [2 * item for item in items]


def with_batcher(work: Callable[[Batcher], Awaitable[object]], **settings_: object) -> object:
    async def run() -> object:
        batcher = Batcher(**{"max_waiting": 100, "shared": False} | settings_)
        try:
            return await work(batcher)
        finally:
            await batcher.drain()

    return asyncio.run(run())


async def waiting(batcher: Batcher, count: int) -> None:
    while batcher.waiting < count:
        await asyncio.sleep(0)


async def held_steps(batcher: Batcher, step: Doubling, items: Sequence[tuple[int, object]]) -> list[asyncio.Task[int]]:
    """A first step that is being computed, and these behind it."""
    first = asyncio.create_task(batcher.step(step, 0, stay="first"))
    await asyncio.to_thread(step.begun.wait)
    tasks = [asyncio.create_task(batcher.step(step, item, stay=stay)) for item, stay in items]
    await waiting(batcher, len(items) + 1)
    return [first, *tasks]


def test_what_gathers_while_a_batch_is_computed_is_the_next_batch():
    step = Doubling(held=True)

    async def work(batcher: Batcher) -> list[int]:
        tasks = await held_steps(batcher, step, [(item, item) for item in range(1, 9)])
        step.go.set()
        return await asyncio.gather(*tasks)

    assert with_batcher(work) == [2 * item for item in range(9)]
    assert step.batches == [[0], list(range(1, 9))]


@settings(max_examples=60, deadline=None)
@given(stays=st.lists(st.integers(0, 3), max_size=20), most=st.integers(1, 6))
def test_a_stays_steps_keep_their_order_and_never_share_a_batch(stays, most):
    step = Doubling(held=True)
    items = [(100 * number + stay, stay) for number, stay in enumerate(stays, start=1)]

    async def work(batcher: Batcher) -> None:
        tasks = await held_steps(batcher, step, items)
        step.go.set()
        assert await asyncio.gather(*tasks) == [0, *(2 * item for item, _ in items)]

    with_batcher(work, max_batch=most)
    for batch in step.batches:
        assert len(batch) <= most
        assert len({item % 100 for item in batch}) == len(batch)
    computed = [item for batch in step.batches for item in batch][1:]
    for stay in range(4):
        assert [i for i in computed if i % 100 == stay] == [i for i, s in items if s == stay]


def test_steps_of_different_functions_never_share_a_batch():
    one, other = Doubling(held=True), Doubling()

    async def work(batcher: Batcher) -> None:
        tasks = await held_steps(batcher, one, [(1, None), (2, None)])
        tasks += [asyncio.create_task(batcher.step(other, item)) for item in (3, 4)]
        await waiting(batcher, 5)
        one.go.set()
        assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8]

    with_batcher(work)
    assert (one.batches, other.batches) == ([[0], [1, 2]], [[3, 4]])


def test_a_full_queue_refuses_with_the_time_to_try_again():
    step = Doubling(held=True)

    async def work(batcher: Batcher) -> None:
        tasks = await held_steps(batcher, step, [(1, None)])
        with pytest.raises(Problem) as refused:
            await batcher.step(step, 2)
        assert refused.value.status_code == 429
        assert int(refused.value.headers["Retry-After"]) >= 1
        step.go.set()
        assert await asyncio.gather(*tasks) == [0, 2]
        assert await batcher.step(step, 2) == 4

    with_batcher(work, max_waiting=2)


def test_what_waited_beyond_its_deadline_is_not_computed():
    step = Doubling(held=True)

    async def work(batcher: Batcher) -> None:
        first, late = await held_steps(batcher, step, [(1, None)])
        await asyncio.sleep(0.1)
        step.go.set()
        assert await first == 0
        with pytest.raises(Problem) as refused:
            await late
        assert refused.value.status_code == 503

    with_batcher(work, deadline_s=0.05)
    assert step.batches == [[0]]


def test_one_that_fails_fails_for_itself_alone():
    step = Doubling(held=True)

    async def work(batcher: Batcher) -> list[object]:
        tasks = await held_steps(batcher, step, [(1, None), (13, None), (2, None)])
        step.go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = with_batcher(work)
    assert [results[0], results[1], results[3]] == [0, 2, 4]
    assert isinstance(results[2], ValueError)


def test_one_who_no_longer_waits_is_left_out():
    step = Doubling(held=True)

    async def work(batcher: Batcher) -> None:
        first, gone, last = await held_steps(batcher, step, [(1, None), (2, None)])
        gone.cancel()
        await asyncio.sleep(0)
        step.go.set()
        assert await asyncio.gather(first, last) == [0, 4]

    with_batcher(work)
    assert step.batches == [[0], [2]]


def test_calls_go_between_batches_and_raise_what_they_raise():
    async def work(batcher: Batcher) -> None:
        assert await batcher.run(max, 3, 5) == 5
        with pytest.raises(ZeroDivisionError):
            await batcher.run(divmod, 1, 0)

    with_batcher(work)


def test_steps_do_not_starve_calls_nor_calls_steps():
    step, order = Doubling(held=True), []

    async def work(batcher: Batcher) -> None:
        tasks = await held_steps(batcher, step, [(1, "a"), (2, "a"), (3, "a")])
        calls = [asyncio.create_task(batcher.run(order.append, len(step.batches))) for _ in range(2)]
        await waiting(batcher, 6)
        step.go.set()
        await asyncio.gather(*tasks, *calls)

    with_batcher(work)
    assert len(order) == 2
    assert step.batches == [[0], [1], [2], [3]]


def test_an_idle_queue_waits_for_no_timer():
    async def work(batcher: Batcher) -> float:
        step = Doubling()
        await batcher.step(step, 0)
        began = time.perf_counter()
        for item in range(20, 70):
            await batcher.step(step, item)
        return (time.perf_counter() - began) / 50

    assert with_batcher(work) < 0.02


def test_a_drain_answers_all_who_wait_and_takes_no_more():
    step = Doubling(held=True)

    async def work(batcher: Batcher) -> None:
        tasks = await held_steps(batcher, step, [(1, None), (2, None)])
        draining = asyncio.create_task(batcher.drain())
        await asyncio.sleep(0.05)
        with pytest.raises(Problem) as refused:
            await batcher.step(step, 3)
        assert refused.value.status_code == 503
        step.go.set()
        await draining
        assert await asyncio.gather(*tasks) == [0, 2, 4]

    with_batcher(work)


def test_batches_are_counted():
    seen: list[BatchFacts] = []
    with_batcher(lambda batcher: batcher.step(Doubling(), 1), observe=seen.append)
    assert [facts.size for facts in seen] == [1]
    assert len(seen[0].waited_s) == 1
    assert seen[0].computed_s >= 0


def test_a_score_does_not_depend_on_who_shares_the_batch(tmp_path):
    small = save_small_model(tmp_path / "model", trees=True)
    model = LiveModel(small.scorer())
    states = model.start(small.cohort.stays.select(range(30)))
    inputs = [LiveInput(10 + i, [i % 5, 7], [60.0 + i, 2.0]) for i in range(30)]

    def risks(items: Sequence[tuple[bytes, LiveInput]]) -> list[np.ndarray]:
        return list(model.step([state for state, _ in items], [entering for _, entering in items]).risk)

    async def work(batcher: Batcher) -> list[np.ndarray]:
        return await asyncio.gather(*(batcher.step(risks, item) for item in zip(states, inputs, strict=True)))

    alone = [risks([item])[0] for item in zip(states, inputs, strict=True)]
    together = with_batcher(work)
    assert np.abs(np.stack(together) - np.stack(alone)).max() <= 1e-6


def test_whole_stays_that_wait_together_are_computed_together_and_few_at_once():
    score = Doubling(held=True)

    async def work(batcher: Batcher) -> None:
        first = asyncio.create_task(batcher.whole(score, 0))
        await asyncio.to_thread(score.begun.wait)
        others = [asyncio.create_task(batcher.whole(score, item)) for item in range(1, 6)]
        await waiting(batcher, 6)
        score.go.set()
        assert await asyncio.gather(first, *others) == [0, 2, 4, 6, 8, 10]

    with_batcher(work, max_whole=3)
    assert score.batches == [[0], [1, 2, 3], [4, 5]]


def test_steps_and_whole_stays_take_turns():
    score, step = Doubling(held=True), Doubling()

    async def work(batcher: Batcher) -> None:
        first = asyncio.create_task(batcher.whole(score, 0))
        await asyncio.to_thread(score.begun.wait)
        others = [asyncio.create_task(batcher.whole(score, item)) for item in (1, 2)]
        stepping = asyncio.create_task(batcher.step(ordered(step, "step"), 7))
        await waiting(batcher, 4)
        score.go.set()
        await asyncio.gather(first, *others, stepping)

    order: list[str] = []

    def ordered(inner: Doubling, name: str) -> Callable[[Sequence[int]], list[int]]:
        def run(items: Sequence[int]) -> list[int]:
            order.append(name)
            assert len(score.batches) == 1
            return inner(items)

        return run

    with_batcher(work, max_whole=1)
    assert order == ["step"]
    assert score.batches == [[0], [1], [2]]


def test_a_result_that_is_an_error_is_raised_for_its_item_alone():
    calls: list[int] = []

    def score(items: Sequence[int]) -> list[int | Problem]:
        calls.append(len(items))
        return [Problem(422, ProblemKind.INVALID_INPUT, "no") if item == 1 else item for item in items]

    async def work(batcher: Batcher) -> list[object]:
        return await asyncio.gather(*(batcher.whole(score, item) for item in range(3)), return_exceptions=True)

    first, refused, last = with_batcher(work)
    assert (first, last) == (0, 2)
    assert isinstance(refused, Problem)
    assert sum(calls) == 3


def test_an_idle_event_loop_computes_the_steps_that_arrive_together_itself():
    threads: list[int] = []

    def step(items: Sequence[int]) -> list[int]:
        threads.append(threading.get_ident())
        return [2 * item for item in items]

    async def work(batcher: Batcher) -> list[int]:
        return await asyncio.gather(*(batcher.step(step, item, stay=item) for item in range(5)))

    assert with_batcher(work, shared=True) == [0, 2, 4, 6, 8]
    assert threads == [threading.get_ident()]


def test_the_thread_computes_what_would_hold_the_event_loop_up():
    threads: list[int] = []

    def slow(items: Sequence[int]) -> list[int]:
        threads.append(threading.get_ident())
        busy = time.thread_time()
        while time.thread_time() - busy < 0.02 * len(items):
            pass
        return list(items)

    async def work(batcher: Batcher) -> None:
        for item in range(3):
            await batcher.step(slow, item)

    with_batcher(work, shared=True)
    own = threading.get_ident()
    assert [thread == own for thread in threads] == [True, False, False]


def test_one_device_computes_one_thing_at_a_time_whoever_computes_it():
    at_once, most = 0, 0

    def counted(items: Sequence[int]) -> list[int]:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        time.sleep(0.001)
        at_once -= 1
        return list(items)

    async def work(batcher: Batcher) -> None:
        steps = [batcher.step(counted, item, stay=item % 7) for item in range(60)]
        whole = [batcher.whole(counted, item) for item in range(60)]
        calls = [batcher.run(counted, [item]) for item in range(20)]
        found = await asyncio.gather(*steps, *whole, *calls)
        assert found == [*range(60), *range(60), *([item] for item in range(20))]

    with_batcher(work, shared=True, max_batch=4, max_waiting=200)
    assert most == 1
