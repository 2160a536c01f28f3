"""The search for splits in this process: its threads share the nodes, while those that built histograms wait."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from dparallel import kernels, place

_NUMBERS_PER_THREAD = 1 << 20  # of histograms, a few milliseconds of search: starting a thread takes a tenth of one


def search_splits(
    histograms: np.ndarray,
    bins: Any,
    low: np.ndarray,
    high: np.ndarray,
    rules: Any,
    *,
    bounds: np.ndarray | None,
    keys: np.ndarray | None,
    **options: Any,
) -> Any:
    """Find the best split of each node; see kernels.splits.best, whose arguments these are.

    Returns
    -------
    splits : kernels.splits.Splits
    """

    def search(first: int, last: int) -> Any:
        own = slice(first, last)
        return kernels.splits.best(
            histograms[own],
            bins,
            low,
            high,
            rules,
            bounds=None if bounds is None else bounds[own],
            keys=None if keys is None else keys[own],
            **options,
        )

    n_nodes = len(histograms)
    n_threads = min(histograms.size // _NUMBERS_PER_THREAD, n_nodes)
    n_threads = min(n_threads, place.count_threads()) if n_threads > 1 else 1
    if n_threads < 2:
        return search(0, n_nodes)
    cuts = np.linspace(0, n_nodes, n_threads + 1).astype(int).tolist()
    calls = [partial(search, first, last) for first, last in zip(cuts, cuts[1:])]
    with ThreadPoolExecutor(n_threads - 1) as pool:
        parts = place.run_threads(calls, pool)
    return type(parts[0])(*(np.concatenate(fields) for fields in zip(*(vars(part).values() for part in parts))))
