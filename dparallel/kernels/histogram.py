"""Histograms of binned rows by tree node, and the order of rows that keeps each node's rows together.

All statistics are integers, so that their sums are exact in any order: counts, and weights, targets or products of both
in fixed point. A row of codes lies in one or two cache lines; it is sent for while earlier rows are added up, since the
rows of a deep node lie far apart.

Statistics, the last axis of a histogram, by kind of tree:

- classification: the count of each class; weighted: the weight of each class, then the number of rows
- regression: the number of rows, the moment (sum of y); weighted: rows, weight, moment (sum of weight * y)
"""

from typing import NamedTuple

import numpy as np

from dparallel.compat import kernel
from dparallel.kernels.lanes import prefetch
from dparallel.kernels.layouts import flat

NONE_32 = np.empty(0, np.int32)
NONE_64 = np.empty(0, np.int64)

_AHEAD = 16  # rows between sending for a row and adding it up
_CACHE_BYTES = 1 << 19  # wide histograms are built a group of features at a time, so that the group stays in cache


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
    codes, starts, nodes = flat(codes, np.uint8), flat(starts, np.int32), nodes_of(order, first, last)
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


def nodes_of(order, first, last):
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
