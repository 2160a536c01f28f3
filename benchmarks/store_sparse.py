"""Sparse tables of the parameter store: rates, memory, bytes on the wire, and what compression does to a loss."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import psutil
from distributed import Client

from benchmarks.cluster import open_cluster
from dparallel import ParameterStore, SparseTable
from dparallel.place import Local

N_SPACE = 10**9
WIDTHS = (None, 16)
BATCH = 20_000
N_ACTIVE, N_FEATURES, N_CLICKS, N_ROWS = 20, 2000, 4000, 200  # of the clicks that compression is tried on


def measure_tables(n_keys: int) -> list[dict[str, Any]]:
    """Push and pull so many keys of a billion, from here, to one worker process that holds them with ftrl's slots."""
    return [_measure_table(width, n_keys) for width in WIDTHS]


def _measure_table(width: int | None, n_keys: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    lists = np.array_split(rng.permutation(np.unique(rng.integers(0, N_SPACE, n_keys))), max(1, n_keys // BATCH))
    with (
        open_cluster(1) as client,
        ParameterStore({"w": SparseTable(width)}, optimizer="ftrl", n_shards=1, replicas=0) as store,
    ):
        handle = store.handle()
        push(handle, [np.arange(20)], width, 0)
        before = resident(client)
        pushing = push(handle, lists, width, 1)
        started = time.perf_counter()
        for keys in lists:
            handle.pull("w", keys=keys)
        pulling = time.perf_counter() - started
        grown, stats = resident(client) - before, store.stats()
        held = sum(array.nbytes for array in store.state()[0].values())
        n_rows = sum(map(len, lists))
        payload = n_rows * (8 + 8 * (width or 1))
        push(handle, lists[:1], width, 2)
        repeated = store.stats().bytes_in - stats.bytes_in
    return {
        "width": width or 1,
        "keys": n_rows,
        "pushed rows per s": n_rows / pushing,
        "pulled rows per s": n_rows / pulling,
        "memory grew by, MB": grown / 1e6,
        "keys, values, slots, MB": held / 1e6,
        "bytes both ways / payload": (stats.bytes_in + stats.bytes_out) / (2 * payload),
        "pushed again / first": repeated / (len(lists[0]) * (8 + 8 * (width or 1))),
    }


def push(handle: Any, lists: list[np.ndarray], width: int | None, partition: int) -> float:
    """Push a row of normal numbers for each key, a list at a time; return the seconds of the pushes alone."""
    rng, seconds = np.random.default_rng(1), 0.0
    for clock, keys in enumerate(lists):
        rows = rng.normal(size=len(keys) if width is None else (len(keys), width))
        started = time.perf_counter()
        handle.push({"w": (keys, rows)}, step=(partition, clock))
        seconds += time.perf_counter() - started
    return seconds


def resident(client: Client) -> int:
    """Return the bytes that the one worker process holds in memory."""
    (size,) = client.run(lambda: psutil.Process().memory_info().rss).values()
    return size


def measure_compression(n_steps: int) -> list[dict[str, Any]]:
    """Train logistic regression on made-up clicks with each compression, in this process."""
    rows: list[dict[str, Any]] = []
    for compression in (None, "fp16", ("top_k", 0.1), ("top_k", 0.01)):
        loss, sent = train(compression, n_steps)
        rows.append(
            {
                "compression": "none" if compression is None else str(compression),
                "steps": n_steps,
                "loss": loss,
                "/ none": loss / (rows[0]["loss"] if rows else loss),
                "MB pushed": sent / 1e6,
            }
        )
    return rows


def train(compression: Any, n_steps: int) -> tuple[float, int]:
    """Return the loss on all clicks, and the bytes that the pushes would take on the wire."""
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, N_FEATURES + 1)
    features = rng.choice(N_FEATURES, (N_CLICKS, N_ACTIVE), p=popularity / popularity.sum())
    is_click = rng.random(N_CLICKS) < 1 / (1 + np.exp(-rng.normal(size=N_FEATURES)[features].sum(axis=1)))
    with ParameterStore({"w": N_FEATURES}, learning_rate=0.5, place=Local(1)) as store:
        handle = store.handle(compression)
        for clock in range(n_steps):
            chosen = rng.integers(0, N_CLICKS, N_ROWS)
            active = features[chosen]
            errors = 1 / (1 + np.exp(-handle.pull("w")[active].sum(axis=1))) - is_click[chosen]
            gradient = np.bincount(active.ravel(), np.repeat(errors / N_ROWS, N_ACTIVE), N_FEATURES)
            handle.push({"w": gradient}, step=(clock % 2, clock // 2))
        w = store.pull("w")
    loss = np.logaddexp(0, np.where(is_click, -1, 1) * w[features].sum(axis=1)).mean()
    return float(loss), n_steps * bytes_per_push(compression)


def bytes_per_push(compression: Any) -> int:
    """Return the bytes of one push of all features."""
    if compression is None:
        return 8 * N_FEATURES
    if compression == "fp16":
        return 2 * N_FEATURES
    return 12 * int(np.ceil(compression[1] * N_FEATURES))
