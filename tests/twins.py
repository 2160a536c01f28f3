"""The kernels and k-means once more, in a few plain lines of numpy to compare with; and odd layouts of arrays."""

from fractions import Fraction

import numpy as np

LAYOUTS = ("C", "F", "strided", "reversed", "read-only", "one column apart", "odd address", "swapped bytes")


def lay_out(X, layout):
    """The same values in another memory layout."""
    X = np.asarray(X)
    n_rows, n_features = X.shape
    if layout == "F":
        return np.asfortranarray(X)
    if layout == "strided":
        room = np.full((2 * n_rows, 3 * n_features), np.nan, X.dtype)
        room[::2, ::3] = X
        return room[::2, ::3]
    if layout == "reversed":
        return np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1]
    if layout == "one column apart":
        room = np.full((n_rows, n_features + 1), np.nan, X.dtype)
        room[:, 1:] = X
        return room[:, 1:]
    if layout == "odd address":
        room = np.empty(X.nbytes + 1, np.uint8)
        result = room[1:].view(X.dtype).reshape(X.shape)
        result[...] = X
        return result
    if layout == "swapped bytes":
        return X.astype(X.dtype.newbyteorder())
    result = np.array(X, order="C")
    result.flags.writeable = layout != "read-only"
    return result


def squared_distances(rows, centres):
    """Every row to every centre, by differences in long double: shape (n_rows, n_clusters)."""
    rows, centres = np.asarray(rows, np.longdouble), np.asarray(centres, np.longdouble)
    if not len(rows):
        return np.empty((0, len(centres)), np.longdouble)
    return np.stack([((rows - centre) ** 2).sum(axis=1) for centre in centres], axis=1)


def assert_nearest(labels, rows, centres):
    """Each label is a nearest centre, but for what float64 cannot tell apart; clear cases have no other answer."""
    squares = squared_distances(rows, centres)
    if not len(squares):
        return
    best = squares.min(axis=1)
    chosen = squares[np.arange(len(labels)), labels]
    reach = np.sqrt((np.asarray(centres, np.longdouble) ** 2).sum(axis=1).max())
    norms = np.sqrt((np.asarray(rows, np.longdouble) ** 2).sum(axis=1))
    rounding = 4 * (rows.shape[1] + 4) * 2.0**-53 * (norms * reach + reach**2)
    assert (chosen <= best + rounding).all()
    clear = (squares > (best + rounding)[:, None]).sum(axis=1) == len(centres) - 1
    assert (labels[clear] == squares.argmin(axis=1)[clear]).all()


def exact_sums(rows, weights, labels, n_clusters):
    """Weighted sums of each centre's rows and weights, as fractions: list of lists."""
    sums = [[Fraction(0)] * (rows.shape[1] + 1) for _ in range(n_clusters)]
    for row, weight, label in zip(rows.tolist(), weights.tolist(), labels.tolist()):
        if weight:
            for column, value in enumerate([*row, 1.0]):
                # the product is rounded once, the addition never
                sums[label][column] += Fraction(weight * value)
    return sums


def moments(rows, weights):
    """Weight, mean and squared deviations, in long double."""
    rows, weights = np.asarray(rows, np.longdouble), np.asarray(weights, np.longdouble)
    total = weights.sum()
    mean = (weights[:, None] * rows).sum(axis=0) / total
    return total, mean, (weights[:, None] * (rows - mean) ** 2).sum(axis=0)


def hashed(key, rows):
    """Each row's number in (0, 1), as kernels.draws defines it, in Python's own integers."""
    mask = (1 << 64) - 1
    numbers = []
    for row in np.asarray(rows).tolist():
        value = (int(key) + (row + 1) * 0x9E3779B97F4A7C15) & mask
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
        value ^= value >> 31
        numbers.append(((value >> 12) + 0.5) * 2.0**-52)
    return np.array(numbers)


def spherical_kmeans(X, centres, max_iter):
    """Spherical k-means from given centres until no label changes: centres, labels, sum of 1 - cosine, rounds."""
    rows = X / np.linalg.norm(X, axis=1, keepdims=True)
    centres = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    labels = None
    n_rounds = 0
    while n_rounds < max_iter:
        n_rounds += 1
        before, labels = labels, (rows @ centres.T).argmax(axis=1)
        centres = np.stack([rows[labels == j].sum(axis=0) for j in range(len(centres))])
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        if before is not None and (before == labels).all():
            break
    cosines = rows @ centres.T
    return centres, cosines.argmax(axis=1), (1 - cosines.max(axis=1)).sum(), n_rounds


def minibatch_step(X, weights, centres, counts):
    """Sculley's update with a centre's share of all weight seen as its rate: centres, counts."""
    centres, counts = centres.astype(np.float64), counts.copy()
    labels = squared_distances(X, centres).argmin(axis=1)
    for j in range(len(centres)):
        weight = weights[labels == j].sum()
        if weight > 0:
            total = (weights[labels == j, None] * X[labels == j]).sum(axis=0)
            centres[j] = (centres[j] * counts[j] + total) / (counts[j] + weight)
            counts[j] += weight
    return centres, counts
