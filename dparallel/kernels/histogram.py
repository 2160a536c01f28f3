"""Histograms of binned rows by tree node, and the order of rows that keeps each node's rows together.

All statistics are integers, so that their sums are exact in any order: counts, and weights, targets or products of both
in fixed point. A row of codes lies in one or two cache lines; it is sent for while earlier rows are added up, since the
rows of a deep node lie far apart.

Statistics, the last axis of a histogram, by kind of tree:

- classification: the count of each class; weighted: the weight of each class, then the number of rows
- regression: the number of rows, the moment (sum of y); weighted: rows, weight, moment (sum of weight * y)
"""

import math
from typing import NamedTuple

import numpy as np

from dparallel.compat import kernel
from dparallel.kernels.lanes import prefetch
from dparallel.kernels.layouts import flat

NONE_32 = np.empty(0, np.int32)
NONE_64 = np.empty(0, np.int64)

_AHEAD = 16  # rows between sending for a row and adding it up
_CACHE_BYTES = 1 << 19  # wide histograms are built a group of features at a time, so that the group stays in cache
_SUM_BITS = 61


class Rows(NamedTuple):
    """What the rows of a shard carry; an array that a tree does not need has length 0.

    Parameters
    ----------
    classes : ndarray of shape (n_rows,), int32, class codes
    weight : ndarray of shape (n_rows,), int64, fixed point
    moment : ndarray of shape (n_rows,), int64, fixed point: y, or where there are weights weight * y
    """

    classes: np.ndarray = NONE_32
    weight: np.ndarray = NONE_64
    moment: np.ndarray = NONE_64


def exponent(largest, n_rows):
    """Find the power of two that numbers are multiplied by, so that no sum of them leaves int64.

    Parameters
    ----------
    largest : float, the largest absolute value; n_rows : int, how many are summed at most

    Returns
    -------
    power : int; integers stay exact wherever it is not negative
    """
    bits = _SUM_BITS - max(int(n_rows), 1).bit_length()
    if not largest > 0.0:
        return 0
    # numbers of float64's lower end: beyond 1000 a scaled 1.0 would leave float64
    return min(bits - math.frexp(float(largest))[1], 1000)


def fixed(values, power):
    """Turn numbers into fixed point: the integers nearest to values * 2**power, ties to even, as int64."""
    return np.rint(np.ldexp(np.asarray(values, np.float64), power)).astype(np.int64)


def n_statistics(n_classes, weighted):
    """Count the statistics of a bin; n_classes is 0 for regression."""
    return (n_classes or 2) + bool(weighted)


def all_rows(keep):
    """List the rows of a shard that take part.

    Parameters
    ----------
    keep : int, the number of rows; or ndarray of shape (n_rows,), bool

    Returns
    -------
    order : ndarray of int32, ascending
    """
    return np.arange(keep, dtype=np.int32) if np.ndim(keep) == 0 else np.flatnonzero(keep).astype(np.int32)


def build(codes, starts, rows, order, first, last, out):
    """Add up the statistics of the rows of some nodes, by bin.

    Parameters
    ----------
    codes : ndarray of shape (n_rows, n_features), uint8, C order
    starts : ndarray of shape (n_features + 1,), int32; code c of feature f has the slot starts[f] + c
    rows : Rows, of the same rows as codes
    order : ndarray of int32, rows grouped by node
    first, last : ndarray of shape (n_nodes,), int64; the rows of node i are order[first[i]:last[i]]
    out : ndarray of shape (n_nodes, n_slots, n_statistics), int64, overwritten; int32 will do for counts of classes

    Notes
    -----
    All nodes are done in one call without the GIL. No rows give zeros.
    """
    codes, starts, nodes = flat(codes, np.uint8), flat(starts, np.int32), _nodes(order, first, last)
    classes, weight, moment = flat(rows.classes, np.int32), flat(rows.weight, np.int64), flat(rows.moment, np.int64)
    out[...] = 0
    if classes.size and not weight.size:
        _count(codes, starts, classes, *nodes, out)
    elif classes.size:
        _weigh(codes, starts, classes, weight, *nodes, out)
    elif not weight.size:
        _add(codes, starts, moment, *nodes, out)
    else:
        _add_weighted(codes, starts, weight, moment, *nodes, out)


