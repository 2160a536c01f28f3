"""Vector loops that LLVM does not find by itself: distances of many rows to many centres, one row per vector lane.

A tile holds `TILE_ROWS` rows, feature by feature, so that each lane follows one row: its sums run over the features
in their order, and no bit of a result depends on which rows share the tile.
"""

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_WIDE = binding.get_host_cpu_features().get("avx512f", False)
VECTOR_BYTES = 64 if _WIDE else 32
_VECTORS = 4 if _WIDE else 2

GROUP = 4  # centres measured together: with _VECTORS row vectors their sums fill the registers without spilling
TILE_ROWS_32 = VECTOR_BYTES // 4 * _VECTORS
TILE_ROWS_64 = VECTOR_BYTES // 8 * _VECTORS

_INDEX = ir.IntType(64)
_CONTRACT = ("contract",)


def pack_centres(centres, dtype):
    """Lay centres out for `measure_group`: negated, in groups of GROUP, feature by feature.

    Parameters
    ----------
    centres : ndarray of shape (n_clusters, n_features), float64
    dtype : float32 or float64, the dtype of the tile that they will be measured against

    Returns
    -------
    packed : ndarray of shape (n_groups, n_features, GROUP), dtype
    half_norms : ndarray of shape (n_groups * GROUP,), dtype; half the squared norm, infinite behind the last centre
    """
    n_clusters, n_features = centres.shape
    n_groups = -(-n_clusters // GROUP)
    padded = np.zeros((n_groups * GROUP, n_features))
    padded[:n_clusters] = centres
    half_norms = np.full(n_groups * GROUP, np.inf)
    half_norms[:n_clusters] = 0.5 * np.einsum("ij,ij->i", centres, centres)
    packed = -padded.reshape(n_groups, GROUP, n_features).transpose(0, 2, 1)
    return np.ascontiguousarray(packed, dtype=dtype), half_norms.astype(dtype)


class _Lanes:
    """Emits vector instructions for one element type."""

    def __init__(self, builder, element, label):
        self.builder = builder
        self.n_bytes = 4 if element == ir.FloatType() else 8
        self.lanes = VECTOR_BYTES // self.n_bytes
        self.value = ir.VectorType(element, self.lanes)
        self.label = ir.VectorType(label, self.lanes)
        self.tile_rows = self.lanes * _VECTORS

    def splat(self, scalar, kind):
        start = self.builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(start, ir.Constant(kind, ir.Undefined), mask)

    def _address(self, pointer, offset, kind):
        return self.builder.bitcast(self.builder.gep(pointer, [offset]), kind.as_pointer())

    def load(self, pointer, offset, kind):
        return self.builder.load(self._address(pointer, offset, kind), align=self.n_bytes)

    def store(self, value, pointer, offset, kind):
        self.builder.store(value, self._address(pointer, offset, kind), align=self.n_bytes)


def _constant(number):
    return ir.Constant(_INDEX, number)


def _array_data(context, builder, kind, value):
    return context.make_array(kind)(context, builder, value).data


@intrinsic
def measure_group(typingctx, tile, packed, half_norms, group, n_features, best, second, nearest):
    """Measure a tile against GROUP centres, and keep each row's nearest centre and its two smallest values.

    The value of row x and centre c is c'c/2 - x'c, which is half the squared distance less x'x/2.

    Parameters
    ----------
    tile : ndarray of shape (n_features, TILE_ROWS), float32 or float64
    packed, half_norms : as `pack_centres` gives them, same dtype
    group : int, number of the group of centres
    n_features : int
    best, second : ndarray of shape (TILE_ROWS,), same dtype; the smallest and second smallest value so far
    nearest : ndarray of shape (TILE_ROWS,), int32 for float32 tiles, int64 for float64; the nearest centre's number

    Notes
    -----
    Ties go to the lower number when groups come in ascending order. A NaN never wins.
    """
    signature = types.void(tile, packed, half_norms, types.intp, types.intp, best, second, nearest)

    def codegen(context, builder, signature, args):
        data = [
            _array_data(context, builder, kind, value) if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, args, strict=True)
        ]
        single = signature.args[0].dtype == types.float32
        lanes = _Lanes(
            builder, ir.FloatType() if single else ir.DoubleType(), ir.IntType(32) if single else ir.IntType(64)
        )
        sums = _accumulate(builder, lanes, *data[:5])
        _keep_nearest(builder, lanes, sums, data[3], *data[5:])
        return context.get_dummy_value()

    return signature, codegen


