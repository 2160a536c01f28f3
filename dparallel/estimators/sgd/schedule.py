"""The learning rate of each minibatch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# best of those tried on a dozen data sets, in minibatches: few rows are visited many times, and go on with long steps,
# while the noise of long steps is to be gone at the end of the first epochs of many rows
_LEAST_KNEE, _SMALL_KNEE, _LARGEST_KNEE = 3e2, 1e3, 3e4
_SETTLING_TIMES = 4.0
_KNEE_TIMES_EPOCH = 1.5e5


@dataclass(frozen=True)
class Schedule:
    """How the learning rate falls, as a function of the minibatch's number alone.

    Parameters
    ----------
    kind : "auto", "constant", "optimal", "invscaling", "adaptive", "pa1" or "pa2"
    eta0 : float, the rate at the start; for "pa1" and "pa2" their constant C
    power_t : float, of "invscaling"
    alpha : float, strength of the penalty, from which "optimal" takes its rates
    knee : float, of "auto": the minibatches after which the rate has halved
    """

    kind: str
    eta0: float
    power_t: float = 0.5
    alpha: float = 0.0
    knee: float = _SMALL_KNEE

    def rates(self, first: float, count: int, factor: float = 1.0) -> np.ndarray:
        """Rates of some minibatches in a row.

        Parameters
        ----------
        first : float, number of the first, counted from 1 over the whole training of a partition
        count : int, how many
        factor : float, what the judge has left of the rate

        Returns
        -------
        rates : ndarray of shape (count,), float64

        Notes
        -----
        scikit-learn's rules, where t is the number of the row; here it is that of the minibatch, which is the same for
        batch_size=1. "optimal" is 1 / (alpha * (t0 + t - 1)), where t0 makes the first rate alpha ** -0.25 (Bottou,
        "Stochastic gradient descent tricks", 2012); "invscaling" is eta0 / t ** power_t. "auto" is
        eta0 / (1 + (t - 1) / knee): long steps until most directions have been gone, then ever shorter ones that
        average the noise out (Robbins and Monro, "A stochastic approximation method", 1951).
        """
        number = first + np.arange(count, dtype=np.float64)
        if self.kind == "optimal":
            start = self.alpha**-0.75  # 1 / (alpha * first rate)
            return factor / (self.alpha * (start + number - 1.0))
        if self.kind == "invscaling":
            return factor * self.eta0 / number**self.power_t
        if self.kind == "auto":
            return factor * self.eta0 / (1.0 + (number - 1.0) / self.knee)
        return np.full(count, factor * self.eta0)


def choose_knee(settling_time: float, per_epoch: float) -> float:
    """The knee of "auto".

    Parameters
    ----------
    settling_time : float, minibatches until a direction of middling curvature has been gone, see Geometry
    per_epoch : float, minibatches of an epoch of a partition
    """
    least = min(max(_KNEE_TIMES_EPOCH / max(per_epoch, 1.0), _LEAST_KNEE), _SMALL_KNEE)
    return min(max(_SETTLING_TIMES * settling_time, least), _LARGEST_KNEE)


def curvature(loss: str, spread: float, epsilon: float) -> float:
    """The second derivative of a loss, or half the largest where it is not that high for most rows.

    Parameters
    ----------
    loss : str, of kernels.losses.LOSSES
    spread : float, standard deviation of the targets of a regression
    epsilon : float, of the losses that have one

    Notes
    -----
    A loss that grows linearly has none: it is taken to bend over the spread of its targets, which is 1 for classes.
    """
    if loss == "epsilon_insensitive" and spread > 0:
        return 0.5 / spread
    if loss == "huber" and spread > 0:
        return min(1.0, epsilon / spread)
    return _CURVATURES.get(loss, 1.0)


_CURVATURES = {
    "hinge": 0.5,
    "perceptron": 0.5,
    "log_loss": 0.125,
    "softmax": 0.25,
    "modified_huber": 1.0,
    "squared_hinge": 2.0,
    "squared_epsilon_insensitive": 2.0,
}
QUADRATIC = ("squared_error", "squared_epsilon_insensitive", "squared_hinge")
