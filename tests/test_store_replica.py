"""Replica and Mirror on one event loop, without a cluster: who answers when, and what a backup has by then."""

import asyncio
from collections import Counter

import numpy as np
import pytest

from dparallel.errors import ConsistencyError, StoreError
from dparallel.store import replica as replicas
from dparallel.store.messages import Finish, Request, Seat, decode
from dparallel.store.optimizers import Momentum
from dparallel.store.replica import Replica
from dparallel.store.shard import ParameterShard, Update

FIRST, SECOND = Seat("tcp://first:1", "host"), Seat("tcp://second:1", "host")


class Site:
    """Replicas of one shard that call each other; what is sent to one can be held up, or lost."""

    def __init__(self):
        self.replicas = {seat: Replica(0, self, Counter()) for seat in (FIRST, SECOND)}
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.is_cut = False
        self.sent = []
        self.n_alarms = 0
        self.newest = 0

    async def call(self, seat, method, number, *arguments):
        self.sent.append((method, arguments))
        await self.is_open.wait()
        if self.is_cut:
            raise ConnectionError("cut")
        return await getattr(self.replicas[seat], method)(*arguments)

    async def compute(self, function, *arguments):
        return function(*arguments)

    async def newest_epoch(self, number, epoch):
        return self.newest or epoch

    def alarm(self):
        self.n_alarms += 1

    async def begin(self, with_backup=True, **options):
        shard = ParameterShard({"w": np.zeros(3)}, {"w": Momentum(0.1, 0.9)}, **options)
        first, second = self.replicas.values()
        await first.install(1, "primary", 0, shard.state(), False)
        if with_backup:
            assert await first.set_backup(1, SECOND)
        return first, second


def push(number, partition=0, clock=None, epoch=1):
    step = (partition, number if clock is None else clock)
    return Request(epoch, (Update(step, {"w": np.full(3, float(number + 1))}),))


def run(test):
    """Run a coroutine function of a Site as a test."""

    def call():
        async def start():
            await asyncio.wait_for(test(Site()), 20)

        asyncio.run(start())

    call.__name__, call.__doc__ = test.__name__, test.__doc__
    return call


async def pause():
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


def values_of(replica):
    return replica._shard.pull().values["w"]


def is_equal(first, second):
    arrays, document = first._shard.state()
    others, other_document = second._shard.state()
    return document == other_document and all((arrays[key] == others[key]).all() for key in arrays)


@run
async def test_a_backup_equals_its_primary_after_every_answer(site):
    first, second = await site.begin()
    for number in range(20):
        answer = await first.exchange(push(number))
        assert (answer.status, answer.version) == ("ok", number + 1)
        assert is_equal(first, second)
    assert (await first.exchange(push(3))).version == 20  # came before


@run
async def test_what_comes_while_a_message_is_under_way_travels_together_in_the_next(site):
    first, second = await site.begin()
    site.sent.clear()
    site.is_open.clear()
    pushing = [asyncio.ensure_future(first.exchange(push(0)))]
    await pause()
    pushing += [asyncio.ensure_future(first.exchange(push(number))) for number in range(1, 30)]
    await pause()
    assert not any(task.done() for task in pushing)  # nothing is acknowledged that the backup lacks
    site.is_open.set()
    assert {answer.status for answer in await asyncio.gather(*pushing)} == {"ok"}
    assert [len(decode(arguments[2])) for _, arguments in site.sent] == [1, 29]
    assert is_equal(first, second)


@run
async def test_a_duplicate_is_acknowledged_no_sooner_than_the_first(site):
    first, _ = await site.begin()
    site.is_open.clear()
    pushing = [asyncio.ensure_future(first.exchange(push(0))) for _ in range(2)]
    await pause()
    assert not any(task.done() for task in pushing)
    site.is_open.set()
    assert [answer.version for answer in await asyncio.gather(*pushing)] == [1, 1]


@run
async def test_a_pull_shows_nothing_that_the_backup_lacks(site):
    first, _ = await site.begin()
    site.is_open.clear()
    pushing = asyncio.ensure_future(first.exchange(push(0)))
    pulling = asyncio.ensure_future(first.exchange(Request(1, names=None)))
    await pause()
    assert not pulling.done()
    site.is_open.set()
    assert (await pulling).snapshot.version == (await pushing).version == 1


