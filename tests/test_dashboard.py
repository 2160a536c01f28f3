"""The page of running fits in Dask's dashboard: what the scheduler hears, and what a browser shows."""

import os
import shutil
import threading
import urllib.request

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster

from dparallel import AsyncSGDClassifier, ParallelKMeans
from dparallel.errors import PlaceError, ShowWarning
from dparallel.observe import dashboard
from dparallel.observe.board import MOST_FITS, MOST_POINTS, Board, thinned
from tests.clusters import kill, settle, until

pytest.importorskip("bokeh")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def client():
    options = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(2, **options) as cluster, Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def data(client):
    X = da.random.default_rng(0).normal(size=(40_000, 10), chunks=(5_000, 10))
    return X, (X[:, 0] > 0).astype(int)


def last_fit(client):
    """The fit that the scheduler heard of last, as a dict."""
    return client.run_on_scheduler(_last_fit)


def _last_fit(dask_scheduler):
    fits = dask_scheduler.plugins["dparallel"].board.fits
    return vars(next(reversed(fits.values()))) if fits else {}


def test_scheduler_hears_of_rounds_workers_and_the_end(client, data):
    dashboard(client)
    model = ParallelKMeans(4, random_state=0, tol=0, max_iter=12).fit(data[0])
    fit = last_fit(client)
    assert fit["name"] == "ParallelKMeans" and fit["status"] == "finished" and fit["reason"] == model.stop_reason_
    assert [y for _, y in fit["objectives"]] == [record.objective for record in model.history_]
    assert fit["round"] == model.n_iter_ and fit["max_rounds"] == 12 and not fit["store"]
    assert set(fit["workers"]) == set(client.scheduler_info()["workers"])


def test_scheduler_hears_of_the_store(client, data):
    dashboard(client)
    model = AsyncSGDClassifier(random_state=0, max_iter=5, tol=None).fit(*data)
    store = last_fit(client)["store"]
    assert store["updates"] == model.store_stats_.pushes and store["primaries"] == model.store_stats_.primaries
    assert {int(age): count for age, count in store["staleness"].items()} == model.staleness_


def test_failed_fit_is_told_with_its_error(client, data):
    dashboard(client)
    bad = data[0].copy()
    bad[7, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        ParallelKMeans(4, random_state=0).fit(bad)
    fit = last_fit(client)
    assert fit["status"] == "failed" and "NaN" in fit["reason"]


def test_fit_that_nobody_asked_to_see_is_not_told(client, data):
    dashboard(client)
    ParallelKMeans(2, random_state=0).fit(data[0])
    before = last_fit(client)
    with Client(client.scheduler.address):  # another client, which did not ask
        ParallelKMeans(3, random_state=0).fit(data[0])
    assert last_fit(client) == before


def test_page_is_served_and_linked_from_the_others(client):
    address = dashboard(client)
    assert address == dashboard(client) and address.endswith("/dparallel")
    for path in (address, address.replace("/dparallel", "/status")):
        with urllib.request.urlopen(path, timeout=30) as page:
            assert b'href="dparallel"' in page.read()


def test_scheduler_without_a_dashboard_is_warned_of_once_and_the_fit_runs(data):
    with LocalCluster(1, processes=False, dashboard_address=None) as cluster, Client(cluster) as client:
        client.run_on_scheduler(_without_pages)
        with pytest.warns(ShowWarning, match="serves no dashboard"):
            assert dashboard(client) is None
        with dask.config.set({"dparallel.dashboard": True}):
            assert ParallelKMeans(2, random_state=0).fit(data[0][:1000]).n_iter_ > 0


def _without_pages(dask_scheduler):
    dask_scheduler.http_application.applications.clear()


def test_asynchronous_client_is_refused():
    class Asynchronous:
        asynchronous = True

    with pytest.raises(PlaceError, match="no synchronous client"):
        dashboard(Asynchronous())


def test_board_keeps_the_last_fits_and_thins_out_points():
    board = Board()
    for number in range(MOST_FITS + 3):
        board.hear("dparallel", {"fit": str(number), "name": "Model"})
    board.hear("another topic", {"fit": "x"})
    board.hear("dparallel", "no dict")
    assert len(board.fits) == MOST_FITS and "0" not in board.fits
    points = [[float(i), 0.0] for i in range(MOST_POINTS + 1)]
    assert len(thinned(points)) < MOST_POINTS and thinned(points)[-1] == points[-1]


def test_board_notes_workers_that_leave_and_clients_that_are_gone():
    board = Board()
    board.worker_left("tcp://0")
    board.hear("dparallel", {"fit": "a", "name": "Model", "client": "c"})
    board.worker_left("tcp://1")
    board.worker_joined("tcp://2")
    board.client_left("another")
    assert board.fits["a"].status == "running"
    board.client_left("c")
    assert board.fits["a"].status == "lost" and [who for _, who in board.fits["a"].deaths] == ["tcp://1"]
    assert [what for _, what in board.events] == ["worker tcp://1 left", "worker tcp://2 joined"]


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def page(tmp_path):
    """A page of a real browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the page is looked at with Playwright")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here; Debian's package is called chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.complaints = []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        yield page
        browser.close()


@pytest.mark.slow
def test_browser_shows_a_running_fit_whose_worker_is_killed(client, page, tmp_path):
    """With DPARALLEL_SCREENSHOT=path the picture is kept there."""
    settle(client, 2)
    page.goto(dashboard(client))
    X = da.random.default_rng(0).normal(size=(400_000, 30), chunks=(50_000, 30))
    model = AsyncSGDClassifier(random_state=0, max_iter=80, tol=None)
    # the browser can be asked from this thread only, so the fit has another one
    fit = threading.Thread(target=model.fit, args=(X, (X[:, 0] > 0).astype(int)))
    fit.start()
    page.get_by_text("epoch 5 ").or_(page.get_by_text("epoch 6 ")).first.wait_for(timeout=60_000)
    kill(min(client.run(os.getpid).values()))
    page.get_by_text("(gone)").or_(page.get_by_text(" left")).first.wait_for(timeout=60_000)
    until(lambda: last_fit(client)["round"] > 20, timeout_s=60)
    picture = os.environ.get("DPARALLEL_SCREENSHOT", tmp_path / "page.png")
    page.screenshot(path=picture)
    fit.join()
    page.get_by_text("finished", exact=True).first.wait_for(timeout=60_000)
    assert not page.complaints and os.path.getsize(picture) > 20_000
    assert model.n_iter_ == 80
