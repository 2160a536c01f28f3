"""The benchmarks run, in tiny sizes, and what they save is what they measured."""

import gzip
import json
import math
import re
from collections import Counter
from importlib.util import find_spec

import numpy as np
import pytest
from sklearn import metrics

from benchmarks import everything, growers, kmeans, sgd
from benchmarks.__main__ import COMMANDS, main
from benchmarks.data import draw_rows, gauss_mixture, inertia, log_loss, two_classes
from benchmarks.peers import Answer, Peer, Threads
from benchmarks.results import Report, format_rst, format_table, publish, spread_out
from benchmarks.store import time_until_back
from benchmarks.text import write_text


@pytest.fixture
def run(tmp_path):
    """Run one command in tiny sizes and return what it saved."""

    def run_command(command, *arguments):
        assert main([command, "--quick", "--output", str(tmp_path), *arguments]) == 0
        assert (tmp_path / f"{command}.png").exists() == (command != "search" and bool(find_spec("matplotlib")))
        return json.loads((tmp_path / f"{command}.json").read_text(encoding="utf-8"))

    return run_command


def same_answer(rows):
    """Whether all peers of each case came to the same centres and inertia in the same rounds."""
    answers = {}
    for row in rows:
        answers.setdefault(row["case"], []).append((row["rounds"], row["inertia"], row["centres off by"]))
    return all(
        len({rounds for rounds, _, _ in found}) == 1
        and np.ptp([value for _, value, _ in found]) <= 1e-10 * found[0][1]
        and max(off for _, _, off in found) <= 1e-10
        for found in answers.values()
    )


def test_without_a_command_the_commands_are_listed(capsys):
    assert main([]) == 0
    listed = [line[4:].split(" ")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("    ")]
    assert [name for name in listed if name] == list(COMMANDS)


@pytest.mark.parametrize("cases", [["narrow"], pytest.param(list(kmeans.CASES), marks=pytest.mark.slow)])
def test_threads_and_scikit_learn_come_to_the_same_answer(run, cases):
    peers = ("sklearn-lloyd", "sklearn-elkan", "threads")
    saved = run("kmeans", "--cases", *cases, "--peers", *peers, "--repeats", "2")
    fits = saved["tables"]["Whole fits"]
    assert len(fits) == 3 * len(cases)
    assert same_answer(fits)
    assert all(len(row["all seconds"]) == 2 for row in fits)
    [ratio] = saved["tables"]["Ratios of seconds"]
    assert ratio["cases"] == len(cases)
    assert 0 < ratio["geometric mean"] <= ratio["worst"] * (1 + 1e-12)  # of one number it may be rounded up


@pytest.mark.cluster
@pytest.mark.slow
def test_processes_come_to_the_same_answer_with_few_and_many_chunks(run):
    peers = ("sklearn-lloyd", "processes-8", "processes-128")
    saved = run("kmeans", "--peers", *peers, "--cases", "short", "narrow", "--repeats", "1")
    fits = saved["tables"]["Whole fits"]
    assert len(fits) == 6
    assert same_answer(fits)
    assert [row["cases"] for row in saved["tables"]["Ratios of seconds"]] == [2, 2]


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.parametrize("peer, package", [("dask-ml", "dask_ml"), ("spark", "pyspark")])
def test_peers_that_seed_come_to_an_inertia_like_ours(run, peer, package):
    pytest.importorskip(package)
    saved = run("kmeans", "--peers", "processes-seeding", peer, "--cases", "narrow", "--repeats", "1")
    if saved["notes"]:
        pytest.skip(saved["notes"][0])
    ours, theirs = saved["tables"]["Whole fits"]
    assert theirs["inertia"] == pytest.approx(ours["inertia"], rel=0.25)
    assert len(saved["tables"]["Ratios of seconds"]) == 1


