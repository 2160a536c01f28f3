"""One round of Lloyd's k-means over a block of dense rows, with distance bounds or without.

Rows are looked at in a frame of their own: (row - shift) * scale, where scale is a power of two; or, for spherical
k-means, row / |row|. Centres live in that frame. A row is measured in float32 first; where rounding leaves its
nearest centre in doubt it is measured again in float64, so labels are always those of the float64 loop.

Bounds: Hamerly, "Making k-means even faster" (SDM 2010). Each row keeps an upper bound on the distance to its own
centre and a lower bound on that to every other, widened by what rounding may have hidden.
"""

import numpy as np

from dparallel.compat import kernel
from dparallel.kernels.lanes import TILE_ROWS_32, TILE_ROWS_64, measure_group, pointer_like, prefetch

_PREFETCH_BYTES = 4096
CHUNK_ROWS = 4096  # bounds, labels and the list of rows to measure stay in the first-level cache

UNIT_32 = 2.0**-24
UNIT_64 = 2.0**-53
_LARGEST_32 = 3e38
_TINY_32 = 1e-36  # below this float32 products vanish
_WIDEN = 1e-6  # covers the float32 roundings of one bound update


@kernel(inner=True)
def read_lines(source, listed, first, count, n_listed, frame, lines):
    """Copy listed rows, moved into the frame, into lines, in float64, while the next rows are sent for."""
    address, single, row_stride, column_stride = source
    item = 4 if single else 8
    row_bytes = min(lines.shape[1] * item, _PREFETCH_BYTES) if column_stride == 1 else 0
    for lane in range(count):
        start = listed[first + lane] * row_stride
        if first + count + lane < n_listed:
            ahead = address + listed[first + count + lane] * row_stride * item
            for offset in range(0, row_bytes, 64):
                prefetch(ahead + offset)
        if single:
            _read_line(pointer_like(address, np.float32(0)), start, column_stride, frame, lines, lane)
        else:
            _read_line(pointer_like(address, np.float64(0)), start, column_stride, frame, lines, lane)


@kernel(inner=True)
def _read_line(rows, start, column_stride, frame, lines, lane):
    shift, scale, unit = frame
    if column_stride == 1:
        for f in range(lines.shape[1]):
            lines[lane, f] = (np.float64(rows[start + f]) - shift[f]) * scale
    else:
        for f in range(lines.shape[1]):
            lines[lane, f] = (np.float64(rows[start + f * column_stride]) - shift[f]) * scale
    if unit:
        _normalise(lines, lane)


@kernel(inner=True)
def fill_tile(lines, count, tile):
    """Turn lines into a tile; lanes behind the last line are zero."""
    for f in range(tile.shape[0]):
        for lane in range(count):
            tile[f, lane] = lines[lane, f]
        for lane in range(count, tile.shape[1]):
            tile[f, lane] = 0.0


@kernel(inner=True)
def _normalise(lines, lane):
    """Divide a line by its norm; a line of zeros stays."""
    square = 0.0
    for f in range(lines.shape[1]):
        square += lines[lane, f] * lines[lane, f]
    if not 1e-280 < square < 1e280:  # squares may have left the range of float64: count in units of the largest value
        square = _in_units_of_largest(lines, lane)
    factor = 1.0 / np.sqrt(square) if square > 0.0 else 0.0 * square
    for f in range(lines.shape[1]):
        lines[lane, f] *= factor


@kernel(inner=True)
def _in_units_of_largest(lines, lane):
    """Divide a line by its largest value, unless it is all zeros; returns its squared norm then."""
    largest, square = 0.0, 0.0
    for f in range(lines.shape[1]):
        largest = max(largest, abs(lines[lane, f]))
    for f in range(lines.shape[1]):
        if largest != 0.0:
            lines[lane, f] /= largest
        square += lines[lane, f] * lines[lane, f]
    return square


@kernel(inner=True)
def measure(tile, packed, half_norms, values, nearest):
    """Find each tile row's nearest centre, its two smallest values (see `lanes.measure_group`) and its squared norm."""
    n_features, n_lanes = tile.shape
    best, second, squares = values
    for lane in range(n_lanes):
        best[lane] = np.inf
        second[lane] = np.inf
        nearest[lane] = 0
        squares[lane] = 0.0
    for f in range(n_features):
        for lane in range(n_lanes):
            squares[lane] += tile[f, lane] * tile[f, lane]
    for group in range(packed.shape[0]):
        measure_group(tile, packed, half_norms, group, n_features, best, second, nearest)


