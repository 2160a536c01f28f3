"""What pyproject.toml, .ci/ and README.md say of one another is true."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import dparallel

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
README_PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def command_between(mark):
    found = re.search(rf"<!-- {mark} -->\n```sh\n(.*?)```\n<!-- end -->", README, re.DOTALL)
    return found.group(1).splitlines() if found else []


def lowest_versions(requirements):
    """Map each requirement's plain name to its lower bound."""
    pattern = r"([A-Za-z0-9_-]+)(?:\[.*?\])?>=([0-9.]+)"
    return dict(re.fullmatch(pattern, requirement).groups() for requirement in requirements)


def test_oldest_pins_are_the_lowest_versions_allowed():
    extras = PROJECT["optional-dependencies"]
    allowed = lowest_versions(
        PROJECT["dependencies"] + extras["dataframe"] + extras["plot"] + extras["progress"] + extras["test"]
    )
    lines = (ROOT / ".ci" / "oldest.txt").read_text(encoding="utf-8").splitlines()
    assert dict(line.split("==") for line in lines if not line.startswith("#")) == allowed


def test_every_third_party_import_of_the_package_is_declared():
    declared = {"sklearn" if name == "scikit-learn" else name for name in lowest_versions(PROJECT["dependencies"])}
    # llvmlite comes with numba, and what is optional is only imported where it is asked for
    # cloudpickle, fsspec and tornado come with dask and distributed, IPython with a notebook
    declared |= {"cloudpickle", "fsspec", "tornado", "llvmlite", "pandas", "pyarrow", "matplotlib", "rich", "dparallel"}
    declared |= {"IPython", "bokeh"}
    imported = set()
    for path in (ROOT / "dparallel").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(node.module.split(".")[0])
    assert imported - set(sys.stdlib_module_names) <= declared


@pytest.mark.parametrize("mark", ["quickstart command", "test command"])
def test_readme_command_is_one_line_and_sets_up_its_own_environment(mark):
    (command,) = command_between(mark)
    assert command.startswith("python3 -m venv .venv && .venv/bin/python -m pip install ")


def test_test_command_installs_the_extras_that_exist():
    (command,) = command_between("test command")
    extras = re.search(r'"\.\[(.*?)\]"', command).group(1).split(",")
    assert set(extras) <= set(PROJECT["optional-dependencies"])


@pytest.mark.cluster
@pytest.mark.parametrize("program", README_PROGRAMS, ids=range(len(README_PROGRAMS)))
def test_readme_program_runs_as_it_stands(program, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, path], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there():
    assert all(getattr(dparallel, name) is not None for name in dparallel.__all__)
