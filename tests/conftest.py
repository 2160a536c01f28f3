"""What all tests share: repeatable property tests, and the marker `cluster` wherever a cluster is used."""

import os

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
