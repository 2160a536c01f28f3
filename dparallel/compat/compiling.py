"""Compiling with numba, and where what was compiled is kept."""

import contextlib
import functools
import hashlib
import os
import pathlib
import stat
import tempfile
import threading

# The full fastmath flag would let LLVM delete checks for NaN, so nnan and ninf stay out.
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}

_numba_config = threading.Lock()


def kernel(function=None, *, inner=False, inlined=False, fastmath=FASTMATH):
    """Compile a function with numba when first called, without the GIL and cached on disk.

    inner : bool; the function is only called from kernels, of which each takes a copy; see `compat.linking`
    inlined : bool; it becomes part of each of them: for small functions with many arguments in innermost loops

    The cache folder carries a digest of all kernel sources: numba itself looks only at the file of
    the compiled function, so a change in a file that it inlines would go unnoticed. Where the package
    folder is read-only the user's cache folder is taken, then a private folder among the temporary
    files; where none can be written the function is compiled in memory.
    """
    if function is None:
        return functools.partial(kernel, inner=inner, inlined=inlined, fastmath=fastmath)
    import numba

    from dparallel.compat.linking import InnerCompiler, KernelCompiler

    is_part = inner or inlined
    folder = None if is_part else _cache_folder()
    with _numba_config:
        before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, folder or ""
        try:
            return numba.njit(
                nogil=True,
                cache=folder is not None,
                fastmath=fastmath,
                error_model="numpy",
                no_cpython_wrapper=is_part,
                forceinline=inlined,
                no_cfunc_wrapper=True,
                pipeline_class=InnerCompiler if is_part else KernelCompiler,
            )(function)
        finally:
            numba.config.CACHE_DIR = before


@functools.cache
def _cache_folder():
    """Find a writable folder for compiled kernels, or return None."""
    kernels = pathlib.Path(__file__).parents[1] / "kernels"
    digest = hashlib.sha256()
    for path in [pathlib.Path(__file__), *sorted(kernels.glob("*.py"))]:
        digest.update(path.read_bytes())
    name = f"dparallel-{digest.hexdigest()[:16]}"
    for candidate in _cache_candidates(kernels):
        with contextlib.suppress(OSError, RuntimeError):
            folder = candidate() / name
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return str(folder)
    return None


def _cache_candidates(kernels):
    if os.environ.get("NUMBA_CACHE_DIR"):
        yield lambda: pathlib.Path(os.environ["NUMBA_CACHE_DIR"])
    yield lambda: kernels / "__pycache__"
    yield lambda: pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "dparallel"
    yield _private_temporary_folder


def _private_temporary_folder():
    """A folder that only this user can write: compiled code is loaded from it."""
    owner = os.getuid() if hasattr(os, "getuid") else 0
    folder = pathlib.Path(tempfile.gettempdir()) / f"dparallel-{owner}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or (hasattr(os, "getuid") and (found.st_uid != owner or found.st_mode & 0o077)):
        raise OSError(f"{folder} is not a folder of this user's alone")
    return folder
