"""What progress displays and HTML say of fits, and that a fit does not notice who watches."""

import io
import pickle

import dask
import numpy as np
import pytest
import sklearn
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from dparallel import (
    AsyncSGDClassifier,
    LocalSGDClassifier,
    ParallelDecisionTree,
    ParallelKMeans,
    ParallelLogisticRegression,
    ParallelStandardScaler,
)
from dparallel.errors import DataError
from dparallel.observe import Progress
from dparallel.observe.lines import Line, Lines, duration
from dparallel.observe.repr import sparkline
from dparallel.observe.screens import PlainScreen, as_html, rich_table, shown
from tests.versions import before

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(400, 5))
Y = (X[:, 0] + 0.3 * RANDOM.normal(size=400) > 0).astype(int)
FITS = [
    (ParallelKMeans(3, random_state=0, max_iter=4, tol=0), "round"),
    (ParallelDecisionTree(max_depth=3), "round"),
    (ParallelLogisticRegression(), "round"),
    (AsyncSGDClassifier(random_state=0, max_iter=3, tol=None), "epoch"),
    (LocalSGDClassifier(random_state=0, max_iter=3, tol=None), "epoch"),
]
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
needs_callbacks = pytest.mark.skipif(before(1, 9), reason="callbacks are new in scikit-learn 1.9")


@pytest.mark.parametrize("model, unit", FITS, ids=lambda value: type(value).__name__)
def test_progress_counts_rounds_and_says_objective_and_reason(model, unit):
    log = io.StringIO()
    with Progress(display="log", file=log):
        fitted = sklearn.clone(model).fit(X, Y)
    last = log.getvalue().splitlines()[-1]
    assert last.startswith(type(model).__name__) and "objective" in last
    if isinstance(model, ParallelDecisionTree):
        return  # its history counts levels, of which a round may do several
    assert f"{unit} {fitted.history_[-1].round}" in last
    assert last.endswith(fitted.stop_reason_)


@pytest.mark.parametrize("model, unit", FITS, ids=lambda value: type(value).__name__)
def test_records_tell_how_long_each_thread_computed(model, unit):
    history = sklearn.clone(model).fit(X, Y).history_
    timed = [record.seconds_by_worker for record in history if record.seconds_by_worker]
    assert timed and all(name.startswith("thread") and took > 0 for each in timed for name, took in each.items())
    assert history[-1].as_dict()["seconds_by_worker"] == history[-1].seconds_by_worker


def test_watched_fit_gives_the_same_model():
    plain = ParallelKMeans(4, random_state=0).fit(X)
    with Progress(display="log", file=io.StringIO()):
        watched = ParallelKMeans(4, random_state=0).fit(X)
    assert (plain.cluster_centers_ == watched.cluster_centers_).all()


def test_several_starts_have_a_line_each():
    log = io.StringIO()
    with Progress(display="log", file=log):
        ParallelKMeans(3, init="random", n_init=3, random_state=0).fit(X)
    text = log.getvalue()
    assert "start 3/3" in text and all(f"  start {i}  round" in text for i in (1, 2, 3))


def test_failed_fit_is_said_to_have_failed_and_the_next_is_shown():
    log = io.StringIO()
    with Progress(display="log", file=log):
        with pytest.raises(RuntimeError):
            ParallelKMeans(3, random_state=0).set_params(init=_raise).fit(X)
        ParallelKMeans(3, random_state=0).fit(X)
    lines = log.getvalue().splitlines()
    assert any(line.endswith("failed") for line in lines) and not lines[-1].endswith("failed")


def _raise(X, n_clusters, random_state):
    raise RuntimeError


def test_configuration_shows_every_fit_and_nothing_where_nobody_looks(capsys):
    with dask.config.set({"dparallel.progress": True}):
        ParallelKMeans(3, random_state=0).fit(X)
    assert capsys.readouterr() == ("", "")  # standard error is no terminal here


def test_nothing_is_shown_after_with(capsys):
    log = io.StringIO()
    with Progress(display="log", file=log):
        pass
    ParallelKMeans(3, random_state=0).fit(X)
    assert log.getvalue() == ""


def test_unknown_display_is_refused():
    with pytest.raises(DataError, match="'curses' is none of 'auto'"):
        Progress(display="curses")


@needs_callbacks
def test_callback_shows_a_search_with_all_that_it_fits():
    log = io.StringIO()
    pipeline = make_pipeline(ParallelStandardScaler(), ParallelKMeans(random_state=0))
    search = GridSearchCV(pipeline, {"parallelkmeans__n_clusters": [2, 3]}, cv=2)
    search.set_callbacks(Progress(display="log", file=log)).fit(X)
    text = log.getvalue()
    assert "GridSearchCV  step 2/2" in text and "search  fit 4/4" in text
    assert text.count("ParallelStandardScaler") == text.count("ParallelKMeans") == 5
    assert "ParallelKMeans  round" in text and "objective" in text


