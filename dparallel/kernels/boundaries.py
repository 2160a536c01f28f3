"""The values on both sides of each split of a tree, among the rows that come by: between them lies the threshold."""

import numpy as np

from dparallel.compat import kernel
from dparallel.kernels.lanes import pointer_like

_LARGEST = np.float32(3.4028235e38)


@kernel(inner=True)
def _value(rows_32, rows_64, single, at):
    """A value as float32; what is finite stays finite."""
    if single:
        return rows_32[at]
    value = np.float32(rows_64[at])
    return min(max(value, -_LARGEST), _LARGEST)


@kernel
def _widen(address, single, row_stride, column_stride, codes, take, tree, missing, last, first, highest, lowest):
    feature, left, children = tree
    rows_32, rows_64 = pointer_like(address, np.float32(0)), pointer_like(address, np.float64(0))
    for row in range(codes.shape[0]):
        if take.size and not take[row]:
            continue
        node = 0
        while feature[node] >= 0:
            f = np.int64(feature[node])
            code = np.int64(codes[row, f])
            goes_left = (left[node, code >> 6] >> np.uint64(code & 63)) & np.uint64(1)
            if code != missing[node]:
                at = row * row_stride + f * column_stride
                if goes_left and code >= last[node]:
                    value = _value(rows_32, rows_64, single, at)
                    highest[node] = max(value, highest[node])
                    last[node] = code
                elif not goes_left and code <= first[node]:
                    value = _value(rows_32, rows_64, single, at)
                    lowest[node] = min(value, lowest[node])
                    first[node] = code
            node = children[node, 0] if goes_left else children[node, 1]


class Boundaries:
    """For each node the highest value that goes left and the lowest that goes right, of the feature it is split on.

    Parameters
    ----------
    feature : ndarray of shape (n_nodes,), int32, -1 where a node is not split; node 0 is the root
    left : ndarray of shape (n_nodes, 4), uint64, codes that go left as bits, see `histogram.partition`
    children : ndarray of shape (n_nodes, 2), int32
    n_values : ndarray of shape (n_features,), int32, see `binning.Bins`; higher codes are missing values

    Attributes
    ----------
    highest, lowest : ndarray of shape (n_nodes,), float32; minus infinity and infinity where no row came by. Over
        shards they merge with numpy.maximum and numpy.minimum.
    """

    def __init__(self, feature, left, children, n_values):
        self._tree = (np.asarray(feature, np.int32), np.asarray(left, np.uint64), np.asarray(children, np.int32))
        self._missing = np.where(self._tree[0] >= 0, n_values[self._tree[0]], -1).astype(np.int64)
        n_nodes = len(self._tree[0])
        # the outermost codes seen so far: only rows with these or codes farther out need be read
        self._last, self._first = np.full(n_nodes, -1), np.full(n_nodes, 256)
        self.highest, self.lowest = np.full(n_nodes, -np.inf, np.float32), np.full(n_nodes, np.inf, np.float32)

    def scan(self, layout, codes, take=None):
        """Send the rows of a block down the tree.

        Parameters
        ----------
        layout : of the rows, float32 or float64, see `layouts.layout`
        codes : ndarray of shape (n_rows, n_features), uint8, of the same rows
        take : ndarray of shape (n_rows,), bool, which rows take part, or None for all
        """
        take = np.empty(0, np.bool_) if take is None else take
        ends = (self._missing, self._last, self._first, self.highest, self.lowest)
        _widen(*layout, codes, take, self._tree, *ends)