def _nodes(order, first, last):
    """Where the rows of nodes are, in the only types that the kernels are compiled for."""
    return flat(order, np.int32), flat(first, np.int64), flat(last, np.int64)


@kernel(inner=True)
def _bases(starts, f, n_statistics, item_bytes, bases):
    """Fill the places of the features from f on whose histogram stays in cache; returns the feature behind the last."""
    room = np.int64(_CACHE_BYTES) // (n_statistics * item_bytes)
    stop = f
    while stop + 1 < starts.size and (stop == f or starts[stop + 1] - starts[f] <= room):
        bases[stop] = np.uint64(starts[stop]) * np.uint64(n_statistics)
        stop += 1
    return stop


@kernel(inner=True)
def _send_for(codes_address, n_features, row, f, stop):
    """Ask for the codes of features f to stop of a row."""
    at = codes_address + row * n_features
    last = at + stop - 1
    at += f
    while at < last:
        prefetch(at)
        at += 64
    prefetch(last)


@kernel
def _count(codes, starts, classes, order, first, last, out):
    n_features, n_statistics = np.int64(codes.shape[1]), np.uint64(out.shape[2])
    bases, one = np.empty(n_features, np.uint64), out.dtype.type(1)
    flat = codes.reshape(-1)
    for node in range(first.size):
        sums = out[node].reshape(-1)
        stop = np.int64(0)
        while stop < n_features:
            f = stop
            stop = _bases(starts, f, out.shape[2], out.itemsize, bases)
            for i in range(first[node], last[node]):
                if i + _AHEAD < last[node]:
                    ahead = np.int64(order[i + _AHEAD])
                    _send_for(codes.ctypes.data, n_features, ahead, f, stop)
                    prefetch(classes.ctypes.data + 4 * ahead)
                row = np.uint64(order[i])
                label, at = np.uint64(classes[row]), row * np.uint64(n_features)
                for j in range(np.uint64(f), np.uint64(stop)):
                    sums[bases[j] + np.uint64(flat[at + j]) * n_statistics + label] += one


@kernel
def _weigh(codes, starts, classes, weight, order, first, last, out):
    n_features, n_statistics = np.int64(codes.shape[1]), np.uint64(out.shape[2])
    bases = np.empty(n_features, np.uint64)
    flat, rows_at = codes.reshape(-1), n_statistics - np.uint64(1)
    for node in range(first.size):
        sums = out[node].reshape(-1)
        stop = np.int64(0)
        while stop < n_features:
            f = stop
            stop = _bases(starts, f, out.shape[2], out.itemsize, bases)
            for i in range(first[node], last[node]):
                if i + _AHEAD < last[node]:
                    ahead = np.int64(order[i + _AHEAD])
                    _send_for(codes.ctypes.data, n_features, ahead, f, stop)
                    prefetch(classes.ctypes.data + 4 * ahead)
                    prefetch(weight.ctypes.data + 8 * ahead)
                row = np.uint64(order[i])
                label, w, at = np.uint64(classes[row]), weight[row], row * np.uint64(n_features)
                for j in range(np.uint64(f), np.uint64(stop)):
                    place = bases[j] + np.uint64(flat[at + j]) * n_statistics
                    sums[place + label] += w
                    sums[place + rows_at] += np.int64(1)


@kernel
def _add(codes, starts, moment, order, first, last, out):
    n_features = np.int64(codes.shape[1])
    bases = np.empty(n_features, np.uint64)
    flat, one, two = codes.reshape(-1), np.uint64(1), np.uint64(2)
    for node in range(first.size):
        sums = out[node].reshape(-1)
        stop = np.int64(0)
        while stop < n_features:
            f = stop
            stop = _bases(starts, f, out.shape[2], out.itemsize, bases)
            for i in range(first[node], last[node]):
                if i + _AHEAD < last[node]:
                    ahead = np.int64(order[i + _AHEAD])
                    _send_for(codes.ctypes.data, n_features, ahead, f, stop)
                    prefetch(moment.ctypes.data + 8 * ahead)
                row = np.uint64(order[i])
                m, at = moment[row], row * np.uint64(n_features)
                for j in range(np.uint64(f), np.uint64(stop)):
                    place = bases[j] + np.uint64(flat[at + j]) * two
                    sums[place] += np.int64(1)
                    sums[place + one] += m


