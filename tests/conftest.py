"""What all tests share: repeatable property tests, and the marker `cluster` wherever a cluster is used."""

import os

import dask
import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("MPLBACKEND", "Agg")  # no window, here or in a worker process

# no deadline: a first call compiles its kernel
settings.register_profile(
    "dparallel", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("dparallel")


@pytest.hookimpl(tryfirst=True)  # before pytest looks at -m
def pytest_collection_modifyitems(items):
    for item in items:
        if {"client", "cluster"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("cluster")


@pytest.fixture(params=["here", "cluster"])
def place(request):
    """Run a test without a client, and with the one that its module's fixture `client` gives."""
    if request.param == "cluster":
        request.getfixturevalue("client")
        yield request.param
    else:
        with dask.config.set(scheduler="threads"):
            yield request.param
