"""
Words of many files, with a worker killed on the way
====================================================

Twelve text files are counted by MapReduce on two worker processes. In mid-run one of them is killed: Dask reads again
the files whose counts were lost, and what is written is the same as that of a plain loop, each word once.
"""

import operator
import os
import random
import signal
import tempfile
import threading
from collections import Counter
from pathlib import Path

import dask
from distributed import Client, Event, LocalCluster

from dparallel import map_reduce
from dparallel.mapreduce import Fold

N_FILES, N_LINES, WORDS_PER_LINE = 12, 20_000, 10


def words(line):
    for word in line.split():
        yield word, 1


def words_and_signal(line):
    """The same, and tell when the last file is reached, so that the kill comes in mid-run."""
    if line.startswith("last "):
        Event("last file").set()
    return words(line)


def write_files(folder):
    """Words whose frequencies follow Zipf's law."""
    rng = random.Random(0)
    vocabulary = [f"word{i}" for i in range(1, 5_001)]
    shares = [1 / i for i in range(1, 5_001)]
    for number in range(N_FILES):
        drawn = rng.choices(vocabulary, shares, k=N_LINES * WORDS_PER_LINE)
        lines = [" ".join(drawn[i : i + WORDS_PER_LINE]) for i in range(0, len(drawn), WORDS_PER_LINE)]
        if number == N_FILES - 1:
            lines[0] = f"last {lines[0]}"
        Path(folder, f"{number:02d}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def kill_in_mid_run(client):
    """Wait for the signal and kill the worker that holds most."""
    if Event("last file", client).wait(timeout=60):
        held = {address: len(keys) for address, keys in client.has_what().items()}
        pids = client.run(os.getpid)
        victim = max(pids, key=lambda address: held.get(address, 0))
        os.kill(pids[victim], signal.SIGKILL)
        print("killed a worker that held", held.get(victim, 0), "results")


def main():
    options = {"threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with (
        tempfile.TemporaryDirectory() as folder,
        # a worker may die while it comes back, and is not given up
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"}),
        LocalCluster(2, **options) as cluster,
        Client(cluster) as client,
    ):
        write_files(folder)
        counts = map_reduce(f"{folder}/*.txt", words_and_signal, Fold(operator.add), n_reducers=4)
        killer = threading.Thread(target=kill_in_mid_run, args=(client,))
        killer.start()
        counters = counts.to_files(f"{folder}/out")
        killer.join()
        print(counters)

        parts = sorted(Path(folder, "out").iterdir())
        print("written:", ", ".join(path.name for path in parts))
        written = [line.split("\t") for path in parts for line in path.read_text(encoding="utf-8").splitlines()]
        plain = Counter(
            word for path in Path(folder).glob("*.txt") for word in path.read_text(encoding="utf-8").split()
        )
        print("each word once:", len(written) == len(dict(written)))
        print("as in a plain loop:", {word: int(count) for word, count in written} == plain)
        print("most frequent:", counts.topk(3, key=1).compute())


if __name__ == "__main__":
    main()
