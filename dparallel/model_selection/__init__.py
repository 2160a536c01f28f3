"""Splits, searches and cross-validation on Dask data, which stay on the workers."""

from dparallel.model_selection.dividing import train_test_split
from dparallel.model_selection.parts import Part, select
from dparallel.model_selection.search import GridSearchCV, RandomizedSearchCV
from dparallel.model_selection.splitters import GroupKFold, KFold, ShuffleSplit, StratifiedKFold
from dparallel.model_selection.validation import cross_val_score, cross_validate

__all__ = [
    "GridSearchCV",
    "GroupKFold",
    "KFold",
    "Part",
    "RandomizedSearchCV",
    "ShuffleSplit",
    "StratifiedKFold",
    "cross_val_score",
    "cross_validate",
    "select",
    "train_test_split",
]
