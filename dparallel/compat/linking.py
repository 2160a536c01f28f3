"""How kernels are put together from functions: each holds private copies of all that it calls.

Numba compiles every function to machine code of its own, and puts a copy into each function that calls it. Which of
the copies a call meets then depends on what the process has compiled or loaded before. The copies are optimised in
different surroundings, so with fastmath they differ in the last bit: a fit in the process that compiles a kernel would
differ from the same fit in one that loads it from the cache. Here a function that is only called from kernels becomes
no machine code at all, which also spares time, and a kernel's copies are visible to that kernel alone.
"""

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler


class _InnerCodegen:
    """The code generator, for a function that is not in its engine and cannot be given an environment there."""

    def __init__(self, codegen):
        self._codegen = codegen

    def __getattr__(self, name):
        return getattr(self._codegen, name)

    def set_env(self, env_name, env):
        """Do nothing: without the interpreter, no kernel looks at its environment."""


class _InnerLibrary(JITCodeLibrary):
    """A function as LLVM's intermediate code, to be linked into kernels."""

    @property
    def codegen(self):
        """The code generator."""
        return _InnerCodegen(self._codegen)

    def _optimize_final_module(self):
        """Leave it to the kernels, which optimise what they have taken in."""

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name):
        """Return 0: there is no machine code."""
        self._ensure_finalized()
        return 0


class _KernelLibrary(JITCodeLibrary):
    """A kernel with copies of its own of all functions that it calls."""

    def _optimize_final_module(self):
        for function in self._final_module.functions:
            # what the mangled name of a Python function begins with; numba's runtime exists once
            if function.linkage.name == "linkonce_odr" and function.name.startswith("_ZN"):
                function.linkage = "internal"
        super()._optimize_final_module()


class KernelCompiler(Compiler):
    """numba's compiler, for a function that Python calls."""

    library_class = _KernelLibrary

    def compile_extra(self, func):
        """Compile a function."""
        self.state.library = self.library_class(self.state.targetctx.codegen(), func.__qualname__)
        self.state.library.enable_object_caching()
        return super().compile_extra(func)


class InnerCompiler(KernelCompiler):
    """numba's compiler, for a function that only kernels call."""

    library_class = _InnerLibrary
