"""Training through the store behaves as delayed gradient descent does by theory."""

import math
from collections import deque

import numpy as np
import pytest

from dparallel import ParameterStore
from dparallel.place import Local
from tests import toy_store
from tests.toy_store import handle_of, parameter

client = pytest.fixture(scope="module")(toy_store.two_workers)


def stability_limit(delay):
    """The product p of learning rate and curvature where z**(delay + 1) - z**delay + p has roots on the unit circle."""
    return 2 * math.sin(math.pi / (2 * (2 * delay + 1)))


def growth(handle, delay, n_steps):
    """Descend a quadratic of curvature 1 from values that are `delay` versions old; return how the error grew."""
    pulled, sizes = deque(maxlen=delay + 1), []
    for clock in range(n_steps):
        pulled.append(handle.pull("x"))
        sizes.append(float(np.abs(pulled[-1]).max()))
        handle.push({"x": pulled[0]}, step=(0, clock))
    period = 8 * (2 * delay + 1)  # the error oscillates; a few of its waves
    return max(sizes[-period:]) / max(sizes[n_steps // 2 - period : n_steps // 2])


def growth_at(product, delay, kind, n_steps, **options):
    """The optimum lies at zero: the error begins from a first push of minus one."""
    with ParameterStore({"x": parameter(kind, 3)}, learning_rate=product, **options) as store:
        handle = handle_of(store, 3)
        handle.push({"x": -np.ones(3)}, step=(1, 0))
        return growth(handle, delay, n_steps)


@pytest.mark.parametrize("kind", toy_store.KINDS)
@pytest.mark.parametrize("delay", [1, 4, 8])
def test_stability_flips_at_the_limit_of_delayed_descent(delay, kind):
    limit, n_steps = stability_limit(delay), 3000
    assert growth_at(0.98 * limit, delay, kind, n_steps, place=Local(1)) < 0.5
    assert growth_at(1.02 * limit, delay, kind, n_steps, place=Local(1)) > 2.0


@pytest.mark.slow
@pytest.mark.parametrize("delay", [1, 4, 8])
def test_stability_flips_at_the_same_limit_on_a_cluster(client, delay):
    limit, n_steps = stability_limit(delay), 2000
    assert growth_at(0.98 * limit, delay, "dense", n_steps, n_shards=2) < 0.7
    assert growth_at(1.02 * limit, delay, "dense", n_steps, n_shards=2) > 1.4
