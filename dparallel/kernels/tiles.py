"""Vector loops over a tile of rows, features along the lanes: dot products, and sums of rows times numbers.

A tile is a flat float64 array of rows whose length is a multiple of LANES, zero behind the last feature, so that no
loop has a rest. ROWS rows are treated at once: their sums are independent, and each piece of the parameters, which lie
in such rows, too, is read once for all of them.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from dparallel.kernels.lanes import VECTOR_BYTES

LANES = VECTOR_BYTES // 8
ROWS = 8  # their sums stay in registers, also in the sixteen of AVX2

_FLAGS = ("reassoc", "contract", "nsz")
_INDEX = ir.IntType(64)
_VECTOR = ir.VectorType(ir.DoubleType(), LANES)
_ZEROS = ir.Constant(_VECTOR, [0.0] * LANES)


def _constant(number):
    return ir.Constant(_INDEX, number)


def _place(builder, pointer, offset, kind=_VECTOR):
    return builder.bitcast(builder.gep(pointer, [offset]), kind.as_pointer())


def _load(builder, pointer, offset, kind=_VECTOR):
    return builder.load(_place(builder, pointer, offset, kind), align=4 if kind.element == ir.FloatType() else 8)


def _store(builder, value, pointer, offset):
    builder.store(value, _place(builder, pointer, offset), align=8)


def _splat(builder, scalar):
    nothing = ir.Constant(_VECTOR, ir.Undefined)
    start = builder.insert_element(nothing, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(start, nothing, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _multiply_add(builder, a, b, total):
    return builder.fadd(total, builder.fmul(a, b, flags=_FLAGS), flags=_FLAGS)


def _sum_of_lanes(builder, vector):
    kind = ir.FunctionType(ir.DoubleType(), [ir.DoubleType(), _VECTOR])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{LANES}f64")
    return builder.call(function, [ir.Constant(ir.DoubleType(), 0.0), vector], fastmath=_FLAGS)


def _plain(context, builder, signature, args):
    """The arguments, with pointers to their data in place of arrays."""
    return [
        context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
        for kind, value in zip(signature.args, args, strict=True)
    ]


def _emit_copy(builder, single, source, start, n_features, tile, at):
    kind = ir.VectorType(ir.FloatType(), LANES) if single else _VECTOR

    def copy(offset):
        vector = _load(builder, source, builder.add(start, offset), kind)
        _store(builder, builder.fpext(vector, _VECTOR) if single else vector, tile, builder.add(at, offset))

    last = builder.sub(n_features, _constant(LANES))  # the last vector overlaps the one before
    with cgutils.for_range_slice(builder, _constant(0), last, _constant(LANES), _INDEX) as (offset, _):
        copy(offset)
    copy(last)


def _emit_slow_copy(builder, single, source, start, column_stride, n_features, tile, at):
    with cgutils.for_range(builder, n_features) as loop:
        offset = builder.add(start, builder.mul(loop.index, column_stride))
        value = builder.load(builder.gep(source, [offset]))
        value = builder.fpext(value, ir.DoubleType()) if single else value
        builder.store(value, builder.gep(tile, [builder.add(at, loop.index)]))


@intrinsic
def copy_row(typingctx, address, single, start, column_stride, n_features, tile, at):
    """Copy n_features numbers, float32 if single, else float64, to tile[at:], as float64.

    address : of the numbers' array; start, column_stride : int, of the first, and between them, in elements
    """

    def codegen(context, builder, signature, args):
        address, is_single, start, column_stride, n_features, tile, at = _plain(context, builder, signature, args)
        enough = builder.icmp_signed(">=", n_features, _constant(LANES))
        fast = builder.and_(builder.icmp_signed("==", column_stride, _constant(1)), enough)

        def copy(single):
            element = ir.FloatType() if single else ir.DoubleType()
            source = builder.inttoptr(address, element.as_pointer())
            with builder.if_else(fast) as (near, apart):
                with near:
                    _emit_copy(builder, single, source, start, n_features, tile, at)
                with apart:
                    _emit_slow_copy(builder, single, source, start, column_stride, n_features, tile, at)

        with builder.if_else(is_single) as (yes, no):
            with yes:
                copy(True)
            with no:
                copy(False)
        return context.get_dummy_value()

    number = types.intp
    return types.void(number, types.boolean, number, number, number, tile, number), codegen


def _places(builder, first, apart, count):
    return [builder.add(first, builder.mul(apart, _constant(i))) for i in range(count)]


@intrinsic
def dots(typingctx, tile, row, width, coef, start, values, at):
    """Dot products of ROWS rows of a tile, from row on, with coef[start : start + width], to values[at:]."""

    def codegen(context, builder, signature, args):
        tile, row, width, coef, start, values, at = _plain(context, builder, signature, args)
        sums = [cgutils.alloca_once_value(builder, _ZEROS) for _ in range(ROWS)]
        for place in sums:
            builder.store(_ZEROS, place)
        rows = _places(builder, builder.mul(row, width), width, ROWS)
        with cgutils.for_range_slice(builder, _constant(0), width, _constant(LANES), _INDEX) as (offset, _):
            weight = _load(builder, coef, builder.add(start, offset))
            for place, row_start in zip(sums, rows, strict=True):
                x = _load(builder, tile, builder.add(row_start, offset))
                builder.store(_multiply_add(builder, x, weight, builder.load(place)), place)
        for place, value in zip(sums, _places(builder, at, _constant(1), ROWS), strict=True):
            builder.store(_sum_of_lanes(builder, builder.load(place)), builder.gep(values, [value]))
        return context.get_dummy_value()

    number = types.intp
    return types.void(tile, number, number, coef, number, values, number), codegen


@intrinsic
def add(typingctx, tile, row, width, slopes, at, gradient, start):
    """Add ROWS rows of a tile, from row on, times slopes[at:], to gradient[start : start + width]."""

    def codegen(context, builder, signature, args):
        tile, row, width, slopes, at, gradient, start = _plain(context, builder, signature, args)
        places = _places(builder, at, _constant(1), ROWS)
        numbers = [_splat(builder, builder.load(builder.gep(slopes, [place]))) for place in places]
        rows = _places(builder, builder.mul(row, width), width, ROWS)
        with cgutils.for_range_slice(builder, _constant(0), width, _constant(LANES), _INDEX) as (offset, _):
            total = _load(builder, gradient, builder.add(start, offset))
            for number, row_start in zip(numbers, rows, strict=True):
                x = _load(builder, tile, builder.add(row_start, offset))
                total = _multiply_add(builder, x, number, total)
            _store(builder, total, gradient, builder.add(start, offset))
        return context.get_dummy_value()

    number = types.intp
    return types.void(tile, number, number, slopes, number, gradient, number), codegen
