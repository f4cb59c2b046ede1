import asyncio
import threading

import pytest
import torch

from service.errors import Problem
from service.inference import InferenceThread


def test_all_work_runs_in_one_thread_of_its_own_with_one_core():
    async def names():
        inference = InferenceThread(max_waiting=16)
        found = await asyncio.gather(
            *(inference.run(lambda: (threading.current_thread().name, torch.get_num_threads())) for _ in range(8))
        )
        inference.close()
        return set(found)

    assert asyncio.run(names()) == {("inference_0", 1)}


def test_the_event_loop_goes_on_while_the_thread_works():
    async def beats():
        inference = InferenceThread(max_waiting=1)
        go_on = threading.Event()
        working = asyncio.create_task(inference.run(go_on.wait, 10))
        count = 0
        for _ in range(5):
            await asyncio.sleep(0.001)
            count += 1
        go_on.set()
        done = await working
        inference.close()
        return count, done

    assert asyncio.run(beats()) == (5, True)


def test_a_call_beyond_the_limit_is_refused_and_the_place_is_given_back():
    async def calls():
        inference = InferenceThread(max_waiting=1)
        go_on = threading.Event()
        first = asyncio.create_task(inference.run(go_on.wait, 10))
        await asyncio.sleep(0)
        with pytest.raises(Problem) as caught:
            await inference.run(int)
        go_on.set()
        await first
        after = await inference.run(int)
        inference.close()
        return caught.value.status_code, after

    assert asyncio.run(calls()) == (503, 0)
