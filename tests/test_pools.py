"""Pools are held to one thread while anybody is inside, and are then what they were."""

import threading
from contextlib import ExitStack

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from dparallel.pools import one_thread


def threads_of_blas():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


@pytest.fixture
def two_threads():
    np.ones((2, 2)) @ np.ones((2, 2))
    with threadpool_limits(2, user_api="blas"):
        before = threads_of_blas()
        if not before or set(before) == {1}:
            pytest.skip("this BLAS has no threads")
        yield before


def test_a_pool_is_what_it_was_whoever_leaves_first(two_threads):
    first, second = ExitStack(), ExitStack()
    first.enter_context(one_thread("blas"))
    second.enter_context(one_thread("blas"))
    first.close()
    assert set(threads_of_blas()) == {1}
    second.close()
    assert threads_of_blas() == two_threads


def test_a_pool_is_what_it_was_after_an_error_in_one_of_many_threads(two_threads):
    gate = threading.Barrier(8)
    seen = []

    def visit(number):
        gate.wait(10)
        for _ in range(20):
            try:
                with one_thread("blas"):
                    if number == 3:
                        raise ArithmeticError
            except ArithmeticError:
                seen.append(number)

    threads = [threading.Thread(target=visit, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert seen == [3] * 20
    assert threads_of_blas() == two_threads
