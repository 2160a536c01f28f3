"""The formulas of docs/scaling.rst."""

from dataclasses import replace

import pytest

from benchmarks.cost_model import Constants, Work, best_n_workers, computing_s, n_combining_tasks, n_levels, predict

CONSTANTS = Constants(round_s=0.01, task_s=0.003, call_s=0.002, bytes_per_s=1e9, n_cores=10_000)
ROUND = Work("rounds", n_rows=300_000_000, row_s=1e-6, busy_row_s=1e-6, state_bytes=0, part_bytes=0)
EPOCH = replace(ROUND, step_rows=100_000)


def test_processes_share_the_cores():
    work = replace(ROUND, n_rows=1000, row_s=1.0, busy_row_s=1.5)
    assert [computing_s(work, n, n_cores=2) for n in (1, 2, 4, 8)] == [1000.0, 750.0, 750.0, 750.0]


@pytest.mark.parametrize("n_parts, tasks, levels", [(1, 0, 0), (16, 0, 0), (17, 2, 1), (256, 16, 1), (1000, 63 + 4, 2)])
def test_parts_are_combined_sixteen_at_a_time_until_the_client_takes_them(n_parts, tasks, levels):
    assert (n_combining_tasks(n_parts), n_levels(n_parts)) == (tasks, levels)


def test_a_round_is_rows_messages_and_tasks():
    assert predict(ROUND, CONSTANTS, 10) == pytest.approx(30 + 0.01 + 10 * 0.003)
    sent = replace(ROUND, state_bytes=1e8, part_bytes=2e8)
    assert predict(sent, CONSTANTS, 10) == pytest.approx(predict(ROUND, CONSTANTS, 10) + 10 * 0.1 + 10 * 0.2)


def test_no_number_of_workers_is_faster_than_the_best():
    best = round(best_n_workers(ROUND, CONSTANTS))
    assert best == 316
    seconds = {n: 300 / n + 0.003 * n for n in range(1, 1000)}
    assert min(seconds, key=seconds.get) == best
    assert seconds[best // 2] == pytest.approx(1.25 * seconds[best], rel=0.01)


def test_an_epoch_takes_no_less_than_the_calls_of_the_store_s_host():
    calls_s = 300_000_000 / 100_000 * 0.002
    assert predict(EPOCH, CONSTANTS, 1) == pytest.approx(300 + calls_s + 0.01)
    assert predict(EPOCH, CONSTANTS, 1000) == pytest.approx(calls_s + 0.01)
    assert best_n_workers(EPOCH, CONSTANTS) == pytest.approx(50)
