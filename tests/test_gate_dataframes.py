"""The gate for dataframes, in memory and of Dask."""

import dask
import dask.array as da
import numpy as np
import pytest

from dparallel.blocks.gate import gather
from dparallel.errors import AlignmentError, DataError, DataKindError

pd = pytest.importorskip("pandas")
dd = pytest.importorskip("dask.dataframe")
pa = pytest.importorskip("pyarrow")

rng = np.random.default_rng(0)


def frame(n_rows=40):
    """Columns of every dtype that counts as a number, most with missing values."""
    number = np.arange(n_rows)
    missing = [None if row % 7 == 3 else int(row) for row in number]
    flags = [None if row % 5 == 2 else bool(row % 2) for row in number]
    return pd.DataFrame(
        {
            "float": number / 3,
            "single": (number / 4).astype("float32"),
            "small": number.astype("int8"),
            "flag": number % 3 == 0,
            "nullable": pd.array(missing, dtype="Int64"),
            "nullable float": pd.array(missing, dtype="Float32"),
            "nullable flag": pd.array(flags, dtype="boolean"),
            "arrow": pd.array(missing, dtype="int32[pyarrow]"),
            "arrow float": pd.array(missing, dtype="double[pyarrow]"),
            "arrow flag": pd.array(flags, dtype="bool[pyarrow]"),
        }
    )


def as_floats(df):
    """The frame as float64, with NaN where a value is missing, made column by column."""
    return np.column_stack([np.array([np.nan if pd.isna(v) else float(v) for v in df[c]]) for c in df.columns])


def compute(blocks):
    return list(dask.get(blocks.graph, list(blocks.keys)))


@pytest.fixture
def parquet(tmp_path):
    """A dataframe in eight files, one column of long strings: Dask joins files when only the others are read."""
    df = pd.DataFrame(rng.normal(size=(400, 9)), columns=list("abcdefghi"))
    df["text"] = ["some long text " * 9 + str(row) for row in range(400)]
    dd.from_pandas(df, npartitions=8).to_parquet(tmp_path / "rows.parquet")
    return df, dd.read_parquet(tmp_path / "rows.parquet")


def test_pandas_of_any_numeric_dtype_becomes_floats_with_nan():
    df = frame()
    blocks = gather(df)
    assert blocks.kind == "pandas" and blocks.dtype == np.float64
    assert blocks.feature_names.tolist() == list(df.columns)
    np.testing.assert_array_equal(blocks.local.X, as_floats(df))


def test_dask_dataframe_of_any_numeric_dtype_becomes_floats_with_nan():
    df = frame()
    blocks = gather(dd.from_pandas(df, npartitions=3))
    assert blocks.kind == "dask.dataframe" and blocks.dtype == np.float64 and blocks.rows == (None, None, None)
    assert blocks.feature_names.tolist() == list(df.columns) and blocks.feature_names.dtype == object
    made = compute(blocks)
    assert [block.index for block in made] == [0, 1, 2]
    np.testing.assert_array_equal(np.vstack([block.X for block in made]), as_floats(df))


@pytest.mark.parametrize(
    "columns, dtype",
    [(["single"], "f4"), (["single", "nullable float"], "f4"), (["single", "small"], "f8"), (["float"], "f8")],
)
def test_dask_dataframe_is_float32_only_if_all_columns_are(columns, dtype):
    blocks = gather(dd.from_pandas(frame()[columns], npartitions=2))
    assert blocks.dtype == np.dtype(dtype) == compute(blocks)[0].X.dtype


def test_columns_that_are_not_numbers_are_refused_by_name():
    df = pd.DataFrame({"a": [1.0, 2], "city": ["x", "y"], "day": pd.to_datetime(["2020", "2021"])})
    df["kind"] = df["city"].astype("category")
    with pytest.raises(DataKindError, match=r"'city' \(.*\), 'day' \(datetime64.*\), 'kind' \(category\).*drop"):
        gather(dd.from_pandas(df, npartitions=1))
    with pytest.raises(DataError, match="Complex data not supported: the columns a are"):
        gather(dd.from_pandas(df[["a"]] * 1j, npartitions=1))


def test_dataframe_without_columns_and_series_are_refused_in_the_words_of_scikit_learn():
    ddf = dd.from_pandas(frame(), npartitions=2)
    with pytest.raises(DataError, match=r"0 feature\(s\) .* while a minimum of 1 is required by Toy"):
        gather(ddf[[]], owner="Toy")
    with pytest.raises(DataError, match=r"Expected a 2-dimensional container.*to_frame\(\)"):
        gather(ddf["float"])


def test_a_column_named_like_an_attribute_of_dask_is_a_column():
    df = pd.DataFrame({"divisions": [1.0, 2], "npartitions": [3.0, 4]})
    assert gather(df).kind == "pandas"
    np.testing.assert_array_equal(compute(gather(dd.from_pandas(df, npartitions=1)))[0].X, df)


def test_series_pair_with_their_dataframe():
    df = frame()
    ddf = dd.from_pandas(df, npartitions=3)
    made = compute(gather(ddf[["float", "small"]], ddf["arrow"], ddf["float"] ** 2))
    np.testing.assert_array_equal(np.vstack([block.X for block in made]), df[["float", "small"]])
    np.testing.assert_array_equal(np.concatenate([block.y for block in made]), as_floats(df[["arrow"]])[:, 0])
    np.testing.assert_array_equal(np.concatenate([block.sample_weight for block in made]), df["float"] ** 2)


