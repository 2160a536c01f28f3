"""How arrays are handed to kernels: by address, or as numba types that do not differ between layouts."""

import numpy as np


def readable(X):
    """X itself, or an aligned copy in native byte order: arrays that came over a network may lie at odd addresses."""
    if is_csr(X) or (X.flags.aligned and X.dtype.isnative and not any(stride % X.itemsize for stride in X.strides)):
        return X
    return X.astype(X.dtype.newbyteorder("="), order="C")


def layout(X):
    """Where a readable dense block lies: address, whether it is float32, strides in elements."""
    return X.ctypes.data, X.dtype == np.float32, X.strides[0] // X.itemsize, X.strides[1] // X.itemsize


def is_csr(X):
    return hasattr(X, "indptr")


class _Window:
    """Memory described so that numpy takes it for writable; kernels only read it, and compile once for both kinds."""

    def __init__(self, array):
        self.__array_interface__ = array.__array_interface__ | {"data": (array.ctypes.data, False)}
        self.array = array  # numpy keeps this object, and it the memory


def writable(array):
    """The same memory as an array that numpy takes for writable: only for kernels that do not write to it."""
    return array if array.flags.writeable else np.asarray(_Window(array))


def flat(array, dtype):
    """An aligned, contiguous array of that dtype for kernels that only read it; a copy only where it needs one."""
    return writable(np.require(array, dtype, ["C", "A"]))


def csr_parts(X):
    """Data, indices and indptr of a CSR block, for kernels that only read them."""
    return tuple(writable(part) for part in (X.data, X.indices, X.indptr))