@kernel(inner=True)
def bound(values, nearest, unit_rounding, n_features, reach, found):
    """Turn a tile's values into distances that are surely not too small (high) and not too large (low).

    values : best, second and squares of `measure`, each of shape (n_lanes,)
    unit_rounding : float, that of the tile's dtype; reach : float, the largest norm of a centre
    found : (labels int32, high float32, low float32, certain bool), overwritten. A row is certain where no rounding can
        have hidden another nearest centre.
    """
    best, second, squares = values
    labels, high, low, certain = found
    kind = best.dtype.type
    rounding = (n_features + 4) * unit_rounding * 1.02
    for lane in range(best.size):
        norm = np.sqrt(squares[lane])
        error = kind(rounding * (norm * reach + 0.5 * reach * reach) + _TINY_32)
        slack = kind(rounding * squares[lane] + 2.0 * error)
        near = squares[lane] + 2 * best[lane] + slack
        far = squares[lane] + 2 * second[lane] - slack
        high[lane] = np.sqrt(max(near, kind(0.0))) * kind(1.0 + _WIDEN)
        low[lane] = min(np.sqrt(max(far, kind(0.0))) * kind(1.0 - _WIDEN), kind(_LARGEST_32))
        certain[lane] = second[lane] - best[lane] > kind(2.02) * error
        labels[lane] = nearest[lane]


@kernel(inner=True)
def doubtful(held, moved, others, gap, margin, start, stop, open_rows, listed):
    """Carry bounds over one movement of the centres and list the rows that they no longer settle.

    moved, others, gap : float32 of shape (n_clusters,): how far a centre moved, the farthest that another moved, and
    half the distance to the nearest other centre. margin : (absolute, relative) room for rounding.
    """
    labels, upper, lower = held
    absolute, relative = np.float32(margin[0]), np.float32(margin[1])
    widen = np.float32(_WIDEN)
    for row in range(start, stop):
        label = labels[row]
        high = upper[row] + moved[label]
        high += high * widen
        low = lower[row] - others[label]
        low -= abs(low) * widen
        upper[row] = high
        lower[row] = low
        open_rows[row - start] = not (high + high * relative + absolute < max(low, 2 * gap[label] - high))
    count = 0
    for row in range(start, stop):
        listed[count] = row
        count += open_rows[row - start]
    return count


@kernel(inner=True)
def settle(listed, at, n_lanes, lines, found, final, again, n_again, weights, first, held, totals):
    """Give a tile's rows their labels and bounds, and move their weights between the sums.

    Rows left uncertain are listed again, unless this measurement is final.
    """
    nearest, high, low, certain = found
    labels, upper, lower = held
    sums, rest, members = totals
    n_changed = 0
    for lane in range(n_lanes):
        row = listed[at + lane]
        if not (certain[lane] or final):
            again[n_again] = row
            n_again += 1
            continue
        label, before = nearest[lane], labels[row]
        if upper.size:
            upper[row] = high[lane]
            lower[row] = low[lane]
        if label == before and not first:
            continue
        labels[row] = label
        n_changed += 1
        weight = weights[row] if weights.size else 1.0
        if weight == 0.0 or not members.size:
            continue
        members[label] += 1
        add_line(lines, lane, weight, label, sums, rest)
        if not first:
            members[before] -= 1
            add_line(lines, lane, -weight, before, sums, rest)
    return n_changed, n_again


@kernel(inner=True, fastmath=False)
def add_line(lines, lane, weight, label, sums, rest):
    """Add weight times a line, and the weight itself behind it, to a centre's sums; what rounding drops goes to rest.

    Knuth's exact addition: sums + rest is right to some 32 digits, so rows may come and go in any order.
    """
    n_features = lines.shape[1]
    for f in range(n_features):
        term = weight * lines[lane, f]
        before = sums[label, f]
        after = before + term
        part = after - before
        sums[label, f] = after
        rest[label, f] += (before - (after - part)) + (term - part)
    add_exactly(weight, label, n_features, sums, rest)


@kernel(inner=True, fastmath=False)
def add_exactly(term, label, column, sums, rest):
    """Add one term to one sum, exactly, see `add_line`."""
    before = sums[label, column]
    after = before + term
    part = after - before
    sums[label, column] = after
    rest[label, column] += (before - (after - part)) + (term - part)