def test_peers_that_are_not_installed_are_skipped_with_a_message(run, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.peers.find_spec", lambda name: None)
    saved = run("kmeans", "--peers", "threads", "dask-ml", "spark", "--cases", "narrow", "--repeats", "1")
    assert [row["who"] for row in saved["tables"]["Whole fits"]] == ["dparallel threads"]
    assert "dask-ml is not installed" in saved["notes"][0]
    assert "pyspark and pyarrow" in saved["notes"][1]
    assert saved["notes"][0] in capsys.readouterr().out


def test_a_peer_that_fails_is_noted_and_the_others_are_measured(run, monkeypatch):
    class Failing(Peer):
        name = "failing"

        def fit(self, rows, problem):
            if problem.max_iter > 2:  # not while warming up
                raise MemoryError("too many rows")
            return Answer(problem.centres, 1)

    monkeypatch.setattr(kmeans, "PEERS", {"threads": Threads(), "dask-ml": Failing()})
    saved = run("kmeans", "--peers", "threads", "dask-ml", "--cases", "narrow")
    assert [row["who"] for row in saved["tables"]["Whole fits"]] == ["dparallel threads"]
    assert saved["notes"] == ["failing failed at 4k x 4, R=1, k=6, 5 rounds: MemoryError: too many rows"]


def test_what_was_measured_is_saved_when_a_benchmark_breaks_off(tmp_path, monkeypatch):
    def break_off(options, report):
        report.tables["Fits"] = [{"seconds": 1.0}]
        raise KeyboardInterrupt

    monkeypatch.setattr(kmeans, "run", break_off)
    with pytest.raises(KeyboardInterrupt):
        main(["kmeans", "--output", str(tmp_path)])
    assert json.loads((tmp_path / "kmeans.json").read_text())["tables"] == {"Fits": [{"seconds": 1.0}]}


def test_nothing_is_saved_when_nothing_was_measured(tmp_path, capsys):
    publish(Report("kmeans", {}, {"T": []}), tmp_path / "results")
    assert capsys.readouterr().out == "Nothing was measured.\n"
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_slow_fits_are_not_repeated(run):
    saved = run("kmeans", "--peers", "threads", "--cases", "narrow", "--repeats", "3", "--patience", "0")
    assert len(saved["tables"]["Whole fits"][0]["all seconds"]) == 1


@pytest.mark.slow
def test_seeding_reads_spam_from_the_folder_that_is_named(run, monkeypatch, tmp_path):
    random = np.random.default_rng(0)
    np.savetxt(tmp_path / "spambase.data.gz", random.random((4000, 58)), delimiter=",", header="a,b", comments="")
    monkeypatch.setenv("DPARALLEL_DATA", str(tmp_path))
    costs = run("seeding")["tables"]["Costs"]
    assert len(costs) == 2 * 6
    assert all(0 < row["final"] <= row["seed"] * (1 + 1e-12) for row in costs)


@pytest.mark.slow
def test_seeding_without_the_folder_says_so(run, monkeypatch, tmp_path):
    monkeypatch.setenv("DPARALLEL_DATA", str(tmp_path / "missing"))
    saved = run("seeding")
    assert "DPARALLEL_DATA" in saved["notes"][0]
    assert len(saved["tables"]["Costs"]) == 2 * 3


@pytest.mark.cluster
@pytest.mark.slow
def test_overhead_is_measured_for_threads_and_each_number_of_chunks(run):
    rows = run("overhead", "--repeats", "1", "--rounds", "5")["tables"]["Overhead"]
    assert [(row["where"], row["chunks"]) for row in rows] == [("threads", 1), ("2 processes", 4), ("2 processes", 16)]
    assert all(0 < row["ms per round"] < row["fit, ms"] for row in rows)


@pytest.mark.cluster
@pytest.mark.slow
def test_memory_tells_growth_and_reads_and_deletes_its_files(run, tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    rows = run("memory", "--folder", str(files), "--rounds", "2")["tables"]["Memory"]
    figures = {row["figure"]: row["value"] for row in rows}
    assert figures["data, GB"] == pytest.approx(0.02, rel=0.05)
    assert figures["reads of a file, fewest"] >= 1
    assert figures["client grew by at most, MB"] >= 0
    assert figures["worker's peak, GB"] > 0.02
    assert figures["workers restarted"] == 0
    assert not list(files.iterdir())


@pytest.mark.cluster
@pytest.mark.slow
def test_sgd_times_every_peer_until_its_loss_is_near_the_optimum(run, monkeypatch, tmp_path):
    monkeypatch.setenv("DPARALLEL_DATA", str(tmp_path))
    peers = ("threads", "processes", "sgd-constant-0.001", "logistic-newton")
    tables = run("sgd", "--cases", "independent", "--repeats", "1", "--peers", *peers)["tables"]
    rows = tables["Time to 1.01 x the least log loss"]
    assert [row["family"] for row in rows] == [sgd.PEERS[name].family for name in peers]
    assert all(row["best loss"] >= 1 - 1e-9 for row in rows)
    exact = rows[-1]
    assert exact["best loss"] < 1.01 and 1 <= exact["epochs"] <= exact["most epochs"] and exact["seconds"] > 0
    assert all(len(row["loss"]) == len(row["seconds"]) == row["points"] for row in tables["Curves"])
    assert [row["replicas"] for row in tables["Second copies"]] == [0, 1]
    settings = [(row["busy cores"], row["staleness"]) for row in tables["Staleness"]]
    assert settings == [(busy, staleness) for busy in (0, 1) for staleness in ("None", "0", "1", "3")]
    assert all(row["seconds"] > 0 and 1 <= row["loss / optimum"] < 2 for row in tables["Staleness"])


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.parametrize(
    "peer, package", [("incremental-optimal", "dask_ml"), ("dask-newton", "dask_ml"), ("spark", "pyspark")]
)
def test_sgd_runs_the_peers_of_other_packages(run, peer, package):
    pytest.importorskip(package)
    saved = run("sgd", "--cases", "independent", "--repeats", "1", "--peers", peer)
    if any("skipped" in note and "a9a" not in note for note in saved["notes"]):
        pytest.skip(saved["notes"][0])
    [row] = saved["tables"]["Time to 1.01 x the least log loss"]
    assert 1 <= row["best loss"] < 2


@pytest.mark.slow
def test_sgd_reads_a9a_from_the_folder_that_is_named(run, monkeypatch, tmp_path):
    random = np.random.default_rng(0)
    for name, n_rows in (("a9a.gz", 2000), ("a9a.t.gz", 500)):
        columns = [np.sort(random.choice(123, 14, replace=False)) + 1 for _ in range(n_rows)]
        lines = [f"{int(c[0] < 6)} " + " ".join(f"{i}:1" for i in c) for c in columns]
        with gzip.open(tmp_path / name, "wt") as file:
            file.write("\n".join(lines))
    monkeypatch.setenv("DPARALLEL_DATA", str(tmp_path))
    [row] = run("sgd", "--peers", "threads", "--cases", "independent", "--repeats", "1")["tables"]["a9a"]
    assert row["seeds"] == 5
    assert row["dparallel, worst"] <= row["dparallel, median"] <= 1


def test_ratios_are_those_of_the_fastest_of_a_family():
    def row(who, family, seconds):
        return {"case": "c", "who": who, "family": family, "seconds": seconds}

    theirs = "scikit-learn SGDClassifier"
    ours = [row("dparallel threads", "dparallel threads", 3.0), row("tuned", "dparallel threads", 1.0)]
    [ratio] = sgd.compare(
        [*ours, row("slow", theirs, 9.0), row("fast", theirs, 6.0), row("never", theirs, None)], sgd.COMPARISONS
    )
    assert (ratio["as it comes"], ratio["best"]) == (0.5, 1 / 6)
    assert (ratio["which"], ratio["the fastest of them"]) == ("tuned", "fast")


@pytest.mark.cluster
@pytest.mark.slow
def test_store_is_measured_alive_and_after_a_death(run):
    tables = run("store")["tables"]
    assert len(tables["Latency of a pull"]) == 2 * 2 * 3
    assert all(0 < row["p50, ms"] <= row["p99, ms"] for row in tables["Latency of a pull"])
    assert all(row["pushes per s"] > 0 for row in tables["Throughput of pushes"])
    two, one = tables["Recovery"]
    assert (two["failovers"], two["restores"], two["pushes lost"]) == (1, 0, 0)
    assert (one["failovers"], one["restores"]) == (0, 1)
    [stream] = tables["Throughput after a death"]
    assert stream["calls that failed"] == 0


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_scaling_predicts_what_it_measures_and_writes_the_page_s_tables(run, tmp_path):
    tables = run("scaling", "--report", str(tmp_path / "figures.inc"))["tables"]
    assert all(row["value"] >= 0 for row in tables["Constants"])
    rows = tables["Seconds per pass"]
    assert [row["algorithm"] for row in rows] == ["k-means", "tree", "logistic regression", "AsyncSGD"]
    assert all(row["predicted, ms"] > 0 and row["measured, ms"] > 0 for row in rows)
    assert all(0 < row["of the arithmetic alone"] <= 1 for row in tables["Large clusters"])
    assert (tmp_path / "figures.inc").read_text(encoding="utf-8").count(".. list-table::") == len(tables)


@pytest.mark.cluster
@pytest.mark.slow
def test_averaging_measures_every_interval_on_mixed_and_on_sorted_rows(run):
    saved = run("averaging", "--cases", "correlated", "--peers", "averaging-threads", "sgd-optimal", "--repeats", "1")
    intervals = saved["tables"]["Intervals"]
    assert [row["sync_every"] for row in intervals] == 2 * ["64", "512", "4096", "auto", "None"]
    assert {row["rows"] for row in intervals} == {"as they come", "sorted by class"}
    assert intervals[0]["averages"] > intervals[4]["averages"] == 1
    assert intervals[0]["kB moved"] > intervals[4]["kB moved"] > 0


@pytest.mark.slow
def test_mapreduce_counts_and_indexes_as_a_plain_loop(run):
    tables = run("mapreduce", "--peers", "ours", "foldby")["tables"]
    rows = tables["Seconds"]
    assert [(row["case"], row["who"]) for row in rows] == [
        (task, who) for task in ("word count", "inverted index") for who in ("dparallel, 2 processes", "Dask foldby")
    ]
    assert all(row["as a plain loop"] and row["seconds"] > 0 and row["keys"] > 1000 for row in rows)
    assert len(tables["Ratios of seconds"]) == 2


@pytest.mark.slow
@pytest.mark.cluster
def test_mapreduce_runs_spark(run):
    pytest.importorskip("pyspark")
    saved = run("mapreduce", "--peers", "spark", "--tasks", "word count")
    if saved["notes"]:
        pytest.skip(saved["notes"][0])
    assert saved["tables"]["Seconds"][0]["as a plain loop"]


def test_text_is_as_large_as_asked_and_follows_zipf_s_law(tmp_path):
    write_text(tmp_path / "text", 400_000, seed=0)
    assert (tmp_path / "text").stat().st_size == pytest.approx(400_000, rel=0.03)
    lines = (tmp_path / "text").read_text(encoding="utf-8").splitlines()
    assert {len(line.split()) for line in lines} == {13}
    counts = Counter(word for line in lines for word in line.split()[1:])
    (_, first), (_, second), *_ = counts.most_common(2)
    assert first / second == pytest.approx(2**1.05, rel=0.1)


def test_throughput_is_back_with_the_first_full_window():
    times = [-0.1, 2.0, *np.arange(3.0, 5.0, 0.1)]
    assert time_until_back(times, 10.0) == pytest.approx(3.4)
    assert time_until_back(times, 30.0) is None


def test_two_classes_are_standardised_and_as_correlated_as_asked():
    X, y = two_classes(20_000, 20, 2.0, 4.0, 0.0, seed=0)
    assert X.shape == (20_000, 20) and set(y.tolist()) == {0, 1}
    np.testing.assert_allclose(X.std(axis=0), 1.0, rtol=0.05)
    variances = np.linalg.eigvalsh(np.cov(X.T))
    assert 100 < variances[-1] / variances[0] < 2000
    flat, _ = two_classes(20_000, 20, 0.0, 4.0, 0.0, seed=0)
    variances = np.linalg.eigvalsh(np.cov(flat.T))
    assert variances[-1] / variances[0] < 1.5


def test_as_many_labels_are_flipped_as_asked():
    settings = (20_000, 5, 1.0, 100.0)  # a slope so steep that the rows alone decide
    _, y = two_classes(*settings, 0.0, seed=0)
    X, flipped = two_classes(*settings, 0.1, seed=0)
    assert X.dtype == np.float64 and two_classes(10, 5, 1.0, 4.0, 0.1, 0, np.float32)[0].dtype == np.float32
    assert (y != flipped).mean() == pytest.approx(0.1, abs=0.02)


def test_log_loss_is_that_of_scikit_learn():
    X, y = two_classes(60_000, 3, 0.0, 2.0, 0.0, seed=0)
    coef = np.array([0.5, -1.0, 2.0])
    chances = 1 / (1 + np.exp(-(X @ coef + 0.25)))
    assert log_loss(X, y, coef, 0.25) == pytest.approx(metrics.log_loss(y, chances), rel=1e-10)


def test_mixture_has_the_spread_that_is_asked_for():
    X = gauss_mixture(5000, 30, 200, 10.0, seed=0)
    assert X.shape == (5000, 30)
    assert X.std() == pytest.approx(math.sqrt(10.0**2 + 1), rel=0.05)


def test_first_centres_are_different_rows_of_the_data():
    X = gauss_mixture(100, 3, 5, 1.0, seed=0)
    rows = draw_rows(X, 50, seed=1)
    assert len(np.unique(rows, axis=0)) == 50
    assert {tuple(row) for row in rows} <= {tuple(row) for row in X}


def test_inertia_is_that_of_plain_numpy():
    X = gauss_mixture(1000, 4, 5, 1.0, seed=0)
    centres = X[:7]
    plain = ((X[:, None] - centres) ** 2).sum(axis=2).min(axis=1).sum()
    assert inertia(X, centres, rows_at_once=300) == pytest.approx(plain, rel=1e-12)


def test_tables_are_markdown_of_equal_columns():
    rows = [{"who": "a", "seconds": 1.23456, "all": [1]}, {"who": "bcd", "seconds": None, "all": []}]
    assert format_table(rows).splitlines() == [
        "| who | seconds |",
        "|-----|---------|",
        "| a   | 1.235   |",
        "| bcd |         |",
    ]


def test_a_table_can_be_spread_out_where_a_value_is_missing():
    rows = [{"x": "a", "y": "b", "v": 1}, {"x": "a", "y": "c", "v": 2}, {"x": "d", "y": "c", "v": 3}]
    assert spread_out(rows, "x", "y", "v") == [{"x": "a", "b": 1, "c": 2}, {"x": "d", "b": None, "c": 3}]


def test_tables_in_restructuredtext_have_a_cell_per_column():
    rows = [{"who": "a", "seconds": 1.23456, "all": [1]}, {"who": "b", "seconds": None, "all": []}]
    cells = ["   * - who", "     - seconds", "   * - a", "     - 1.235", "   * - b", "     -"]
    assert format_rst(rows).splitlines()[3:] == cells


def test_numbers_of_numpy_are_saved_as_numbers(tmp_path):
    publish(Report("kmeans", {}, {"T": [{"n": np.int64(3), "x": np.float64(0.5)}]}), tmp_path)
    assert json.loads((tmp_path / "kmeans.json").read_text())["tables"]["T"] == [{"n": 3, "x": 0.5}]


@pytest.mark.slow
def test_one_tree_is_as_right_as_its_peers(run):
    peers = ("threads", "sklearn", "hist")
    saved = run("tree", "--peers", *peers, "--cases", "higgs-like", "--repeats", "2")
    fits = {row["who"]: row for row in saved["tables"]["Whole fits"]}
    ours, theirs = fits["dparallel threads"], fits["scikit-learn exact"]
    assert abs(ours["accuracy"] - theirs["accuracy"]) < 0.05 and ours["rounds"] <= 4 + 3
    assert all(len(row["all seconds"]) == 2 for row in fits.values())
    assert [row["theirs"] for row in saved["tables"]["Ratios of seconds"]] == [
        "scikit-learn exact",
        growers.PEERS["hist"].name,
    ]


@pytest.mark.cluster
@pytest.mark.slow
def test_what_the_levels_of_a_tree_move_is_shown(run):
    saved = run("tree", "--peers", "processes", "--cases", "higgs-like", "wide", "--repeats", "1")
    levels = saved["tables"]["Levels of dparallel's tree on 2 processes"]
    assert [row["level"] for row in levels] == [1, 2, 3, 4] * 2
    assert all(row["rounds"] == 1 for row in levels[:4])
    assert all((row["MB moved"] > 0) == (row["rounds"] > 0) for row in levels)


@pytest.mark.slow
@pytest.mark.cluster
def test_regressors_explain_as_much_as_their_peers(run):
    fits = run("regression", "--skip-spark", "--repeats", "1")["tables"]["Whole fits"]
    for case, margin in (("ridge", 1e-3), ("SGD", 0.01), ("tree", 0.03)):
        found = {row["who"]: row["R²"] for row in fits if row["case"].startswith(case)}
        theirs = max(value for who, value in found.items() if who.startswith("scikit-learn"))
        assert all(value > theirs - margin for who, value in found.items() if who.startswith("dparallel"))


@pytest.mark.slow
@pytest.mark.cluster
def test_preprocessing_learns_what_scikit_learn_does(run):
    fits = run("preprocessing", "--skip-spark", "--repeats", "1")["tables"]["Whole fits"]
    assert len({row["case"] for row in fits}) == 4
    assert all(row["off by"] < 1e-12 for row in fits if row["who"].startswith("dparallel"))


def test_a_report_tells_where_others_are_faster_and_shows_all_tables(run, monkeypatch, tmp_path):
    stage = everything.Stage("preprocessing", "Steps", ("--cases", "standard scaler", "--skip-spark"), "off by")
    lost = {"case": "one", "who": "scikit-learn", "seconds": 1.0, "off by": 0.0}
    ours = {"case": "one", "who": "dparallel threads", "seconds": 2.0, "off by": 0.5}
    saved = {"notes": ["dask-ml is skipped."], "tables": {"Whole fits": [lost, ours], "Seconds": [{"case": "one"}]}}

    def run_stage(stage, options):
        (options.output / "preprocessing.json").write_text(json.dumps(saved), encoding="utf-8")
        return 0

    monkeypatch.setattr(everything, "STAGES", (stage,))
    monkeypatch.setattr(everything, "run_stage", run_stage)
    page = tmp_path / "page.md"
    arguments = ["all", "--stages", "preprocessing", "--report", str(page), "--output", str(tmp_path)]
    assert main(arguments) == 0
    text = page.read_text(encoding="utf-8")
    assert re.search(r"\| Steps +\| one +\| dparallel threads +\| scikit-learn +\| 2 ", text)
    assert "- dask-ml is skipped." in text
    assert "### Whole fits" in text
    assert "### Seconds" not in text


def test_a_stage_that_fails_leaves_the_others_their_pages(monkeypatch, tmp_path):
    stage = everything.Stage("kmeans", "k-means", ("--cases", "nowhere"))
    monkeypatch.setattr(everything, "STAGES", (stage,))
    page = tmp_path / "page.md"
    assert main(["all", "--quick", "--stages", "kmeans", "--report", str(page), "--output", str(tmp_path)]) == 0
    assert "`python -m benchmarks kmeans` failed with exit code 2." in page.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.cluster
def test_a_search_finds_the_same_here_and_on_the_workers_and_rows_stay_there(run):
    rows = run("search", "--models", "LocalSGD", "k-means")["tables"]["Searches"]
    assert all(row["best"] == row["best here"] for row in rows)
    assert all(row["MB received"] < 0.1 * row["MB of X"] for row in rows)


@pytest.mark.slow
def test_clicks_are_learnt_by_every_peer_and_cost_fewer_bytes_when_compressed(run):
    saved = run("clicks")
    assert {"dparallel", "scikit-learn"} <= {row["peer"] for row in saved["tables"]["Time to the loss"]}
    plain, half, *_ = saved["tables"]["Loss against bytes, clicks"]
    assert half["MB in"] < plain["MB in"] and half["loss"] < 1.05 * plain["loss"]


@pytest.mark.slow
def test_all_answers_to_stale_gradients_meet_all_delays(run):
    saved = run("staleness")["tables"]
    rows = saved["Loss on held-out rows"]
    assert Counter(row["case"].split(", ")[1] for row in rows) == {"none": 1, "measured": 4, "16": 4, "3 or 64": 4}
    assert all(0 < row["loss"] <= row["rate of no delay"] + 1 for row in rows)
    [delays] = saved["Delays of the real store"]
    assert sum(delays["histogram"].values()) > 0
