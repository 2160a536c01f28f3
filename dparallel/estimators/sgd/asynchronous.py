"""Linear models whose parameters come together in a parameter store."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from dparallel.estimators.sgd.algorithm import LinearSGD
from dparallel.estimators.sgd.linear import SGDLinear
from dparallel.estimators.sgd.parameters import LEADER, check_asynchronous, sparse_refusal
from dparallel.estimators.sgd.sparse.ways import Keyed, Leading
from dparallel.rounds import Partitioning, Rounds
from dparallel.workers import Outcome, hosts_ahead, partitions_in, train

SPARSE_COEF_FEATURES = 2**20  # above it sparse_coef="auto" keeps the coefficients of CSR rows in a sparse table
_SHARDS_PER_THREAD = 2  # so that there is something to give to a worker that joins


def _no_table(model: Any) -> str:
    if model.sparse_coef is False:
        return "sparse_coef=False was given. Leave it out."
    return "X is not CSR. Give a scipy CSR matrix or a Dask array of such blocks, or leave both to their defaults."


class AsyncLinear(SGDLinear):
    """Base of AsyncSGDClassifier and AsyncSGDRegressor."""

    def _check_parameters(self, *, partial: bool = False) -> None:
        super()._check_parameters(partial=partial)
        check_asynchronous(self)

    def _way(self, blocks: Any) -> Any:
        is_leader = self.learning_rate == LEADER
        is_wide = blocks.n_features > SPARSE_COEF_FEATURES
        refusal = sparse_refusal(self)
        wanted = self.sparse_coef is True or (self.sparse_coef == "auto" and (is_leader or (is_wide and not refusal)))
        if blocks.is_sparse and wanted and not refusal:
            return Leading() if is_leader else Keyed()
        if is_leader:
            raise ValueError(
                f'learning_rate="ftrl" keeps its coefficients in a sparse table, and {refusal or _no_table(self)}'
            )
        if self.sparse_coef is True:
            raise ValueError(f"sparse_coef=True was given, and {_no_table(self)}")
        return super()._way(blocks)

    def _ahead(self, rounds: Rounds, way: Any) -> AbstractContextManager[None]:
        return hosts_ahead(rounds, has_tables=isinstance(way, (Keyed, Leading)))

    def _minibatches_of_a_step(self) -> int | str:
        return self.push_every

    def _cutting(self, *, partial: bool = False) -> dict[str, Any]:
        """How to cut the rows: in a fit that is resumed as before, wherever it runs now.

        Where the result is to be the same in every run, or the next run has to go on with it, partitions must not
        depend on which worker happens to hold a block.
        """
        checkpoint = None if partial else self.checkpoint
        is_repeatable = self.staleness == 0 or checkpoint is not None
        partitioning = Partitioning(_SHARDS_PER_THREAD, partitions_in(checkpoint))
        return {"partitioning": partitioning, "in_any_order": not is_repeatable}

    def _train(
        self,
        rounds: Rounds,
        algorithm: LinearSGD,
        max_epochs: int,
        plain: dict[str, Any] | None = None,
        listeners: Sequence[Any] = (),
    ) -> Outcome:
        return train(
            rounds,
            algorithm,
            staleness=self.staleness,
            max_epochs=max_epochs,
            listeners=listeners,
            checkpoint=None if plain is None else self.checkpoint,
            fingerprint=plain,
            compression=None if self.compression is None else {"coef": self.compression},
        )

    def _publish(self, outcome: Outcome, *rest: Any) -> None:
        super()._publish(outcome, *rest)
        self.staleness_ = outcome.stats.staleness
        self.store_stats_ = outcome.stats
        self.moved_partitions_ = outcome.moves
