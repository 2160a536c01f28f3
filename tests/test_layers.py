"""The levels of the package, read from its imports.

A file imports only from a lower level; inside one folder also sideways, as long as no circle closes. Imports inside
functions and behind TYPE_CHECKING count as well. Lazy tables in an __init__.py (module names as strings) count for the
levels, not for the circles.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "dparallel"

# Lowest first. A name stands for its file, or for its folder with all that is in it.
LEVELS = [
    ["errors"],
    ["compat", "checkpoint"],
    ["kernels", "records", "pools"],
    ["place"],
    ["blocks", "store.optimizers", "store.consistency", "store.columns", "store.packed", "store.rows", "store.layout"],
    ["store.updates", "store.tables"],
    ["store.shard"],
    ["store.states", "store.compression", "store.local", "store.messages", "store.signatures"],
    ["store.mirror", "store.replica", "store.routing", "store.remote"],
    ["store.host", "store.handle", "rounds", "mapreduce"],
    [
        "store.fleet",
        "store.hosting",
        "store.snapshots",
        "store.spreading",
        "store.stats",
        "store.supervisor",
        "observe",
    ],
    ["store.parameter_store"],
    ["workers"],
    ["checkup", "moments"],
    ["estimator", "metrics"],
    ["model_selection"],
    ["estimators", "preprocessing"],
    ["store"],  # the __init__.py of store/
    ["plot"],
    [""],  # and of the package itself
]
FOREIGN = ("sklearn", "dask", "distributed", "numba", "llvmlite")
LINKING = "dparallel.compat.linking"  # loaded by the first kernel
CLIENT_SEEKERS = {"get_client", "default_client", "worker_client"}


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def level_of(module):
    """Return the level of a module of the package, taken from the most exact name in the table."""
    name = module.removeprefix("dparallel").lstrip(".")
    exact = {entry: number for number, entries in enumerate(LEVELS) for entry in entries}
    while name not in exact:
        if "." not in name:
            raise LookupError(f"{module} has no level. Add it to LEVELS in {__file__}.")
        name = name.rpartition(".")[0]
    return exact[name]


def package_of(module):
    return module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]


class Imports(ast.NodeVisitor):
    """What one file takes: (dotted name, line) for each import and each attribute of an imported module."""

    def __init__(self, module, tree):
        self.module = module
        self.bound = {}  # name in this file -> dotted name of what was imported
        self.taken = []
        self.at_top = []
        self.in_function = 0
        self.visit(tree)

    def take(self, dotted, node):
        self.taken.append((dotted, node.lineno))
        if not self.in_function:
            self.at_top.append((dotted, node.lineno))

    def visit_Import(self, node):
        for alias in node.names:
            first = alias.name.split(".")[0]
            self.bound[alias.asname or first] = alias.name if alias.asname else first
            self.take(alias.name, node)

    def visit_ImportFrom(self, node):
        source = node.module or ""
        if node.level:
            base = package_of(self.module).split(".")
            source = ".".join(base[: len(base) - node.level + 1] + ([source] if source else []))
        for alias in node.names:
            self.bound[alias.asname or alias.name] = f"{source}.{alias.name}"
            self.take(f"{source}.{alias.name}", node)

    def visit_If(self, node):
        only_for_types = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        self.in_function += only_for_types
        self.generic_visit(node)
        self.in_function -= only_for_types

    def visit_FunctionDef(self, node):
        self.in_function += 1
        self.generic_visit(node)
        self.in_function -= 1

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef

    def visit_Attribute(self, node):
        names, base = [node.attr], node.value
        while isinstance(base, ast.Attribute):
            names.append(base.attr)
            base = base.value
        if isinstance(base, ast.Name) and base.id in self.bound:
            # never counted as an import at top level: a lazy submodule loads when the attribute is reached
            self.taken.append((".".join([self.bound[base.id], *reversed(names)]), node.lineno))
        else:
            self.generic_visit(node)


def imports_of(module):
    return Imports(module, ast.parse(FILES[module].read_text(encoding="utf-8")))


IMPORTS = {module: imports_of(module) for module in FILES}


def own_target(dotted):
    """Return the module of this package that a dotted name reaches, or None for anything else.

    A name that the package's __init__.py offers reaches the package itself; `__version__` reaches nothing.
    """
    if dotted.split(".")[0] != "dparallel" or dotted in ("dparallel", "dparallel.__version__"):
        return None
    while dotted not in FILES:
        dotted = dotted.rpartition(".")[0]
    return dotted


def eager_targets(module):
    """Map each module of this package that `module` imports to the first line where it does."""
    found = {}
    for dotted, line in IMPORTS[module].taken:
        target = own_target(dotted)
        if target not in (None, module):
            found.setdefault(target, line)
    return found


def lazy_targets(module):
    """Map each module of this package that is named by a string in `module` to its line."""
    found = {}
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and node.value in FILES and node.value not in ("dparallel", module):
            found.setdefault(node.value, node.lineno)
    return found


def place_in(module, line):
    return f"{FILES[module].relative_to(PACKAGE.parent)}:{line}"


@pytest.mark.parametrize("module", FILES)
def test_file_imports_only_from_lower_levels(module):
    wrong = [
        f"{place_in(module, line)} takes {target}, which is level {level_of(target)}; the file has {level_of(module)}"
        for target, line in (lazy_targets(module) | eager_targets(module)).items()
        if level_of(target) > level_of(module)
        or (level_of(target) == level_of(module) and not share_folder(module, target))
    ]
    assert not wrong, "\n".join(wrong)


def share_folder(module, target):
    """Tell whether both lie in one folder of the package, at whatever depth."""
    folder = module.split(".")[:2]
    return target.split(".")[:2] == folder and (PACKAGE / folder[-1]).is_dir()


def test_no_circle_closes():
    graph = {module: eager_targets(module) for module in FILES}
    finished, path = set(), []

    def follow(module):
        if module in path:
            circle = [*path[path.index(module) :], module]
            pytest.fail("imports in a circle: " + " -> ".join(circle))
        if module not in finished:
            path.append(module)
            for target in graph[module]:
                follow(target)
            finished.add(path.pop())

    for module in FILES:
        follow(module)


def is_private(dotted):
    return any(part.startswith("_") and not part.startswith("__") for part in dotted.split("."))


def test_only_compat_touches_private_modules():
    wrong = [
        f"{place_in(module, line)} takes {dotted}"
        for module, imports in IMPORTS.items()
        for dotted, line in imports.taken
        if not module.startswith("dparallel.compat") and dotted.split(".")[0] in FOREIGN and is_private(dotted)
    ]
    assert not wrong, "\n".join(wrong)


def test_only_vector_intrinsics_touch_the_compiler():
    wrong = [
        f"{place_in(module, line)} takes {dotted}"
        for module, imports in IMPORTS.items()
        for dotted, line in imports.taken
        if (dotted + ".").startswith(("numba.core.", "llvmlite."))
        and module not in (LINKING, "dparallel.compat.compiling", "dparallel.kernels.lanes", "dparallel.kernels.tiles")
    ]
    assert not wrong, "\n".join(wrong)


def test_kernels_know_neither_dask_nor_scikit_learn():
    wrong = [
        f"{place_in(module, line)} takes {dotted}"
        for module, imports in IMPORTS.items()
        for dotted, line in imports.taken
        if module.startswith("dparallel.kernels") and dotted.split(".")[0] in ("dask", "distributed", "sklearn")
    ]
    assert not wrong, "\n".join(wrong)


def test_numba_and_distributed_load_when_first_needed():
    wrong = [
        f"{place_in(module, line)} imports {dotted} at top level"
        for module, imports in IMPORTS.items()
        for dotted, line in imports.at_top
        if not module.startswith("dparallel.kernels.")
        and module != LINKING
        and dotted.split(".")[0] in ("numba", "llvmlite", "distributed")
    ]
    assert not wrong, "\n".join(wrong)


def test_kernel_modules_are_named_only_by_the_lazy_package():
    """`from dparallel.kernels import lloyd` at top level would load Numba with the importing file."""
    wrong = [
        f"{place_in(module, line)} imports {dotted} at top level; write `from dparallel import kernels`"
        for module, imports in IMPORTS.items()
        for dotted, line in imports.at_top
        if dotted.startswith(("dparallel.kernels.", LINKING)) and not module.startswith("dparallel.kernels")
    ]
    assert not wrong, "\n".join(wrong)


def test_only_place_looks_for_a_client():
    wrong = [
        f"{place_in(module, line)} takes {dotted}"
        for module, imports in IMPORTS.items()
        for dotted, line in imports.taken
        if not module.startswith(("dparallel.place", "dparallel.compat."))
        and (dotted.rpartition(".")[2] in CLIENT_SEEKERS or dotted.endswith("Client.current"))
        and dotted.split(".")[0] in FOREIGN
    ]
    assert not wrong, "\n".join(wrong)


def test_import_loads_nothing_heavy():
    program = "import sys, dparallel; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert not {"numba", "llvmlite", "distributed", "pandas", "sklearn", "scipy"} & set(done.stdout.split())