def test_labels_of_any_dtype_keep_their_values():
    df = frame()
    df["word"] = [f"w{row}" for row in range(len(df))]
    df["kind"] = df["word"].astype("category")
    ddf = dd.from_pandas(df, npartitions=3)
    for column in ("word", "kind", "flag", "small"):
        y = np.concatenate([block.y for block in compute(gather(ddf[["float"]], ddf[column]))])
        assert y.tolist() == df[column].tolist()


def test_dataframe_and_array_taken_from_it_pair():
    df = frame()
    ddf = dd.from_pandas(df, npartitions=3)
    weights = ddf["float"].to_dask_array()
    one = compute(gather(ddf[["small"]], sample_weight=weights))
    other = compute(gather(ddf[["small"]].to_dask_array(), sample_weight=ddf["float"]))
    for made in (one, other):
        np.testing.assert_array_equal(np.concatenate([block.sample_weight for block in made]), df["float"])
        np.testing.assert_array_equal(np.vstack([block.X for block in made]), df[["small"]])


def test_rows_that_cannot_be_paired_with_a_dataframe_are_refused_with_the_remedy():
    ddf = dd.from_pandas(frame(), npartitions=3)
    with pytest.raises(AlignmentError, match=r"sample_weight is an array of 40 rows in memory.*lengths=True"):
        gather(ddf[["float"]], sample_weight=np.ones(40))
    with pytest.raises(AlignmentError, match=r"3 blocks.*y has 2 blocks"):
        gather(ddf[["float"]], da.ones(40, chunks=20))
    with pytest.raises(AlignmentError, match=r"X has the divisions .*, and y has .*repartition"):
        gather(ddf[["float"]], dd.from_pandas(frame()["float"], npartitions=2))
    other = ddf["float"].map_partitions(lambda part: part.iloc[1:] if 0 in part.index else part)
    with pytest.raises(AlignmentError, match="Block 0 of X has 14 rows, and block 0 of y has 13"):
        compute(gather(ddf[["float"]], other))


def test_only_the_needed_columns_are_read_and_each_partition_once():
    seen = []

    def read(start, columns=None):
        seen.append((start, columns))
        part = frame().iloc[start : start + 20]
        return part if columns is None else part[columns]

    ddf = dd.from_map(read, [0, 20], meta=frame().iloc[:0])
    alone = gather(ddf[["small", "float"]])
    weighted = gather(ddf[["small", "float"]], sample_weight=ddf["single"])
    assert seen == []
    compute(alone)
    assert sorted(seen) == [(0, ["float", "small"]), (20, ["float", "small"])]
    seen.clear()
    compute(weighted)
    assert sorted({name for _, columns in seen for name in columns}) == ["float", "single", "small"]


def test_partitions_that_dask_joins_while_reading_still_pair(parquet):
    df, ddf = parquet
    blocks = gather(ddf[["a", "b"]], ddf["c"], abs(ddf["d"]))
    made = compute(blocks)
    assert len(made) == 8
    np.testing.assert_array_equal(np.vstack([block.X for block in made]), df[["a", "b"]])
    np.testing.assert_array_equal(np.concatenate([block.y for block in made]), df["c"])
    np.testing.assert_array_equal(np.concatenate([block.sample_weight for block in made]), abs(df["d"]))
    alone = compute(gather(ddf[["a"]]))
    np.testing.assert_array_equal(np.vstack([block.X for block in alone]), df[["a"]])


def test_a_filtered_dataframe_may_have_empty_partitions(parquet):
    df, ddf = parquet
    few = ddf[ddf["a"] > df["a"].quantile(0.99)][["a", "b"]]
    made = compute(gather(few, sample_weight=few["a"] - few["a"]))
    np.testing.assert_array_equal(
        np.vstack([block.X for block in made]), df[df["a"] > df["a"].quantile(0.99)][["a", "b"]]
    )


def test_a_dataframe_whose_partitions_dask_lost_is_refused(parquet):
    _, ddf = parquet
    persisted = ddf[["a"]].persist(scheduler="sync")
    try:
        intact = len(persisted.compute(scheduler="sync")) == 400
    except (TypeError, ValueError):
        intact = False
    if intact:
        assert sum(block.n_rows for block in compute(gather(persisted))) == 400
    else:
        with pytest.raises(DataError, match=r"its graph makes only some of them.*Call persist\(\) before"):
            gather(persisted)


def test_a_partition_with_its_columns_in_another_order_is_named():
    ddf = dd.from_pandas(frame()[["float", "small"]], npartitions=3)
    ddf = ddf.map_partitions(lambda part: part if 0 in part.index else part[["small", "float"]], enforce_metadata=False)
    with pytest.raises(DataError, match=r"Block [12] of X has the columns \['small', 'float'\]"):
        compute(gather(ddf))


def test_a_partition_that_holds_text_is_named():
    ddf = dd.from_pandas(frame()[["float"]], npartitions=3)
    ddf = ddf.map_partitions(lambda part: part.assign(float="x") if 0 in part.index else part, meta=ddf)
    with pytest.raises(DataError, match="Block 0 of X holds values that are not numbers"):
        compute(gather(ddf))
