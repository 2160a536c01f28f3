"""Small nodes finished: the rows of each go to one worker, which grows the rest by codes, or exactly by raw values.

What crosses the network, once and from worker to worker: of each such row a byte per feature, 4 where the raw values of
a feature with many are wanted, and its target and weight. The subtrees go to the client.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import numpy as np

from dparallel import kernels
from dparallel.blocks.shards import Shard
from dparallel.estimators.decision_tree.frontier import Frontier, Task
from dparallel.estimators.decision_tree.growth import GrowthState
from dparallel.estimators.decision_tree.held import HeldRows, hold
from dparallel.estimators.decision_tree.paths import to_single
from dparallel.estimators.decision_tree.rows import dense_pieces, used
from dparallel.estimators.decision_tree.settling import Settle, Settled
from dparallel.estimators.decision_tree.targets import Coded
from dparallel.estimators.decision_tree.tree import TreeArrays
from dparallel.place import run_threads
from dparallel.rounds import tasks


@dataclass(frozen=True)
class SmallNode:
    """A node that is to be finished.

    Parameters
    ----------
    number : int, its number; place : int, among the live nodes, see held.Step
    depth, rows : int
    key : uint64; bounds : tuple of float, of its values
    """

    number: int
    place: int
    depth: int
    rows: int
    key: Any
    bounds: tuple[float, float]


@dataclass(frozen=True)
class Piece:
    """A shard's rows of the nodes of one group, node by node.

    Parameters
    ----------
    lengths : ndarray of shape (n_nodes,), int64, rows of each node
    codes : ndarray of shape (n_rows, n_coded), uint8, of all features, or of those whose bins are single values
    raw : ndarray of shape (n_rows, n_others), float32, values of the others
    coded : Coded
    """

    lengths: np.ndarray
    codes: np.ndarray
    raw: np.ndarray
    coded: Coded

    def __sizeof__(self) -> int:
        arrays = (self.codes, self.raw, self.coded.target, self.coded.second, *self.coded.rows)
        return object.__sizeof__(self) + sum(array.nbytes for array in arrays)


@dataclass(frozen=True)
class Extracted:
    """What a shard gives: a Piece for each group of nodes, and what else was asked."""

    pieces: Sequence[Piece]
    settled: Settled | None


@dataclass(frozen=True)
class Extract:
    """Partial: the rows of small nodes.

    Parameters
    ----------
    groups : sequence of sequence of SmallNode
    by_codes : bool, whether raw values are not wanted
    settle : Settle, which looks at all rows at the same time, or None
    """

    groups: Sequence[Sequence[SmallNode]]
    by_codes: bool
    settle: Settle | None

    def __call__(self, shard: Shard, state: GrowthState) -> Extracted:
        with shard.scratch.borrow((state.run, state.round - 1)) as content:
            held: HeldRows = hold(shard, state.coding) if content is None else content
            held.take(state.steps)
            coded = state.coding.bins.exact | self.by_codes
            own = [
                np.concatenate([held.order[held.first[n.place] : held.last[n.place]] for n in g]) for g in self.groups
            ]
            raw = _raw_values(shard, own, np.flatnonzero(~coded))
            pieces = []
            for group, rows, values in zip(self.groups, own, raw, strict=True):
                lengths = np.array([held.last[n.place] - held.first[n.place] for n in group])
                codes = held.codes[rows] if coded.all() else held.codes[rows][:, coded]
                pieces.append(Piece(lengths, codes, values, held.coded.at(rows)))
            found = None if self.settle is None else self.settle.look(shard, held, state)
            shard.scratch.commit((state.run, state.round), held)
        return Extracted(pieces, found)


def _raw_values(shard: Shard, wanted: Sequence[np.ndarray], features: np.ndarray) -> list[np.ndarray]:
    """Values of some features of some rows, in one pass over the blocks; none where there are no such features."""
    found = [np.empty((len(rows), len(features)), np.float32) for rows in wanted]
    if not len(features):
        return found
    before = 0
    for block in shard.blocks:
        rows = used(block)
        for start, X in dense_pieces(rows.X):
            low, high = before + start, before + start + X.shape[0]
            for numbers, values in zip(wanted, found, strict=True):
                here = np.flatnonzero((numbers >= low) & (numbers < high))
                values[here] = to_single(X[numbers[here] - low][:, features])
        before += rows.n_rows
    return found


@dataclass(frozen=True)
class Finish:
    """Grows the rest of the nodes of one group.

    Parameters
    ----------
    group : sequence of SmallNode
    task : Task; rules : kernels.criteria.Rules
    low : ndarray of shape (n_slots,), float32, the values of the bins of exact features
    by_codes : bool, whether the values of other features are their codes
    """

    group: Sequence[SmallNode]
    task: Task
    rules: Any
    low: np.ndarray
    by_codes: bool

    def __call__(self, *pieces: Piece) -> list[TreeArrays]:
        starts = [np.concatenate([[0], np.cumsum(piece.lengths)]) for piece in pieces]
        found = []
        for i, node in enumerate(self.group):
            slices = [slice(start[i], start[i + 1]) for start in starts]
            X = np.concatenate([self._values(piece, rows) for piece, rows in zip(pieces, slices, strict=True)])
            coded = Coded.joined([piece.coded.at(rows) for piece, rows in zip(pieces, slices, strict=True)])
            found.append(self._grow(node, X, coded))
        return found

    def _values(self, piece: Piece, rows: slice) -> np.ndarray:
        """Raw values, and for features whose bins are single values these; the codes of categories."""
        bins = self.task.bins
        codes = piece.codes[rows]
        X = np.empty((len(codes), len(bins.n_values)), np.float32)
        coded = bins.exact | self.by_codes
        X[:, ~coded] = piece.raw[rows]
        for column, f in enumerate(np.flatnonzero(coded)):
            X[:, f] = self._values_of_codes(int(f))[codes[:, column]]
        return X

    def _values_of_codes(self, f: int) -> np.ndarray:
        """What stands for each code of a feature, float32, NaN for that of missing values."""
        bins, categorical = self.task.bins, self.task.categorical
        is_value = bins.exact[f] and not (categorical is not None and categorical[f])
        own = slice(bins.starts[f], bins.starts[f + 1])
        values = self.low[own].copy() if is_value else np.arange(own.stop - own.start, dtype=np.float32)
        values[bins.n_values[f] :] = np.nan
        return values

    def _grow(self, node: SmallNode, X: np.ndarray, coded: Coded) -> TreeArrays:
        task, limits = self.task, self.task.limits
        subtree = kernels.cart.finish(
            X,
            coded.rows,
            self.rules,
            kernels.cart.Limits(limits.max_depth - node.depth, limits.min_samples_split, limits.min_impurity_decrease),
            target=coded.target,
            second=coded.second,
            limb=task.limb,
            second_unit=task.second_unit,
            constraint=task.constraint,
            bounds=node.bounds,
            categorical=task.categorical,
            key=node.key,
        )
        return self._as_tree(subtree)

    def _as_tree(self, subtree: Any) -> TreeArrays:
        task, sums = self.task, None
        if task.second is not None:
            sums = kernels.fixed_point.whole(subtree.parts, task.limb)
        left, right = (subtree.children[:, side].astype(np.int64) for side in (0, 1))
        depth = np.zeros(len(left), np.int64)
        for parent in np.flatnonzero(left >= 0):  # a child's number is larger than its parent's
            depth[left[parent]] = depth[right[parent]] = depth[parent] + 1
        return TreeArrays(
            left_child=left,
            right_child=right,
            feature=subtree.feature.astype(np.int64),
            threshold=subtree.threshold,
            missing_left=subtree.missing_left,
            left=self._bits(subtree) if self.by_codes else subtree.left,
            statistics=subtree.statistics,
            impurity=kernels.criteria.impurities(subtree.statistics, self.rules, sums, task.second_unit),
            lower=subtree.bounds[:, 0],
            upper=subtree.bounds[:, 1],
            depth=depth,
            improvement=np.where(left >= 0, subtree.improvement, 0.0),
        )

    def _bits(self, subtree: Any) -> np.ndarray:
        """Codes that go left at each node, uint64 of shape (n_nodes, 4)."""
        left = subtree.left.copy()
        for node in np.flatnonzero(subtree.feature >= 0):
            f = int(subtree.feature[node])
            if np.isnan(subtree.threshold[node]):
                continue  # a test of categories has them
            goes_left = np.full(256, bool(subtree.missing_left[node]))
            values = self._values_of_codes(f)[: self.task.bins.n_values[f]]
            goes_left[: len(values)] = values <= subtree.threshold[node]
            left[node] = np.packbits(goes_left, bitorder="little").view("<u8")
        return left


@dataclass(frozen=True)
class Finished:
    """What finishing nodes has brought.

    Parameters
    ----------
    subtrees : dict of node to TreeArrays, whose node 0 is that node
    settled : Settled of all shards, or None
    n_bytes : int, what crossed the network: the state, rows that changed the worker, and the subtrees
    """

    subtrees: dict[int, TreeArrays]
    settled: Settled | None
    n_bytes: int


def finish_small(rounds: Any, state: GrowthState, numbers: np.ndarray, settle: Settle | None = None) -> Finished:
    """Finish some nodes, each on one worker.

    Parameters
    ----------
    rounds : Rounds, open, or what stands for them
    state : GrowthState, the last one
    numbers : numbers of the nodes
    settle : Settle, to be answered in the same pass, or None
    """
    frontier: Any = state.frontier
    groups = _share_out(_small_nodes(frontier, numbers), rounds.n_shards)
    by_codes = frontier.by_codes
    extract = Extract(groups, by_codes, settle)
    finish = [Finish(group, frontier.task, frontier.rules, frontier.low, by_codes) for group in groups]
    if rounds.is_local:
        parts = rounds.collect(extract, state)
        calls = [partial(grow, *(part.pieces[i] for part in parts)) for i, grow in enumerate(finish)]
        found, answers, n_bytes = run_threads(calls, rounds.pool), [part.settled for part in parts], 0
    else:
        found, answers, n_bytes = _exchange(rounds, extract, finish, state)
    pairs = zip(groups, found, strict=True)
    subtrees = {node.number: tree for group, trees in pairs for node, tree in zip(group, trees, strict=True)}
    return Finished(subtrees, None if settle is None else reduce(Settled.add, answers), n_bytes)


def _small_nodes(frontier: Frontier, numbers: np.ndarray) -> list[SmallNode]:
    nodes, place = frontier.nodes, {int(number): i for i, number in enumerate(frontier.live)}
    return [
        SmallNode(
            int(i),
            place[int(i)],
            int(nodes.depth[i]),
            int(nodes.rows[i]),
            nodes.key[i],
            (float(nodes.lower[i]), float(nodes.upper[i])),
        )
        for i in numbers
    ]


def _share_out(nodes: Sequence[SmallNode], n_groups: int) -> list[list[SmallNode]]:
    """Divide nodes into groups of about the same number of rows: the largest first, to whoever has least."""
    groups: list[list[SmallNode]] = [[] for _ in range(min(n_groups, len(nodes)))]
    load = [0] * len(groups)
    for node in sorted(nodes, key=lambda node: (-node.rows, node.number)):
        i = load.index(min(load))
        groups[i].append(node)
        load[i] += node.rows
    return groups


def _exchange(
    rounds: Any, extract: Extract, finish: Sequence[Finish], state: GrowthState
) -> tuple[list[list[TreeArrays]], list[Any], int]:
    """Let each shard hand the rows of each group to the worker that finishes it; rows do not pass by the client."""

    def once() -> tuple[list[list[TreeArrays]], list[Any], int]:
        rounds.holding.follow(rounds.watch.threads)
        submitted: list[Any] = []

        def submit(name: str, function: Any, *arguments: Any, worker: str) -> Any:
            key = f"dparallel-{name}-{rounds.token}-{len(submitted)}"
            pinned = {"workers": [worker], "allow_other_workers": True}
            submitted.append(rounds.client.submit(function, *arguments, key=key, pure=False, **pinned))
            return submitted[-1]

        try:
            shards = rounds.holding.shards
            homes = [shard.worker for shard in shards]
            payload = tasks.pack((extract, state))
            given = submit("wanted", tasks.hold, payload, worker=homes[0])
            parts = [submit("extract", tasks.run_partial, s.future, None, given, worker=s.worker) for s in shards]
            wanted = _hand_over(submit, homes, parts, finish)
            if extract.settle is not None:
                wanted += [submit("answer", _answer, part, worker=w) for part, w in zip(parts, homes, strict=True)]
            rounds.watch.look()
            found = rounds.watch.gather(wanted)
        finally:
            for future in submitted:
                future.release()
        grown, answers = found[: len(finish)], found[len(finish) :]
        n_bytes = len(payload) * len(set(homes)) + sum(moved for _, moved in grown) + sum(map(sys.getsizeof, answers))
        return [trees for trees, _ in grown], answers, n_bytes

    return rounds.persevere(once)


def _hand_over(submit: Any, homes: Sequence[str], parts: Sequence[Any], finish: Sequence[Finish]) -> list[Any]:
    """Send the pieces of each group to one worker; returns the futures of what _run gives there."""
    wanted = []
    for i, grow in enumerate(finish):
        here = homes[i % len(homes)]
        pieces = [submit("piece", _pick, part, i, worker=home) for part, home in zip(parts, homes, strict=True)]
        comes = [home != here for home in homes]
        wanted.append(submit("finish", _run, tasks.pack(grow), comes, *pieces, worker=here))
    return wanted


def _pick(part: Extracted, i: int) -> Piece:
    return part.pieces[i]


def _answer(part: Extracted) -> Settled | None:
    return part.settled


def _run(payload: bytes, comes: Sequence[bool], *pieces: Piece) -> tuple[list[TreeArrays], int]:
    """Grow, and tell how many bytes that moves; comes : which of the pieces are another worker's."""
    grown = tasks.unpack(payload)(*pieces)
    rows = sum(sys.getsizeof(piece) for piece, moves in zip(pieces, comes, strict=True) if moves)
    return grown, len(payload) + rows + sum(tree.nbytes for tree in grown)
