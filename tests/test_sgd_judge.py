"""When a training ends, how its rates fall, and what they start from."""

import json

import numpy as np
import pytest

from dparallel.blocks.gate import gather
from dparallel.estimators.sgd.geometry import lie
from dparallel.estimators.sgd.judge import EpochJudge
from dparallel.estimators.sgd.schedule import Schedule, choose_knee, curvature
from dparallel.moments import Moments, measure_shard
from dparallel.rounds import open_rounds
from dparallel.workers import EpochReport
from tests import datasets, twins


def report(objective, epoch=0, scores=None):
    return EpochReport(epoch, np.array([10.0 * objective, 10.0]), {"coef": np.zeros((1, 2))}, scores)


def run(judge, objectives):
    """Judge epochs until the end: (epochs, control of each)."""
    controls = []
    for i, objective in enumerate(objectives):
        verdict = judge.judge(report(objective, i))
        controls.append(verdict.control)
        if verdict.reason:
            break
    return i + 1, controls


def scikit_learns_epochs(objectives, tol, patience):
    """Its loop, in Python."""
    best, idle = np.inf, 0
    for epoch, objective in enumerate(objectives):
        idle = idle + 1 if objective > best - tol else 0
        best = min(best, objective)
        if idle >= patience:
            return epoch + 1
    return len(objectives)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("patience", [1, 3, 5])
def test_the_end_comes_when_scikit_learns_comes(seed, patience):
    random = np.random.default_rng(seed)
    objectives = np.exp(-0.3 * np.arange(60)) + 0.01 * random.random(60)
    found, controls = run(EpochJudge(1e-3, patience), objectives)
    assert found == scikit_learns_epochs(objectives, 1e-3, patience)
    assert set(controls) == {1.0}


def test_without_a_tolerance_there_is_no_end():
    assert run(EpochJudge(None, 1), [1.0] * 50)[0] == 50


def test_penalties_count_in_the_objective():
    judge = EpochJudge(1e-3, 5, l1=0.5, l2=2.0)
    found = judge.judge(EpochReport(0, np.array([6.0, 3.0]), {"coef": np.array([[1.0, -2.0]])}))
    assert found.objective == 2.0 + 0.5 * 2.0 * 5.0 + 0.5 * 3.0


def test_adaptive_divides_by_five_down_to_a_millionth_and_then_ends():
    epochs, controls = run(EpochJudge(1e-3, 2, eta0=1e-3, learning_rate="adaptive"), [1.0] * 200)
    falls = [b for a, b in zip(controls, controls[1:]) if b != a]
    np.testing.assert_allclose(falls, 5.0 ** -np.arange(1.0, 6.0))
    assert 1e-3 * falls[-1] <= 1e-6 < 1e-3 * falls[-2] and epochs == 1 + 6 * 2


def test_auto_shortens_its_steps_while_nothing_improves():
    epochs, controls = run(
        EpochJudge(1e-3, 5, learning_rate="auto"), [1.0, 0.5, 0.5, 0.5, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4]
    )
    np.testing.assert_allclose(controls, [1, 1, 1, 1 / 4, 1 / 4, 1 / 4, 1 / 16, 1 / 16, 1 / 64, 1 / 64])
    assert epochs == 10


def test_a_score_has_to_rise():
    judge = EpochJudge(0.01, 2, score=lambda sums: sums[0] / sums[1])
    scores = [0.5, 0.6, 0.605, 0.7, 0.7, 0.705]
    verdicts = [judge.judge(report(1.0, scores=np.array([score, 1.0]))) for score in scores]
    assert [bool(v.reason) for v in verdicts] == [False] * 5 + [True]
    assert "score of the held-out rows" in verdicts[-1].reason and verdicts[1].change == pytest.approx(0.1)


@pytest.mark.parametrize("learning_rate", ["constant", "adaptive", "auto"])
def test_a_judge_remembers_through_json(learning_rate):
    objectives = [1.0, 0.7, 0.6, 0.6, 0.6, 0.55, 0.55, 0.55, 0.55, 0.55, 0.55]
    whole = run(EpochJudge(1e-3, 4, learning_rate=learning_rate), objectives)
    for cut in range(len(objectives)):
        first, second = (EpochJudge(1e-3, 4, learning_rate=learning_rate) for _ in range(2))
        epochs, controls = run(first, objectives[:cut] or [1.0])
        if not cut:
            continue
        second.restore(json.loads(json.dumps(first.state())))
        if epochs < whole[0]:
            more, rest = run(second, objectives[cut:])
            assert (epochs + more, controls + rest) == whole


def test_rates_are_those_of_scikit_learn():
    t = np.arange(5.0, 12.0)
    alpha = 0.01
    first = 1.0 / (np.sqrt(1.0 / np.sqrt(alpha)) * alpha)
    np.testing.assert_allclose(Schedule("optimal", 1.0, alpha=alpha).rates(5, 7), 1.0 / (alpha * (first + t - 1)))
    np.testing.assert_allclose(Schedule("invscaling", 0.3, 0.25).rates(5, 7), 0.3 / t**0.25)
    np.testing.assert_allclose(Schedule("constant", 0.3).rates(5, 7), 0.3)
    np.testing.assert_allclose(Schedule("adaptive", 0.3).rates(5, 7, 0.04), 0.012)
    np.testing.assert_allclose(Schedule("auto", 0.3, knee=4.0).rates(1, 9)[[0, 4, 8]], [0.3, 0.15, 0.1])


