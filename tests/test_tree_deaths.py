"""Workers killed by SIGKILL while a tree grows: the tree is the same to the last bit."""

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster

from dparallel import ParallelDecisionTree, ParallelDecisionTreeRegressor
from dparallel.estimators.decision_tree import fitting
from dparallel.estimators.decision_tree.exact import finish_small
from tests import clusters, trees
from tests.clusters import Killer

pytestmark = [pytest.mark.timeout(600), pytest.mark.cluster]

N_BLOCKS, N_ROWS = 8, 15_000


def make_rows(number):
    """Rows that a worker makes again when they are lost."""
    return np.random.default_rng(number).normal(size=(N_ROWS, 12))


def make_targets(number):
    rows = make_rows(number)
    return rows[:, 0] * rows[:, 1] + rows[:, 2] + np.random.default_rng([number, 1]).normal(size=N_ROWS)


def rebuildable(make, *shape):
    parts = [da.from_delayed(dask.delayed(make, pure=True)(i), (N_ROWS, *shape), float) for i in range(N_BLOCKS)]
    return da.concatenate(parts)


CASES = {
    "classes": lambda y: (ParallelDecisionTree(max_depth=8), (y > 0.5).astype(int)),
    "numbers": lambda y: (ParallelDecisionTreeRegressor(max_depth=7), y),
    "exact": lambda y: (ParallelDecisionTree(max_depth=9, exact_rows=4000), (y > 0.5).astype(int)),
    "rest": lambda y: (ParallelDecisionTreeRegressor(min_samples_leaf=20), y),
}


@pytest.fixture
def client():
    pytest.importorskip("sklearn.callback")
    with (
        dask.config.set(clusters.MANY_KILLS),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def expected():
    """The trees of undisturbed fits in this process."""
    X, y = (np.concatenate([make(i) for i in range(N_BLOCKS)]) for make in (make_rows, make_targets))
    return {case: make(y)[0].fit(X, make(y)[1]) for case, make in CASES.items()}


def fit(case, *callbacks):
    model, y = CASES[case](rebuildable(make_targets))
    return model.set_callbacks(*callbacks).fit(rebuildable(make_rows, 12), y)


@pytest.mark.parametrize(
    "case, rounds", [("classes", (3,)), ("exact", (2,)), pytest.param("exact", (2, 5), marks=pytest.mark.slow)]
)
def test_a_killed_worker_does_not_change_the_tree(client, expected, case, rounds):
    killer = Killer(client, rounds)
    model = fit(case, killer)
    assert len(killer.killed) == len(rounds)
    trees.assert_same_tree(model, expected[case])


@pytest.mark.slow
def test_ten_kills_at_random_moments_do_not_change_the_tree(client, expected):
    random = np.random.default_rng(0)
    for moment in range(10):
        case = list(CASES)[moment % 3]
        clusters.settle(client, 2)
        rounds = (3, 6) if moment == 9 else (int(random.integers(0, 8)),)
        killer = Killer(client, rounds, seed=moment)
        model = fit(case, killer)
        assert len(killer.killed) == len(rounds)
        trees.assert_same_tree(model, expected[case])


@pytest.mark.slow
@pytest.mark.parametrize("case", ["exact", "rest"])
def test_kills_while_small_nodes_are_finished_do_not_change_the_tree(monkeypatch, client, expected, case):
    for moment in range(3):
        clusters.settle(client, 2)
        killer = Killer(client, (), seed=moment)

        def finish(*arguments, killer=killer):
            killer.kill_soon()
            return finish_small(*arguments)

        monkeypatch.setattr(fitting, "finish_small", finish)
        model = fit(case, killer)
        assert len(killer.killed) == 1
        trees.assert_same_tree(model, expected[case])