@run
async def test_a_lost_backup_raises_the_alarm_and_pushes_wait_until_it_is_given_up(site):
    first, second = await site.begin()
    site.is_cut = True
    pushing = asyncio.ensure_future(first.exchange(push(0)))
    await pause()
    assert site.n_alarms
    assert first.report().is_broken
    assert not pushing.done()
    assert await first.set_backup(1, None)
    assert (await pushing).status == "ok"
    site.is_cut = False
    assert await first.set_backup(1, SECOND)  # the state goes again
    await first.exchange(push(1))
    assert is_equal(first, second)


@run
async def test_what_is_pushed_while_a_backup_is_filled_reaches_it(site):
    first, second = await site.begin(with_backup=False)
    await first.exchange(push(0))
    site.is_open.clear()
    filling = asyncio.ensure_future(first.set_backup(1, SECOND))
    await pause()
    for number in range(1, 4):
        assert (await first.exchange(push(number))).status == "ok"  # does not wait: it would save nothing
    site.is_open.set()
    assert await filling
    await first.exchange(push(4))
    assert is_equal(first, second)


@run
async def test_a_primary_that_was_replaced_finds_out_and_acknowledges_nothing(site):
    first, second = await site.begin()
    await first.exchange(push(0))
    assert await second.promote(2)
    assert (await first.exchange(push(1))).status == "moved"
    assert first.role == "deposed"
    assert (await first.exchange(Request(1, names=None))).status == "moved"
    assert (await second.exchange(push(1))).status == "moved"  # it has another epoch now
    assert (await second.exchange(push(1, epoch=2))).version == 2


@run
async def test_a_primary_without_backup_that_was_replaced_finds_out_by_the_board(site):
    first, _ = await site.begin(with_backup=False)
    site.newest = 2
    assert (await first.exchange(push(0))).status == "moved"
    assert first.role == "deposed"
    site.newest = -1  # nobody knows
    second = site.replicas[SECOND]
    await second.install(3, "primary", 0, first._shard.state(), False)
    assert (await second.exchange(push(1, epoch=3))).status == "moved"
    assert second.role == "primary"


@run
async def test_older_orders_are_refused_and_orders_may_come_twice(site):
    first, second = await site.begin()
    state = first._shard.state()
    assert await second.follow(0, 1, []) == (False, 1)
    assert (await second.follow(1, 5, [push(0).entries[0]]))[0] is False  # something is missing in between
    assert [await second.promote(2), await second.promote(2), await second.promote(1)] == [True, True, False]
    assert await second.install(1, "backup", 0, state, False) == (False, 2)
    assert await second.install(2, "backup", 0, state, False) == (False, 2)
    assert not await second.set_backup(1, FIRST)
    assert await second.install(3, "backup", 0, state, False) == (True, 3)


@run
async def test_a_bad_update_is_refused_and_those_before_it_reach_the_backup(site):
    first, second = await site.begin()
    good, bad = push(0).entries[0], Update((0, 1), {"v": np.zeros(3)})
    with pytest.raises(StoreError, match="no array 'v'"):
        await first.exchange(Request(1, (good, bad, push(2).entries[0])))
    await first.exchange(Request(1))
    assert first.sequence == second.sequence == 1
    assert is_equal(first, second)


@run
async def test_finished_partitions_are_known_to_the_backup(site):
    first, second = await site.begin(staleness=0, n_partitions=2)
    await first.exchange(push(0))
    await first.exchange(Request(1, (Finish(1),)))
    assert is_equal(first, second)
    np.testing.assert_allclose(values_of(second), -0.1)


@run
async def test_a_gate_opens_for_those_who_wait(site):
    first, _ = await site.begin(staleness=0, n_partitions=2)
    waiting = asyncio.ensure_future(first.exchange(push(0)._replace(names=None, clock=1, wait_s=1)))
    await pause()
    assert not waiting.done()
    await first.exchange(push(0, partition=1, clock=0))
    answer = await waiting
    assert (answer.status, answer.snapshot.version, answer.progress) == ("ok", 2, {0: 1, 1: 1})


