"""The first calls after installation, where nothing of the machine can be relied on."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dparallel

FIT = """
import dask
import numpy as np
from dparallel import LocalSGDRegressor
from dparallel.kernels import gradient_dense
X = np.random.default_rng(0).normal(size=(500, 4))
with dask.config.set(num_workers=2):
    model = LocalSGDRegressor(random_state=0, tol=None, max_iter=400).fit(X, X[:, 0])
print(model.coef_.tobytes().hex())
print(sum(gradient_dense._train.stats.cache_hits.values()), gradient_dense._train.stats.cache_path)
"""


@pytest.fixture
def installation(tmp_path):
    """A copy of the package whose kernel folder takes no cache: a file lies where numba's folder would be."""
    package = tmp_path / "site" / "dparallel"
    shutil.copytree(Path(dparallel.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "kernels" / "__pycache__").write_text("not a folder")
    return package.parent


def run(installation, **environment):
    clean = {name: value for name, value in os.environ.items() if name not in ("HOME", "NUMBA_CACHE_DIR")}
    done = subprocess.run(
        [sys.executable, "-B", "-W", "ignore", "-c", FIT],
        env=clean | {"PYTHONPATH": str(installation)} | environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=installation,
    )
    assert done.returncode == 0, done.stderr
    coefficients, cache = done.stdout.strip().splitlines()
    hits, path = cache.split(" ", 1)
    return coefficients, int(hits), path


def test_without_a_writable_package_or_home_the_cache_goes_to_a_private_folder_and_gives_the_same_bits(
    installation, tmp_path
):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    nowhere = str(installation / "dparallel" / "__init__.py" / "cache")
    compiled, hits, path = run(installation, XDG_CACHE_HOME=nowhere, TMPDIR=str(temporary))
    assert hits == 0 and path.startswith(str(temporary))
    (private,) = temporary.glob("dparallel-*")
    assert private.stat().st_mode & 0o077 == 0
    assert run(installation, XDG_CACHE_HOME=nowhere, TMPDIR=str(temporary))[:2] == (compiled, 1)


@pytest.mark.slow
def test_a_users_cache_folder_is_taken_where_the_package_is_read_only(installation, tmp_path):
    _, _, path = run(installation, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert path.startswith(str(tmp_path / "cache"))


@pytest.mark.slow
def test_a_temporary_folder_that_others_can_write_is_not_trusted(installation, tmp_path):
    temporary = tmp_path / "temporary"
    (temporary / f"dparallel-{os.getuid()}").mkdir(parents=True, mode=0o755)
    nowhere = str(installation / "dparallel" / "__init__.py" / "cache")
    _, _, path = run(installation, XDG_CACHE_HOME=nowhere, TMPDIR=str(temporary))
    assert not path.startswith(str(temporary))
