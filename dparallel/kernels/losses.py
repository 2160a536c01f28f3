"""Losses of linear models and their derivatives, as scikit-learn's SGD has them, for a few rows at once."""

import numpy as np

from dparallel.compat import kernel

LOSSES = {
    "hinge": 0,
    "squared_hinge": 1,
    "log_loss": 2,
    "modified_huber": 3,
    "perceptron": 4,
    "squared_error": 5,
    "huber": 6,
    "epsilon_insensitive": 7,
    "squared_epsilon_insensitive": 8,
    "softmax": 9,
}
_HINGE, _SQUARED_HINGE, _LOG_LOSS, _MODIFIED_HUBER, _PERCEPTRON = range(5)
_SQUARED_ERROR, _HUBER, _EPSILON_INSENSITIVE, _SQUARED_EPSILON_INSENSITIVE, _SOFTMAX = range(5, 10)

LARGEST_SLOPE = 1e12  # scikit-learn cuts derivatives there, lest one row throw the parameters out of range

_LOG2_E = 1.4426950408889634
_LN_2_HIGH, _LN_2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_ROUND = 6755399441055744.0  # 1.5 * 2**52: adding it leaves a number's whole part in the last bits


@kernel(inner=True, fastmath={"contract"})
def exponential(x):
    """e**x for x <= 0, to 2e-16, in plain arithmetic, so that a loop over it uses the vector lanes; NaN stays NaN."""
    x = -708.0 if x < -708.0 else x
    shifted = x * _LOG2_E + _ROUND
    whole = shifted - _ROUND
    r = (x - whole * _LN_2_HIGH) - whole * _LN_2_LOW
    total = 1.0 / 6227020800.0  # Taylor's series up to r**13 / 13!; |r| <= ln(2) / 2
    total = total * r + 1.0 / 479001600.0
    total = total * r + 1.0 / 39916800.0
    total = total * r + 1.0 / 3628800.0
    total = total * r + 1.0 / 362880.0
    total = total * r + 1.0 / 40320.0
    total = total * r + 1.0 / 5040.0
    total = total * r + 1.0 / 720.0
    total = total * r + 1.0 / 120.0
    total = total * r + 1.0 / 24.0
    total = total * r + 1.0 / 6.0
    total = total * r + 0.5
    total = total * r + 1.0
    total = total * r + 1.0
    power = (np.float64(shifted).view(np.int64) + np.int64(1023)) << np.int64(52)
    return total * np.int64(power).view(np.float64)


@kernel(inner=True, fastmath={"contract"})
def log_one_plus(x):
    """log(1 + x) for x in [0, 1], to 3e-16: 2 artanh(x / (2 + x)), whose series converges as 9**-n."""
    s = x / (2.0 + x)
    z = s * s
    total = 1.0 / 33.0
    total = total * z + 1.0 / 31.0
    total = total * z + 1.0 / 29.0
    total = total * z + 1.0 / 27.0
    total = total * z + 1.0 / 25.0
    total = total * z + 1.0 / 23.0
    total = total * z + 1.0 / 21.0
    total = total * z + 1.0 / 19.0
    total = total * z + 1.0 / 17.0
    total = total * z + 1.0 / 15.0
    total = total * z + 1.0 / 13.0
    total = total * z + 1.0 / 11.0
    total = total * z + 1.0 / 9.0
    total = total * z + 1.0 / 7.0
    total = total * z + 1.0 / 5.0
    total = total * z + 1.0 / 3.0
    return 2.0 * s + 2.0 * s * z * total


@kernel(inner=True)
def evaluate(loss, epsilon, targets, weights, count, n_classes, scores, slopes, signs):
    """Measure the first count rows of a few.

    Parameters
    ----------
    loss : int, of LOSSES; epsilon : float
    targets : ndarray of shape (n,), float64: numbers for regression, +1 or -1 for one class, else class numbers
    weights : ndarray of shape (n,), float64
    n_classes : int; of more than one class each is one against the rest, unless the loss is softmax
    scores : ndarray of shape (n_classes * n,), float64, class by class; overwritten by softmax
    slopes : ndarray of the same shape, receives weight times the derivative of the loss by the score
    signs : ndarray of shape (n,), float64, room to work in

    Returns
    -------
    total : float, sum of the weighted losses, over the classes, too

    Notes
    -----
    One long function: each one it called would be compiled once more. NaN among the scores shows in the total.
    """
    total, stride = 0.0, targets.size
    if loss == _SOFTMAX:
        for i in range(count):
            highest, powers = scores[i], 0.0
            for k in range(1, n_classes):
                highest = max(highest, scores[k * stride + i])
            for k in range(n_classes):
                slopes[k * stride + i] = exponential(scores[k * stride + i] - highest)
                powers += slopes[k * stride + i]
            label = int(targets[i]) * stride + i
            total += weights[i] * (np.log(powers) + highest - scores[label])
            for k in range(n_classes):
                slopes[k * stride + i] *= weights[i] / powers
            slopes[label] -= weights[i]
        return total
    for k in range(n_classes):
        at = k * stride
        for i in range(count):
            signs[i] = targets[i] if n_classes == 1 else (1.0 if targets[i] == k else -1.0)
        if loss == _LOG_LOSS:
            for i in range(count):
                z = signs[i] * scores[at + i]
                e = exponential(-abs(z))
                share = (e if z > 0.0 else 1.0) / (1.0 + e)
                slopes[at + i] = -signs[i] * share * weights[i]
                total += weights[i] * (log_one_plus(e) - min(z, 0.0))
        else:
            for i in range(count):
                value, slope = _measure(loss, epsilon, signs[i], scores[at + i])
                slopes[at + i] = slope * weights[i]
                total += value * weights[i]
    return total


@kernel(inner=True)
def _measure(loss, epsilon, y, p):
    """Loss and derivative by the score p of one row."""
    z, residual = y * p, p - y
    size, sign = abs(residual), (1.0 if residual >= 0.0 else -1.0)
    value, slope = 0.0, 0.0
    if loss == _SQUARED_ERROR or (loss == _HUBER and not size > epsilon):
        value, slope = 0.5 * residual * residual, residual
    elif loss == _HUBER:
        value, slope = epsilon * (size - 0.5 * epsilon), sign * epsilon
    elif loss == _EPSILON_INSENSITIVE:
        if not size <= epsilon:
            value, slope = size - epsilon, sign
    elif loss == _SQUARED_EPSILON_INSENSITIVE:
        if not size <= epsilon:
            value, slope = (size - epsilon) * (size - epsilon), 2.0 * sign * (size - epsilon)
    elif loss == _HINGE:
        if not z > 1.0:
            value, slope = 1.0 - z, -y
    elif loss == _PERCEPTRON:
        if not z > 0.0:
            value, slope = -z, -y
    elif loss == _MODIFIED_HUBER and z < -1.0:
        value, slope = -4.0 * z, -4.0 * y
    elif not z >= 1.0:  # the squared hinge, and modified Huber where it is that
        value, slope = (1.0 - z) * (1.0 - z), -2.0 * y * (1.0 - z)
    if slope > LARGEST_SLOPE:
        slope = LARGEST_SLOPE
    elif slope < -LARGEST_SLOPE:
        slope = -LARGEST_SLOPE
    return value, slope