def test_the_knee_is_never_early_nor_very_late():
    assert choose_knee(1000.0, 500.0) == 4000 and choose_knee(1e9, 500.0) == 30_000
    assert [choose_knee(0.0, per_epoch) for per_epoch in (0.0, 50.0, 300.0, 1e5)] == [1000, 1000, 500, 300]


def test_losses_that_grow_linearly_bend_over_the_spread_of_their_targets():
    assert curvature("squared_error", 100.0, 0.1) == 1.0
    assert curvature("epsilon_insensitive", 100.0, 0.1) == pytest.approx(0.005)
    assert curvature("huber", 100.0, 0.1) == pytest.approx(0.001) and curvature("huber", 0.01, 0.1) == 1.0


def geometry(X, weights=None, **options):
    stored = np.bincount(X.indices, minlength=X.shape[1]) if hasattr(X, "indptr") else None
    with open_rounds(gather(X, sample_weight=weights, accept_sparse=True)) as rounds:
        moments = rounds.reduce(measure_shard, Moments.merge, X.shape[1])
        flags = {"fit_intercept": True, "scaled": True, "is_batch": False, "is_quadratic": False}
        return lie(rounds, moments, stored, **flags | options)


def test_the_geometry_is_that_of_standardised_rows():
    random = np.random.default_rng(0)
    Z = random.normal(size=(4000, 6)) @ random.normal(size=(6, 6))
    X = np.c_[Z * 10.0 ** np.arange(-3, 3) + 7.0, np.full(4000, 3.3)]
    found = geometry(X)
    np.testing.assert_allclose(found.shift, X.mean(axis=0), atol=1e-3 * X.std(axis=0).max())
    np.testing.assert_allclose(found.metric[:6], 1 / X[:, :6].var(axis=0), rtol=1e-3)
    assert found.metric[6] == 0.0
    assert found.squared_norm == pytest.approx(7.0, rel=1e-3)  # six columns and the intercept
    values = np.linalg.eigvalsh(np.corrcoef(Z.T))
    assert found.top == pytest.approx(1.2 * values[-1], rel=0.15)
    assert found.middle == pytest.approx(np.median(np.r_[values, 1.0]), rel=0.25)


def test_the_last_bits_of_the_geometry_do_not_depend_on_where_arrays_lie():
    X = np.random.default_rng(0).normal(size=(999, 7)) + 3.0
    found = [geometry(twins.lay_out(X, layout)) for layout in ("C", "F", "odd address", "one column apart")]
    for other in found[1:]:
        assert (other.metric == found[0].metric).all() and (other.shift == found[0].shift).all()
        assert (other.top, other.middle, other.squared_norm) == (found[0].top, found[0].middle, found[0].squared_norm)


def test_without_an_intercept_rows_are_not_shifted():
    X = np.random.default_rng(0).normal(size=(500, 3)) + 5.0
    found = geometry(X, fit_intercept=False)
    assert (found.shift == 0).all()
    np.testing.assert_allclose(found.metric, 1 / (X**2).mean(axis=0), rtol=1e-3)
    assert found.squared_norm == pytest.approx(3.0, rel=1e-3)


@pytest.mark.parametrize("weights", [None, np.linspace(0, 2, 500)])
def test_x_itself_has_a_geometry_too(weights):
    random = np.random.default_rng(0)
    X = random.normal(size=(500, 300)) * np.linspace(1, 3, 300) + 5 * random.normal(size=(500, 1))
    found = geometry(X, weights, scaled=False, is_quadratic=True)
    ones = np.ones(500) if weights is None else weights
    rows = np.c_[X, np.ones(500)] * np.sqrt(ones)[:, None]
    assert found.metric is None and found.shift is None
    assert found.squared_norm == pytest.approx((rows**2).sum() / 500, rel=1e-3)
    norms = (rows**2).sum(axis=1)
    assert found.tail == pytest.approx((norms**2).sum() / norms.sum(), rel=1e-3)
    top = np.linalg.eigvalsh(rows.T @ rows / 500)[-1]
    assert 0.9 * top < found.top < 1.3 * top and found.middle == 0.0


def test_csr_columns_are_measured_by_what_is_stored_in_them():
    X = datasets.sparse_counts()
    assert geometry(X).metric is None  # whole numbers below 9: alike
    scaled = X.multiply(10.0 ** np.linspace(-3, 3, X.shape[1])).tocsr()
    found = geometry(scaled)
    stored = [scaled[:, [j]].data for j in range(X.shape[1])]
    np.testing.assert_allclose(found.metric, [1 / (values**2).mean() for values in stored], rtol=1e-3)
    assert found.shift is None
    assert found.squared_norm == pytest.approx(X.nnz / X.shape[0] + 1, rel=1e-3)


def test_a_batch_of_one_row_is_not_believed_to_be_all_there_is():
    X = np.array([[3.0, -1.0, 0.0]])
    whole, batch = geometry(X), geometry(X, is_batch=True)
    assert (whole.metric == 0).all()
    assert (batch.metric[:2] > 0.05).all() and batch.metric[2] == 0 and np.abs(batch.shift).max() < 0.3
