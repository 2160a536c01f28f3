"""Preprocessing that leaves Dask collections lazy."""

from dparallel.preprocessing.encoders import ParallelOneHotEncoder, ParallelOrdinalEncoder
from dparallel.preprocessing.imputer import ParallelSimpleImputer
from dparallel.preprocessing.scaler import ParallelStandardScaler

__all__ = ["ParallelOneHotEncoder", "ParallelOrdinalEncoder", "ParallelSimpleImputer", "ParallelStandardScaler"]
