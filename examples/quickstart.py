"""
k-means here, on a cluster, and with a worker killed
====================================================

The same object in three places: in this process, on scikit-learn's handwritten digits; on two worker processes, with
2 million rows that they generate themselves; and there again while one of the two is killed. Each fit starts from the
same centres as scikit-learn's ``KMeans``, so the results can be compared number by number. All that is printed is
measured in this run.

At the end there is a picture, if matplotlib is installed: the inertia and the seconds of every round, undisturbed and
with the killed worker, and a sample of the rows with the centres found.
"""

import logging
import os
import signal
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import dask.array as da
import numpy as np
from dask.utils import key_split
from distributed import Client, LocalCluster
from distributed.diagnostics.plugin import SchedulerPlugin
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from dparallel import ParallelKMeans

N_BLOCKS = 40
BLOCK_SHAPE = (50_000, 8)
N_CLUSTERS = 24
KILL_IN_ROUND = 7


def main():
    fit_here()
    first_centres = draw_rows(0, N_CLUSTERS)
    chunks = ((BLOCK_SHAPE[0],) * N_BLOCKS, BLOCK_SHAPE[1])
    X = da.map_blocks(draw_block, chunks=chunks, dtype=float, meta=np.empty((0, 0)))
    settings = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    # the one death is meant and told of below, so Dask's log stays silent
    with LocalCluster(2, silence_logs=logging.CRITICAL, **settings) as cluster, Client(cluster) as client:
        print(f"\n(b) {len(X):,} rows x {X.shape[1]} in {N_BLOCKS} blocks, {N_CLUSTERS} clusters, two worker processes")
        print(f"dashboard: {cluster.dashboard_link}")
        model = fit_on_cluster(X, first_centres)
        print("\n(c) the same fit, one of the two processes killed on the way")
        killed = fit_with_a_death(X, first_centres, cluster, client)
    difference = np.abs(killed.cluster_centers_ - model.cluster_centers_).max()
    same = difference <= 1e-10
    print(f"the same centres: {'yes' if same else 'NO'} (largest difference {difference:.1e})")
    show(model, killed, first_centres)
    if not same:
        raise SystemExit("The killed worker changed the result, which is a bug.")


def fit_here():
    """(a) In this process, on threads."""
    X = load_digits().data
    print(f"(a) digits, {len(X)} rows x {X.shape[1]}, 10 clusters, in this process")
    settings = {"n_clusters": 10, "init": X[:10]}
    _, first_s = timed(ParallelKMeans(**settings).fit, X)
    model, seconds = timed(ParallelKMeans(**settings).fit, X)
    theirs, theirs_s = timed(KMeans(**settings, n_init=1).fit, X)
    print(f"first fit, compiled loops made or loaded: {first_s:.2f} s; second fit: {seconds:.4f} s")
    print(f"scikit-learn: {theirs_s:.4f} s")
    print(f"inertia: {model.inertia_:.6f}, scikit-learn: {theirs.inertia_:.6f}")
    print(f"largest difference between centres: {np.abs(model.cluster_centers_ - theirs.cluster_centers_).max():.1e}")


def fit_on_cluster(X, first_centres):
    """(b) On the workers, which generate the rows; scikit-learn beside it, with the same rows in this process."""
    settings = {"n_clusters": N_CLUSTERS, "init": first_centres}
    model, seconds = timed(ParallelKMeans(**settings, verbose=1).fit, X)
    rows, fetch_s = timed(X.compute)
    theirs, theirs_s = timed(KMeans(**settings, n_init=1).fit, rows)
    print(f"dparallel: {rounds_s(model):.2f} s in {model.n_iter_} rounds, {seconds:.2f} s with generating the rows")
    print(f"scikit-learn: {theirs_s:.2f} s in {theirs.n_iter_} rounds, {theirs_s + fetch_s:.2f} s with fetching them")
    print(f"largest difference between centres: {np.abs(model.cluster_centers_ - theirs.cluster_centers_).max():.1e}")
    return model


def fit_with_a_death(X, first_centres, cluster, client):
    """(c) On the workers, one of which dies while it computes its part of a round."""
    address, pid = next(iter(client.run(os.getpid).items()))
    # the first pass over the rows finds their mean and spread; the second is round 1
    killer = KillWorker(cluster.scheduler, address, pid, n_tasks=KILL_IN_ROUND + 1)
    cluster.scheduler.add_plugin(killer)
    model, seconds = timed(ParallelKMeans(N_CLUSTERS, init=first_centres).fit, X)
    if not killer.done:
        raise RuntimeError(f"The fit ended before round {KILL_IN_ROUND}, in which process {pid} was to be killed.")
    print(f"process {pid} got SIGKILL when it was given its part of round {KILL_IN_ROUND}")
    print(f"dparallel: {rounds_s(model):.2f} s in {model.n_iter_} rounds, {seconds:.2f} s with generating the rows")
    return model


class KillWorker(SchedulerPlugin):
    """Kill a worker process as soon as it is given its n-th partial result to compute."""

    def __init__(self, scheduler, address, pid, n_tasks):
        self.scheduler = scheduler
        self.address = address
        self.pid = pid
        self.n_left = n_tasks

    @property
    def done(self):
        return self.n_left <= 0

    def transition(self, key, start, finish, *args, **kwargs):
        """Called by the scheduler whenever the state of a task has changed."""
        if self.done or finish != "processing" or key_split(key) != "dparallel-partial":
            return
        if self.scheduler.tasks[key].processing_on.address == self.address:
            self.n_left -= 1
            if self.done:
                os.kill(self.pid, signal.SIGKILL)