@kernel
def _add_weighted(codes, starts, weight, moment, order, first, last, out):
    n_features = np.int64(codes.shape[1])
    bases = np.empty(n_features, np.uint64)
    flat, one, two, three = codes.reshape(-1), np.uint64(1), np.uint64(2), np.uint64(3)
    for node in range(first.size):
        sums = out[node].reshape(-1)
        stop = np.int64(0)
        while stop < n_features:
            f = stop
            stop = _bases(starts, f, out.shape[2], out.itemsize, bases)
            for i in range(first[node], last[node]):
                if i + _AHEAD < last[node]:
                    ahead = np.int64(order[i + _AHEAD])
                    _send_for(codes.ctypes.data, n_features, ahead, f, stop)
                    prefetch(weight.ctypes.data + 8 * ahead)
                    prefetch(moment.ctypes.data + 8 * ahead)
                row = np.uint64(order[i])
                w, m, at = weight[row], moment[row], row * np.uint64(n_features)
                for j in range(np.uint64(f), np.uint64(stop)):
                    place = bases[j] + np.uint64(flat[at + j]) * three
                    sums[place] += np.int64(1)
                    sums[place + one] += w
                    sums[place + two] += m


def totals(histograms, bins):
    """Add up the statistics of whole nodes.

    Parameters
    ----------
    histograms : ndarray of shape (n_nodes, n_slots, n_statistics), int32 or int64; bins : Bins

    Returns
    -------
    statistics : ndarray of shape (n_nodes, n_statistics), int64
    """
    return histograms[:, : bins.starts[1]].sum(axis=1, dtype=np.int64)


@kernel
def _partition(codes, order, first, last, feature, left, room, counts):
    n_features = np.int64(codes.shape[1])
    flat, goes = codes.reshape(-1), np.empty(256, np.uint8)
    for node in range(first.size):
        f = np.int64(feature[node])
        counts[node] = -1
        if f < 0:
            continue
        for code in range(256):
            goes[code] = (left[node, code >> 6] >> np.uint64(code & 63)) & np.uint64(1)
        n_left, n_right = first[node], np.int64(0)
        for i in range(first[node], last[node]):
            if i + 2 * _AHEAD < last[node]:
                prefetch(codes.ctypes.data + np.int64(order[i + 2 * _AHEAD]) * n_features + f)
            row = order[i]
            goes_left = np.int64(goes[flat[np.int64(row) * n_features + f]])
            order[n_left] = row  # one of the two is overwritten by the next row: no branch to guess
            room[n_right] = row
            n_left += goes_left
            n_right += 1 - goes_left
        for i in range(n_right):
            order[n_left + i] = room[i]
        counts[node] = n_left - first[node]


def partition(codes, order, first, last, feature, left, room=None):
    """Split the rows of some nodes into those that go left, first, and those that go right; each stay in their order.

    Parameters
    ----------
    codes, order, first, last : as for `build`; order is changed in place
    feature : ndarray of shape (n_nodes,), int32, what each node is split on, or -1
    left : ndarray of shape (n_nodes, 4), uint64; code c goes left if bit c is set, the lowest
        bit of the first number being bit 0
    room : ndarray of int32, to work in, at least as long as the longest node and one; or None

    Returns
    -------
    counts : ndarray of shape (n_nodes,), int64, rows gone left; -1 where feature is -1
    """
    first, last = flat(first, np.int64), flat(last, np.int64)
    longest = int((last - first).max(initial=0)) + 1
    if room is None or room.size < longest:
        room = np.empty(longest, np.int32)
    counts = np.empty(first.size, np.int64)
    splits = flat(feature, np.int32), flat(left, np.uint64)
    _partition(flat(codes, np.uint8), order, first, last, *splits, room, counts)
    return counts


@kernel
def _route(codes, feature, left, children, nodes):
    for row in range(nodes.size):
        node = nodes[row]
        if node < 0:
            continue
        while feature[node] >= 0:
            code = codes[row, feature[node]]
            goes_left = (left[node, code >> 6] >> np.uint64(code & 63)) & np.uint64(1)
            node = children[node, 0] if goes_left else children[node, 1]
        nodes[row] = node


