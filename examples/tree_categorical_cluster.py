"""
Categories and missing values on a cluster
==========================================

A Dask dataframe with a column of category dtype and missing numbers is learnt on two worker processes, which make its
partitions themselves. ``categorical_features="from_dtype"`` lets the tree split the categories into subsets; taken for
ordered numbers they need many more splits. Missing values are sent left or right, whichever is better, at each split.
Predictions are a lazy column of the same dataframe.
"""

import logging

import dask.dataframe as dd
import numpy as np
import pandas as pd
from distributed import Client, LocalCluster

from dparallel import ParallelDecisionTree

N_PARTITIONS = 12
ROWS = 40_000
CITIES = [f"city {i:02}" for i in range(40)]


def main():
    settings = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(2, silence_logs=logging.ERROR, **settings) as cluster, Client(cluster):
        trips = dd.from_map(make_partition, range(N_PARTITIONS), meta=make_partition(0).iloc[:0])
        columns = ["city", "distance", "hour"]
        print(f"{N_PARTITIONS * ROWS:,} rows in {N_PARTITIONS} partitions, two worker processes")

        model = ParallelDecisionTree(max_depth=6, categorical_features="from_dtype").fit(trips[columns], trips["late"])
        print("\nlevel  nodes split  impurity  seconds  kB moved")
        for r in model.history_:
            print(f"{r.round:5}  {r.n_splits:11}  {r.objective:8.4f}  {r.seconds:7.2f}  {r.bytes_moved / 1e3:8.1f}")

        numbered = trips.assign(city=trips["city"].cat.codes)
        ordered = ParallelDecisionTree(max_depth=6).fit(numbered[columns], numbered["late"])
        print(f"\ncategories in subsets: {model.score(trips[columns], trips['late']):.4f} right")
        print(f"categories as numbers: {ordered.score(numbered[columns], numbered['late']):.4f} right")

        first = model.category_tests_[0]
        slow = sorted(CITIES[int(code)] for code in min(first.left, first.right, key=len))
        print(f"\nthe first split on cities sets apart {len(slow)}: {', '.join(slow)}")
        for name, share in zip(columns, model.feature_importances_):
            print(f"{name}: {share:.3f} of the decrease in impurity")

        trips["expected"] = model.predict(trips[columns])  # lazy: nothing is computed yet
        table = trips.groupby(["late", "expected"]).size().compute()
        print("\nlate   expected to be late   rows")
        for (late, expected), count in table.items():
            print(f"{late!s:5}  {expected!s:19}  {count:7,}")


def make_partition(number):
    """Trips, always the same: a partition's number seeds the draws."""
    rng = np.random.default_rng(number)
    city = rng.integers(len(CITIES), size=ROWS)
    slow = np.random.default_rng(99).permutation(len(CITIES))[:13]
    distance, hour = rng.gamma(2.0, 10.0, ROWS), rng.integers(0, 24, ROWS).astype(float)
    rush = np.isin(hour, [7, 8, 16, 17, 18])
    chance = 0.1 + 0.5 * (np.isin(city, slow) & rush) + 0.3 * (distance > 40)
    late = rng.random(ROWS) < chance
    distance[rng.random(ROWS) < np.where(late, 0.3, 0.05)] = np.nan  # what is late is often not measured
    hour[rng.random(ROWS) < 0.02] = np.nan
    return pd.DataFrame(
        {"city": pd.Categorical.from_codes(city, CITIES), "distance": distance, "hour": hour, "late": late}
    )


if __name__ == "__main__":
    main()
