"""How many minibatches replicas run alone: longer while they agree, shorter when training stands still."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel.checkpoint import as_whole
from dparallel.estimators.local_sgd.replica import Totals, squared_length

_LEAST_SHARE = 8  # how much shorter than at the start an interval may become: shorter ones mostly wait for the network


@dataclass
class Interval:
    """The interval between averages.

    Parameters
    ----------
    length : int, minibatches to begin with
    per_epoch : int, minibatches of an epoch of the longest partition
    adaptive : bool, whether it may change

    Notes
    -----
    When replicas are averaged, a share of what they moved cancels: their drift. It is 0 where all go the same way.
    Where each goes its own, by the noise of its minibatches, it is 1 minus the sum of the squares of their weights.
    While it is below half of that, averages come too often, and the interval doubles, up to an epoch. Where it is
    nearer to 1, replicas pull against each other, since their rows differ; alone for long they settle away from the
    optimum (Li, Huang, Yang, Wang and Zhang, "On the convergence of FedAvg on non-iid data", ICLR 2020). So the
    interval is halved then, and after an epoch without improvement, down to an eighth of the first one.
    """

    length: int
    per_epoch: int
    adaptive: bool = False

    def __post_init__(self) -> None:
        if self.adaptive:
            self.length = min(self.length, self.per_epoch)
        self._least = max(1, self.length // _LEAST_SHARE)

    def restore(self, length: Any) -> None:
        """Go on with a length from a file; a ValueError if it never had that."""
        longest = max(self.length, self.per_epoch) if self.adaptive else self.length
        self.length = as_whole(length, self._least if self.adaptive else self.length, longest)

    @property
    def n_epochs(self) -> int:
        """Whole epochs that fit into an interval."""
        return max(1, self.length // self.per_epoch)

    def averaged(self, total: Totals, drift: float) -> None:
        """Learn what an average has met."""
        if not self.adaptive:
            return
        apart = 1.0 - total.squared_rows / total.n_rows**2  # the drift of replicas that go each its own way
        if drift < 0.5 * apart:
            self.length = min(2 * self.length, self.per_epoch)
        elif drift > 0.5 * (1.0 + apart):
            self.length = max(self.length // 2, self._least)

    def judged(self, *, improved: bool) -> None:
        """Learn whether an epoch has improved on those before."""
        if self.adaptive and not improved:
            self.length = max(self.length // 2, self._least)


def drift_of(total: Totals, metric: np.ndarray | None) -> float:
    """The share of the replicas' mean squared displacement that their average does not keep, from 0 to 1."""
    if not 0 < total.squares < np.inf:
        return 0.0
    kept = squared_length(total.mean_displacement(), metric)
    return min(1.0, max(0.0, 1.0 - kept * total.n_rows / total.squares))
