"""Distances of dense rows to centres one by one: exact also where they are tiny, as k-means|| and inertia need them."""

import numpy as np

from dparallel.compat import kernel
from dparallel.kernels.lloyd import read_lines

_SPAN_ROWS = 64


@kernel
def squared_distances(address, single, row_stride, column_stride, frame, centres, labels, result):
    """Squared distance of each row to the centre of its label, feature by feature: exact also where it is tiny.

    centres : ndarray of shape (n_clusters, n_features), float64, in the frame
    labels : ndarray of shape (n_rows,), int32; result : ndarray of shape (n_rows,), float64, overwritten
    """
    source = (address, single, row_stride, column_stride)
    lines, listed = np.empty((_SPAN_ROWS, centres.shape[1])), np.empty(_SPAN_ROWS, np.int64)
    for start in range(0, labels.size, _SPAN_ROWS):
        count = min(_SPAN_ROWS, labels.size - start)
        for lane in range(count):
            listed[lane] = start + lane
        read_lines(source, listed, 0, count, count, frame, lines)
        for lane in range(count):
            label = labels[start + lane]
            total = 0.0
            for f in range(centres.shape[1]):
                difference = lines[lane, f] - centres[label, f]
                total += difference * difference
            result[start + lane] = total


@kernel
def all_distances(address, single, row_stride, column_stride, frame, centres, result):
    """Distance of each row to each centre, in the frame; result : ndarray of shape (n_rows, n_clusters), float64."""
    source = (address, single, row_stride, column_stride)
    lines, listed = np.empty((_SPAN_ROWS, centres.shape[1])), np.empty(_SPAN_ROWS, np.int64)
    for start in range(0, result.shape[0], _SPAN_ROWS):
        count = min(_SPAN_ROWS, result.shape[0] - start)
        for lane in range(count):
            listed[lane] = start + lane
        read_lines(source, listed, 0, count, count, frame, lines)
        for lane in range(count):
            for j in range(centres.shape[0]):
                total = 0.0
                for f in range(centres.shape[1]):
                    difference = lines[lane, f] - centres[j, f]
                    total += difference * difference
                result[start + lane, j] = np.sqrt(total)
