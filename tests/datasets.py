"""The data that tests read or make: real files where the machine has them, and the mixtures of the k-means‖ paper."""

import functools
import gzip
import io
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse


def folder():
    """The folder of real data: DPARALLEL_DATA, or shared/data beside the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("DPARALLEL_DATA", beside))


def _open(name):
    path = folder() / name
    if not path.exists():
        pytest.skip(f"{name} is not in {folder()}; set DPARALLEL_DATA to the folder that holds it")
    return gzip.open(path, "rb")


@functools.cache
def spambase():
    """Spambase with all 58 columns, raw: float64 of shape (4601, 58)."""
    with io.TextIOWrapper(_open("spambase.data.gz")) as file:
        return np.loadtxt(file, delimiter=",", skiprows=1)


@functools.cache
def mnist():
    """The 10,000 test digits of MNIST: float64 of shape (10000, 784), 0 to 255."""
    with _open("mnist_t10k-images-idx3-ubyte.gz") as file:
        raw = file.read()
    return np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 784).astype(np.float64)


@functools.cache
def kdd():
    """KDD 1999, ten percent, the numeric columns but the label: float64 of shape (494021, 38)."""
    pandas = pytest.importorskip("pandas")
    with _open("kddcup.data_10_percent.gz") as file:
        return pandas.read_csv(file, header=None).drop(columns=[1, 2, 3, 41]).to_numpy(np.float64)


@functools.cache
def digits():
    """scikit-learn's digits: float64 of shape (1797, 64)."""
    from sklearn.datasets import load_digits

    return load_digits().data


@functools.cache
def gauss_mixture(spread, seed=0, n_rows=10_000):
    """GaussMixture of the k-means‖ paper: 50 centres in 15 dimensions of standard deviation spread, unit noise."""
    random = np.random.default_rng([seed, spread])
    centres = spread * random.normal(size=(50, 15))
    return centres[random.integers(50, size=n_rows)] + random.normal(size=(n_rows, 15))


def sparse_counts(seed=0, n_rows=600, n_features=40):
    """CSR rows of small whole numbers, a fifth of them not zero, some rows empty: float64."""
    random = np.random.default_rng(seed)
    dense = random.integers(1, 9, (n_rows, n_features)) * (random.random((n_rows, n_features)) < 0.2)
    dense[random.random(n_rows) < 0.02] = 0
    return scipy.sparse.csr_matrix(dense.astype(np.float64))


_TABLES = {  # file, separator, lines of names above the rows
    "connect_4": ("connect_4.tsv.gz", "\t", 1),
    "fars": ("fars.tsv.gz", "\t", 1),
    "adult": ("adult.tsv.gz", "\t", 1),
    "covtype": ("covtype_93k.csv.gz", ",", 1),
    "elec": ("elec.csv.gz", ",", 1),
    "skin": ("Skin_NonSkin.txt.gz", "\t", 0),
    "house_16H": ("house_16H.tsv.gz", "\t", 1),
    "protein": ("protein.csv.gz", ",", 0),
}


@functools.cache
def table(name):
    """Features and target of a table whose last column is the target: float64 of shape (n_rows, n_features), (n_rows,).

    name : "connect_4", "fars", "adult", "covtype", "elec", "skin" (classes), "house_16H" or "protein" (numbers)
    """
    file, separator, n_names = _TABLES[name]
    with io.TextIOWrapper(_open(file)) as lines:
        rows = np.loadtxt(lines, delimiter=separator, skiprows=n_names)
    return rows[:, :-1], rows[:, -1]


@functools.cache
def mnist_labels():
    """The digits of the 10,000 test images of MNIST: int64 of shape (10000,)."""
    with _open("mnist_t10k-labels-idx1-ubyte.gz") as file:
        return np.frombuffer(file.read(), np.uint8, offset=8).astype(np.int64)


@functools.cache
def a9a(name="a9a"):
    """The a9a task, "a9a" to learn from and "a9a.t" to test on: CSR float64 of shape (n_rows, 123), labels 0 and 1."""
    from sklearn.datasets import load_svmlight_file

    with _open(f"{name}.gz") as file:
        return load_svmlight_file(file, n_features=123)