def draw_block(block_info=None):
    """One block of rows, always the same: its number seeds the draws."""
    return draw_rows(block_info[None]["chunk-location"][0], BLOCK_SHAPE[0])


def draw_rows(seed, n_rows):
    """Rows of a Gaussian mixture whose means lie on a spiral in a plane, of shape (n_rows, 8)."""
    number = np.arange(N_CLUSTERS) + 1
    radius, angle = 2.0 * np.sqrt(number), 2.4 * number
    plane = np.linalg.qr(np.random.default_rng(7).normal(size=(BLOCK_SHAPE[1], 2)))[0]
    means = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)]) @ plane.T
    rng = np.random.default_rng([1, seed])
    return means[rng.integers(N_CLUSTERS, size=n_rows)] + rng.normal(size=(n_rows, BLOCK_SHAPE[1]))


def timed(function, *arguments):
    """The result of a call and the seconds it took."""
    started = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - started


def rounds_s(model):
    return sum(record.seconds for record in model.history_)


def show(model, killed, first_centres):
    """Draw the picture, if that is possible here, and say where it is."""
    if find_spec("matplotlib") is None:
        print("\nNo picture was drawn, since matplotlib is not installed: pip install matplotlib, and run this again.")
        return
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(11, 5), layout="constrained")
    layout = [["inertia", "rows"], ["seconds", "rows"]]
    axes = figure.subplot_mosaic(layout, width_ratios=[1.15, 1], height_ratios=[1.6, 1])
    draw_inertia(axes["inertia"], model, killed)
    draw_seconds(axes["seconds"], model, killed)
    draw_sample(axes["rows"], model, first_centres)
    axes["inertia"].sharex(axes["seconds"])
    # to the documentation, when started in the repository or in its folder examples, else here
    folder = next((place for place in (Path("docs/images"), Path("../docs/images")) if place.is_dir()), Path())
    path = (folder if os.access(folder, os.W_OK) else Path(tempfile.gettempdir())).resolve() / "quickstart.png"
    figure.savefig(path, dpi=110)
    print(f"\npicture: {path}")


CALM, KILLED = "#9ecae1", "#c1272d"


def draw_inertia(axis, model, killed):
    """Inertia per row and round of both fits, one on top of the other."""
    n_rows = model.counts_.sum()
    wide = {"color": CALM, "linewidth": 7, "solid_capstyle": "round", "label": "undisturbed"}
    thin = {"color": KILLED, "marker": "o", "markersize": 3.5, "label": "one of the two workers killed"}
    for fit, style in ((model, wide), (killed, thin)):
        axis.plot([r.round for r in fit.history_], [r.objective / n_rows for r in fit.history_], **style)
    axis.set_title(f"{n_rows / 1e6:g} million rows, {N_CLUSTERS} clusters, two worker processes")
    axis.set_ylabel("inertia per row")
    axis.axvline(KILL_IN_ROUND, color=KILLED, linewidth=1, linestyle=":")
    axis.annotate("SIGKILL", (KILL_IN_ROUND + 0.2, 0.55), xycoords=("data", "axes fraction"), color=KILLED)
    axis.tick_params(bottom=False, labelbottom=False)
    axis.legend(frameon=False)
    tidy(axis)


def draw_seconds(axis, model, killed):
    """Seconds of every round of both fits, side by side."""
    for fit, shift, colour in ((model, -0.2, CALM), (killed, 0.2, KILLED)):
        records = fit.history_
        axis.bar([r.round + shift for r in records], [r.seconds for r in records], width=0.4, color=colour)
    axis.axvline(KILL_IN_ROUND, color=KILLED, linewidth=1, linestyle=":")
    axis.set(xlabel="round", ylabel="seconds", xlim=(0.3, max(model.n_iter_, killed.n_iter_) + 0.7))
    tidy(axis)


def draw_sample(axis, model, first_centres):
    """Some rows in the plane in which the centres lie widest apart, with the first and the last centres."""
    rows, centres = draw_rows(0, 12_000), model.cluster_centers_
    middle = centres.mean(axis=0)
    plane = np.linalg.svd(centres - middle)[2][:2].T
    first, last, points = ((found - middle) @ plane for found in (first_centres, centres, rows))
    axis.scatter(*points.T, c=colours(last)[model.predict(rows)], s=3, linewidths=0, alpha=0.6)
    axis.plot(*first.T, "x", color="black", markersize=5, label="first centres")
    axis.plot(*last.T, "o", color="white", markersize=8, markeredgecolor="black", label="centres found")
    axis.set(title="a sample of the rows", xticks=[], yticks=[], aspect="equal")
    axis.legend(frameon=False, loc="lower right", fontsize="small", borderpad=0)
    tidy(axis, "left", "bottom")


def colours(places):
    """A hue for each direction from the middle, darker towards the middle; red, green and blue from 0 to 1."""
    from matplotlib.colors import hsv_to_rgb

    hue, radius = np.arctan2(*places.T) / (2 * np.pi) % 1.0, np.linalg.norm(places, axis=1)
    return hsv_to_rgb(np.column_stack([hue, np.full(len(places), 0.75), 0.45 + 0.5 * radius / radius.max()]))


def tidy(axis, *sides):
    axis.spines[["top", "right", *sides]].set_visible(False)


if __name__ == "__main__":
    main()