def _accumulate(builder, lanes, tile, packed, half_norms, group, n_features):
    """Emit the loop over features; returns pointers to GROUP x _VECTORS vectors of values."""
    sums = [[cgutils.alloca_once(builder, lanes.value) for _ in range(_VECTORS)] for _ in range(GROUP)]
    first = builder.mul(group, _constant(GROUP))
    for member in range(GROUP):
        pointer = builder.gep(half_norms, [builder.add(first, _constant(member))])
        start = lanes.splat(builder.load(pointer), lanes.value)
        for part in range(_VECTORS):
            builder.store(start, sums[member][part])
    base = builder.mul(first, n_features)
    with cgutils.for_range(builder, n_features) as loop:
        row = builder.mul(loop.index, _constant(lanes.tile_rows))
        xs = [
            lanes.load(tile, builder.add(row, _constant(part * lanes.lanes)), lanes.value) for part in range(_VECTORS)
        ]
        column = builder.add(base, builder.mul(loop.index, _constant(GROUP)))
        for member in range(GROUP):
            scalar = builder.load(builder.gep(packed, [builder.add(column, _constant(member))]))
            centre = lanes.splat(scalar, lanes.value)
            for part in range(_VECTORS):
                product = builder.fmul(xs[part], centre, flags=_CONTRACT)
                total = builder.fadd(builder.load(sums[member][part]), product, flags=_CONTRACT)
                builder.store(total, sums[member][part])
    return sums


def _keep_nearest(builder, lanes, sums, group, best, second, nearest):
    """Emit the comparison of GROUP new values with the best two so far."""
    first = builder.mul(group, _constant(GROUP))
    for part in range(_VECTORS):
        offset = _constant(part * lanes.lanes)
        low = lanes.load(best, offset, lanes.value)
        next_low = lanes.load(second, offset, lanes.value)
        label = lanes.load(nearest, offset, lanes.label)
        for member in range(GROUP):
            value = builder.load(sums[member][part])
            number = builder.add(first, _constant(member))
            if lanes.label.element.width < 64:
                number = builder.trunc(number, lanes.label.element)
            closer = builder.fcmp_ordered("<", value, low)
            between = builder.fcmp_ordered("<", value, next_low)
            next_low = builder.select(closer, low, builder.select(between, value, next_low))
            low = builder.select(closer, value, low)
            label = builder.select(closer, lanes.splat(number, lanes.label), label)
        lanes.store(low, best, offset, lanes.value)
        lanes.store(next_low, second, offset, lanes.value)
        lanes.store(label, nearest, offset, lanes.label)


@intrinsic
def pointer_like(typingctx, address, zero):
    """Turn an address into a pointer to numbers of zero's type, so that one compiled variant serves all layouts."""
    pointer = types.CPointer(zero)

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return pointer(types.intp, zero), codegen


@intrinsic
def prefetch(typingctx, address):
    """Ask for the cache line at an address, which need not be valid, to be read in good time."""

    def codegen(context, builder, signature, args):
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        read, keep, data = (ir.Constant(number, value) for value in (0, 3, 1))
        builder.call(function, [builder.inttoptr(args[0], byte), read, keep, data])
        return context.get_dummy_value()

    return types.void(types.intp), codegen


COUNTED = 16  # what `count_below` looks at


@intrinsic
def count_below(typingctx, bounds, at, value):
    """Count those of bounds[at:at + COUNTED] that are smaller than a value; float32. A NaN is not compared."""
    signature = types.intp(bounds, types.intp, types.float32)

    def codegen(context, builder, signature, args):
        data = _array_data(context, builder, signature.args[0], args[0])
        vector = ir.VectorType(ir.FloatType(), COUNTED)
        nothing, number = ir.Constant(vector, ir.Undefined), ir.IntType(32)
        lanes = builder.load(builder.bitcast(builder.gep(data, [args[1]]), vector.as_pointer()), align=4)
        single = builder.insert_element(nothing, args[2], ir.Constant(number, 0))
        spread = builder.shuffle_vector(single, nothing, ir.Constant(ir.VectorType(number, COUNTED), [0] * COUNTED))
        below = builder.bitcast(builder.fcmp_ordered("<", lanes, spread), ir.IntType(COUNTED))
        return builder.zext(builder.ctpop(below), _INDEX)

    return signature, codegen
