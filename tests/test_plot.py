"""Every plot draws what the fitted estimator holds on the Axes that it is given."""

import subprocess
import sys

import dask.array as da
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from dparallel import AsyncSGDClassifier, ParallelDecisionTree, ParallelKMeans, ParallelStandardScaler, plot
from dparallel.errors import DataError
from dparallel.plot.clusters import simplified

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(600, 4)) + 6 * RANDOM.integers(0, 3, size=(600, 1))
Y = (X[:, 0] > 3).astype(int)


@pytest.fixture(scope="module")
def kmeans():
    return ParallelKMeans(3, random_state=0).fit(X)


@pytest.fixture(scope="module")
def sgd():
    return AsyncSGDClassifier(random_state=0, max_iter=4, tol=None).fit(X, Y)


@pytest.fixture(scope="module")
def tree():
    return ParallelDecisionTree(max_depth=4).fit(X, (X.sum(axis=1) > 20).astype(int))


@pytest.fixture
def ax():
    figure, ax = pyplot.subplots()
    yield ax
    pyplot.close(figure)


def heights(ax):
    return [bar.get_height() for bar in ax.patches]


def test_objective_is_that_of_the_history(kmeans, ax):
    assert plot.objective(kmeans, ax=ax) is ax
    x, y = ax.lines[0].get_data()
    assert list(x) == [r.round for r in kmeans.history_] and list(y) == [r.objective for r in kmeans.history_]
    assert ax.get_xlabel() == "round"


def test_objective_against_seconds_adds_them_up(sgd, ax):
    plot.objective(sgd, against="seconds", ax=ax)
    assert ax.lines[0].get_xdata()[-1] == pytest.approx(sum(r.seconds for r in sgd.history_))


def test_staleness_has_a_bar_per_age(sgd, ax):
    plot.staleness(sgd, ax=ax)
    assert heights(ax) == list(sgd.staleness_.values())


def test_traffic_has_a_bar_per_epoch(sgd, ax):
    plot.traffic(sgd, ax=ax)
    assert len(ax.patches) == len(sgd.history_) and "store" in ax.get_legend().get_texts()[0].get_text()


def test_worker_times_has_a_bar_per_thread(kmeans, ax):
    plot.worker_times(kmeans, ax=ax)
    assert len(ax.patches) == len(kmeans.history_[0].seconds_by_worker)


def test_centres_are_drawn_in_the_columns_that_are_asked_for(kmeans, ax):
    plot.centres(kmeans, features=(0, 3), ax=ax)
    assert np.allclose(ax.collections[0].get_offsets(), kmeans.cluster_centers_[:, [0, 3]])


@pytest.mark.parametrize("n_features", [1, 2, 4])
def test_centres_need_no_choice_of_columns(n_features, ax):
    model = ParallelKMeans(3, random_state=0).fit(X[:, :n_features])
    assert len(plot.centres(model, ax=ax).collections[0].get_offsets()) == 3


def test_silhouette_of_dask_rows_is_that_of_rows_in_memory(kmeans, ax):
    plot.silhouette(kmeans, da.from_array(X, chunks=(100, 4)), ax=ax)
    plot.silhouette(kmeans, X, ax=ax)
    assert list(ax.lines[0].get_xdata()) == pytest.approx(list(ax.lines[1].get_xdata()), abs=1e-12)
    mean = simplified(kmeans.transform(X))[1].mean()
    assert ax.lines[0].get_xdata()[0] == pytest.approx(mean)


def test_simplified_silhouette_is_the_gap_to_the_second_nearest_centre():
    labels, values = simplified(np.array([[1.0, 4.0, 9.0], [2.0, 2.0, 0.0], [0.0, 0.0, 5.0]]))
    assert labels.tolist() == [0, 2, 0] and values.tolist() == [0.75, 1.0, 0.0]


def test_tree_growth_has_a_bar_per_level(tree, ax):
    plot.tree_growth(tree, ax=ax)
    assert heights(ax) == [r.n_splits for r in tree.history_]


def test_plots_make_an_axes_where_none_is_given(kmeans):
    ax = plot.objective(kmeans)
    assert ax.figure is not None
    pyplot.close(ax.figure)


@pytest.mark.parametrize("draw", [plot.objective, plot.traffic, plot.worker_times, plot.centres])
def test_unfitted_estimator_is_refused(draw):
    with pytest.raises(NotFittedError):
        draw(ParallelKMeans())


def test_estimator_of_another_kind_is_refused(kmeans):
    with pytest.raises(DataError, match="has no staleness_"):
        plot.staleness(kmeans)
    with pytest.raises(DataError, match="has no tree_"):
        plot.tree_growth(kmeans)
    with pytest.raises(DataError, match="has no history_"):
        plot.objective(ParallelStandardScaler().fit(X))
    with pytest.raises(DataError, match="neither"):
        plot.objective(kmeans, against="hours")
    with pytest.raises(DataError, match="are not two columns of 4"):
        plot.centres(kmeans, features=(0, 4))


def test_missing_matplotlib_is_named_with_the_remedy():
    program = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from dparallel import plot\n"
        "from dparallel.plot.drawing import axes\n"
        "from dparallel.errors import MissingExtraError\n"
        "try: axes(None)\n"
        "except MissingExtraError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install dparallel[plot]" in done.stdout
