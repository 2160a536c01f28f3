"""Preprocessing that leaves Dask collections lazy."""

from dparallel.preprocessing.scaler import ParallelStandardScaler

__all__ = ["ParallelStandardScaler"]