@kernel
def assign(address, single, row_stride, column_stride, weights, frame, centres, motion, held, first, bounded, totals):
    """Find each row's nearest centre and bring the sums and counts of all centres up to date.

    Parameters
    ----------
    address, single, row_stride, column_stride : where the block lies, whether it is float32 and not float64, and its
        strides in elements
    weights : ndarray of shape (n_rows,), float64, or of shape (0,) where all rows count 1
    frame : (shift of shape (n_features,), scale, unit); unit: divide each row by its norm
    centres : (packed_32, half_norms_32, packed_64, half_norms_64, reach), see `lanes.pack_centres` and `bound`
    motion : (moved, others, gap, margin), see `doubtful`
    held : (labels int32, upper float32, lower float32), each of shape (n_rows,), the bounds of shape (0,) where none
        are wanted; changed in place
    first : bool; there is nothing to rely on in held, and all rows are added to the sums
    bounded : bool; leave out rows that their bounds settle
    totals : (sums, rest, members) of the rows of each centre, changed in place: sums + rest float64 of shape
        (n_clusters, n_features + 1), the weighted sum of the rows and in the last column their weight; members int64 of
        shape (n_clusters,), how many rows have a weight; or members of shape (0,) where only labels are wanted

    Returns
    -------
    n_changed : int, rows whose label is another than before
    n_measured : int, rows that were measured
    bad_row : int, a row whose distances are not finite, or -1

    Notes
    -----
    Ties go to the lower number.
    """
    source = (address, single, row_stride, column_stride)
    packed_32, half_norms_32, packed_64, half_norms_64, reach = centres
    moved, others, gap, margin = motion
    state = (source, frame, weights, first, held, totals)
    lines = np.empty((TILE_ROWS_32, frame[0].size))
    found = new_found(TILE_ROWS_32)
    room_32 = _room(lines, TILE_ROWS_32, np.float32(0), np.int32(0))
    room_64 = _room(lines, TILE_ROWS_64, np.float64(0), np.int64(0))
    n_rows = held[0].size
    listed, again = np.empty(CHUNK_ROWS, np.int64), np.empty(CHUNK_ROWS, np.int64)
    open_rows = np.empty(CHUNK_ROWS, np.uint8)
    n_changed, n_measured, bad_row, distrust = 0, 0, -1, 0
    for start in range(0, n_rows, CHUNK_ROWS):
        stop = min(start + CHUNK_ROWS, n_rows)
        if bounded and not first:
            count = doubtful(held, moved, others, gap, margin, start, stop, open_rows, listed)
        else:
            count = stop - start
            for i in range(count):
                listed[i] = start + i
        n_measured += count
        if distrust == 0:
            changed, left, _ = _measure_listed(
                listed, count, False, again, lines, found, room_32, packed_32, half_norms_32, reach, UNIT_32, state
            )
            n_changed += changed
            distrust = 16 if 3 * left > count else 0
            listed, again, count = again, listed, left
        else:
            distrust -= 1
        changed, _, bad = _measure_listed(
            listed, count, True, again, lines, found, room_64, packed_64, half_norms_64, reach, UNIT_64, state
        )
        n_changed += changed
        bad_row = bad if bad_row < 0 else bad_row
    return n_changed, n_measured, bad_row


@kernel(inner=True)
def new_found(n_lanes):
    """What `bound` finds."""
    return (
        np.empty(n_lanes, np.int32),
        np.empty(n_lanes, np.float32),
        np.empty(n_lanes, np.float32),
        np.empty(n_lanes, np.bool_),
    )


@kernel(inner=True)
def _room(lines, n_lanes, zero, label_zero):
    """Allocate a tile of zero's dtype and what is measured of it; lines and what is found of them are shared."""
    kind = type(zero)
    tile = np.empty((lines.shape[1], n_lanes), kind)
    return (
        tile,
        (np.empty(n_lanes, kind), np.empty(n_lanes, kind), np.empty(n_lanes, kind)),
        np.empty(n_lanes, type(label_zero)),
    )


@kernel(inner=True)
def _measure_listed(listed, count, final, again, lines, found, room, packed, half_norms, reach, unit_rounding, state):
    """Measure listed rows tile by tile; returns how many changed, how many are listed again, a row gone bad or -1."""
    tile, values, nearest = room
    source, frame, weights, first, held, totals = state
    n_changed, n_again, bad = 0, 0, -1
    for at in range(0, count, tile.shape[1]):
        n_lanes = min(tile.shape[1], count - at)
        read_lines(source, listed, at, n_lanes, count, frame, lines)
        fill_tile(lines, n_lanes, tile)
        measure(tile, packed, half_norms, values, nearest)
        bound(values, nearest, unit_rounding, lines.shape[1], reach, found)
        if final:
            for lane in range(n_lanes):
                if not np.isfinite(values[0][lane]) and bad < 0:
                    bad = listed[at + lane]
        changed, n_again = settle(
            listed, at, n_lanes, lines, found, final, again, n_again, weights, first, held, totals
        )
        n_changed += changed
    return n_changed, n_again, bad