@run
async def test_a_gate_that_stays_closed_is_not_yet(site):
    first, second = await site.begin(staleness=0, n_partitions=2)
    answer = await first.exchange(push(0)._replace(names=None, clock=1, wait_s=0.01))
    assert (answer.status, answer.snapshot, answer.progress) == ("not_yet", None, {0: 1, 1: 0})
    assert is_equal(first, second)


@run
async def test_a_replica_that_went_back_tells_those_who_are_ahead(site):
    first, second = await site.begin(staleness=3, n_partitions=1)
    state = first._shard.state()
    with pytest.raises(ConsistencyError):
        await first.exchange(push(1))
    await second.install(2, "primary", 0, state, True)
    answers = [
        await second.exchange(push(1, epoch=2)),
        await second.exchange(Request(2, names=None, clock=1, partitions=(0,), wait_s=1)),
    ]
    assert [(answer.status, answer.progress) for answer in answers] == [("rolled_back", {0: 0})] * 2
    assert (await second.exchange(push(0, epoch=2))).status == "ok"


@run
async def test_a_frozen_shard_holds_up_pushes_until_its_state_is_taken(site):
    first, _ = await site.begin()
    await first.exchange(push(0))
    assert await first.freeze(1, "token")
    pushing = asyncio.ensure_future(first.exchange(push(1)))
    await pause()
    assert not pushing.done()
    assert (await first.exchange(Request(1, names=None))).snapshot.version == 1
    assert await first.take("another") is None
    sequence, state = await first.take("token")
    assert (sequence, ParameterShard.from_state(*state).version) == (1, 1)
    assert (await pushing).version == 2
    assert not await first.freeze(0, "token")


@run
async def test_a_driver_that_dies_in_a_snapshot_does_not_hold_up_pushes_for_ever(site):
    first, _ = await site.begin()
    before, replicas.FREEZE_S = replicas.FREEZE_S, 0.01
    try:
        assert await first.freeze(1, "token")
        assert (await first.exchange(push(0))).status == "ok"
        assert await first.take("token") is None
    finally:
        replicas.FREEZE_S = before


THIRD = Seat("tcp://third:1", "host")


async def three(site):
    """A primary with a backup, and one more copy that follows it."""
    first, second = await site.begin()
    third = site.replicas[THIRD] = Replica(0, site, Counter())
    await first.exchange(push(0))
    assert await first.set_backup(1, THIRD, True)
    return first, second, third


@run
async def test_while_a_copy_moves_both_have_whatever_was_acknowledged(site):
    first, second, third = await three(site)
    await first.exchange(push(1))
    assert is_equal(first, second) and is_equal(first, third)
    assert await first.keep_backup(1, THIRD)
    await first.exchange(push(2))
    assert (second.sequence, third.sequence) == (2, 3)


@run
async def test_a_copy_takes_over_with_the_second_one_behind_it_and_no_copying(site):
    first, second, third = await three(site)
    assert await first.level(1, "token")
    waiting = asyncio.ensure_future(first.exchange(push(1)))
    await pause()
    assert not waiting.done()
    site.sent.clear()
    assert await first.step_down(2, "token")
    assert await third.promote(2, SECOND)
    assert (await waiting).status == "moved"
    assert (await third.exchange(push(1, epoch=2))).version == 2
    assert is_equal(third, second)
    assert {method for method, _ in site.sent} == {"follow"}


@run
async def test_a_primary_and_its_backup_change_places(site):
    first, second = await site.begin()
    await first.exchange(push(0))
    assert await first.level(1, "token") and await first.step_down(2, "token") and await second.promote(2, FIRST)
    assert (await second.exchange(push(1, epoch=2))).version == 2
    assert is_equal(first, second)


@run
async def test_a_primary_that_lost_a_copy_does_not_step_down_and_goes_on(site):
    first, _, _ = await three(site)
    site.is_cut = True
    pushing = asyncio.ensure_future(first.exchange(push(1)))
    await pause()
    assert not await first.level(1, "token")
    assert not await first.step_down(2, "token")
    await first.keep_backup(1, None)
    assert (await pushing).version == 2