def route(codes, feature, left, children, nodes):
    """Walk rows down a tree of codes.

    Parameters
    ----------
    codes : as for `build`
    feature, left : as for `partition`, of all nodes of the tree; a walk ends where feature is -1
    children : ndarray of shape (n_tree_nodes, 2), int32, the numbers of the left and the right child
    nodes : ndarray of shape (n_rows,), int32: where each row starts, -1 for rows that take no part; receives
        where it ends
    """
    tree = flat(feature, np.int32), flat(left, np.uint64), flat(children, np.int32)
    _route(flat(codes, np.uint8), *tree, nodes)


@kernel
def _group(nodes, order, offsets):
    for row in range(nodes.size):
        if nodes[row] >= 0:
            offsets[nodes[row] + 1] += 1
    for node in range(1, offsets.size):
        offsets[node] += offsets[node - 1]
    places = offsets.copy()
    for row in range(nodes.size):
        node = nodes[row]
        if node >= 0:
            order[places[node]] = row
            places[node] += 1


def group(nodes, n_nodes):
    """Order rows by node, ascending within a node.

    Parameters
    ----------
    nodes : ndarray of shape (n_rows,), int32, each row's node, or -1 to leave it out; n_nodes : int

    Returns
    -------
    order : ndarray of int32, the rows that are not left out
    offsets : ndarray of shape (n_nodes + 1,), int64; the rows of node i are order[offsets[i]:offsets[i + 1]]
    """
    order, offsets = np.empty(nodes.size, np.int32), np.zeros(n_nodes + 1, np.int64)
    _group(flat(nodes, np.int32), order, offsets)
    return order[: offsets[-1]], offsets


@kernel
def _sums(values, order, first, last, result):
    for node in range(first.size):
        total = np.int64(0)
        for i in range(first[node], last[node]):
            total += values[order[i]]
        result[node] = total


def sums(values, order, first, last):
    """Add up a number of each row, by node.

    Parameters
    ----------
    values : ndarray of shape (n_rows,), int64; order, first, last : as for `build`

    Returns
    -------
    result : ndarray of shape (n_nodes,), int64
    """
    result = np.empty(len(first), np.int64)
    _sums(flat(values, np.int64), *_nodes(order, first, last), result)
    return result


def limb(n_rows):
    """Find how many bits the lower part of a number has in `squares`, when n_rows products are summed at most."""
    return (_SUM_BITS + 1 - max(int(n_rows), 1).bit_length()) // 2


@kernel(inner=True)
def add_product(a, b, limb, result):
    """Add a * b to a sum held in three parts, see `squares`."""
    mask = (np.int64(1) << limb) - np.int64(1)
    a_high, a_low = a >> limb, a & mask
    b_high, b_low = b >> limb, b & mask
    result[0] += a_high * b_high
    result[1] += a_high * b_low + a_low * b_high
    result[2] += a_low * b_low


@kernel
def _squares(a, b, limb, order, first, last, result):
    for node in range(first.size):
        result[node] = 0
        for i in range(first[node], last[node]):
            add_product(a[order[i]], b[order[i]], limb, result[node])


def squares(a, b, limb, order, first, last):
    """Add up the product of two numbers of each row, by node, without rounding.

    Parameters
    ----------
    a, b : ndarray of shape (n_rows,), int64, as large as `exponent` allows for
    limb : int, see `limb`; the same for all shards
    order, first, last : as for `build`

    Returns
    -------
    parts : ndarray of shape (n_nodes, 3), int64, to be added up over shards; `whole` puts them together
    """
    parts = np.empty((len(first), 3), np.int64)
    _squares(flat(a, np.int64), flat(b, np.int64), np.int64(limb), *_nodes(order, first, last), parts)
    return parts


def whole(parts, limb):
    """Put sums of products together.

    Parameters
    ----------
    parts : ndarray of shape (n_nodes, 3), int64, from `squares`; limb : int, the same as there

    Returns
    -------
    sums : list of n_nodes Python ints, exact
    """
    return [(high << 2 * limb) + (middle << limb) + low for high, middle, low in parts.tolist()]