@needs_callbacks
@pytest.mark.slow
def test_callback_hears_of_fits_in_other_processes():
    log = io.StringIO()
    search = GridSearchCV(ParallelKMeans(random_state=0), {"n_clusters": [2, 3]}, cv=2, n_jobs=2)
    search.set_callbacks(Progress(display="log", file=log)).fit(X)
    assert "search  fit 4/4" in log.getvalue() and "ParallelKMeans, fit 4  round" in log.getvalue()


@needs_callbacks
def test_callback_and_with_together_show_a_fit_once():
    log = io.StringIO()
    progress = Progress(display="log", file=log)
    with progress:
        ParallelKMeans(3, random_state=0).set_callbacks(progress).fit(X)
    assert len(log.getvalue().splitlines()) == 1


@needs_callbacks
def test_progress_in_another_process_without_a_door_is_silent():
    twin = pickle.loads(pickle.dumps(Progress(display="log")))
    assert ParallelKMeans(3, random_state=0).set_callbacks(twin).fit(X).n_iter_ > 0


@needs_callbacks
@pytest.mark.parametrize("model, unit", FITS, ids=lambda value: type(value).__name__)
def test_progress_bar_of_scikit_learn_takes_our_fits(model, unit):
    callback = pytest.importorskip("sklearn.callback")
    pytest.importorskip("rich")
    sklearn.clone(model).set_callbacks(callback.ProgressBar()).fit(X, Y)


def some_lines():
    now = [0.0]
    lines = Lines(clock=lambda: now[0])
    lines.begin(("a",), "Search", 4)
    lines.begin(("a", 0), "Model <1>", 10)
    now[0] = 2.0
    lines.advance(("a", 0), "round", {"number": 4, "objective": 12.5})
    return lines, now


def test_time_left_is_what_the_rounds_to_the_limit_would_take():
    lines, now = some_lines()
    _, line = lines.show()
    assert line.count == "round 4/10"
    assert line.figures(now[0]) == ["objective 12.5", "2 rounds/s", "at most 3.0 s left", ""]


def test_ending_a_line_ends_those_below():
    lines, _ = some_lines()
    lines.end(("a",), "done")
    assert [line.outcome for line in lines.show()] == ["done", "done"]


def test_plain_terminal_writes_over_its_last_line():
    lines, now = some_lines()
    screen = PlainScreen(file := io.StringIO())
    screen.draw(lines.show(), now[0])
    lines.end(("a", 0), "It is good.")
    lines.end(("a",), "done")
    screen.close(lines.show(), now[0])
    first, second, *_ = file.getvalue().split("\r")[1:]
    assert "[#########" in first and "Model <1>" in first and "\n" not in first
    assert second.startswith("Search")
    assert "It is good." in file.getvalue() and file.getvalue().endswith("\n")


def test_rich_terminal_shows_whole_figures_and_cuts_only_the_reason():
    console = pytest.importorskip("rich.console").Console(file=io.StringIO(), width=100, record=True)
    lines, now = some_lines()
    lines.end(("a", 0), "A reason that is far too long for a line of a terminal of a hundred columns, or even more.")
    console.print(rich_table(lines.show(), now[0]))
    text = console.export_text()
    assert "round 4/10" in text and "objective 12.5" in text and "A reason" in text and "even more" not in text


def test_notebook_table_is_escaped():
    lines, now = some_lines()
    assert "Model &lt;1&gt;" in as_html(lines.show(), now[0])
    assert 'value="4" max="10"' in as_html(lines.show(), now[0])


def test_lines_that_run_are_kept_where_there_is_no_room():
    lines = [Line("root", 50)] + [Line(str(i), 1, depth=1, ended=1.0 if i < 28 else None) for i in range(30)]
    kept, n_out = shown(lines)
    assert {"root", "28", "29"} <= {line.name for line in kept} and len(kept) + n_out == len(lines)


def test_durations_read_well():
    assert [duration(s) for s in (0.04, 59.6, 61, 3600)] == ["0.0 s", "60 s", "1:01", "1:00:00"]


@pytest.mark.parametrize("model, unit", FITS, ids=lambda value: type(value).__name__)
def test_html_of_a_fitted_estimator_tells_how_the_fit_went(model, unit):
    model = sklearn.clone(model)
    assert "dparallel-fit" not in model._repr_html_()
    page = model.fit(X, Y)._repr_html_()
    assert "sk-top-container" in page and "dparallel-fit" in page and "objective" in page
    if unit == "epoch":
        assert "<td style='text-align: left; padding-right: 1em'>epochs</td>" in page
    if isinstance(model, AsyncSGDClassifier):
        assert "failovers" in page and "staleness" in page and "store traffic" not in page
    assert model._repr_mimebundle_()["text/html"].count("dparallel-fit") == 1


def test_html_is_left_out_where_the_configuration_wants_text():
    with sklearn.config_context(display="text"):
        assert not hasattr(ParallelKMeans(), "_repr_html_")


def test_sparkline_leaves_out_what_is_no_number():
    assert sparkline([None, 1.0]) == "" and sparkline([]) == ""
    assert sparkline([3.0, None, float("nan"), 1.0]).count(",") == 2
