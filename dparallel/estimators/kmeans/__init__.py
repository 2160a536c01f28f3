"""Parallel k-means: k-means‖ seeding and exact Lloyd rounds with distance bounds."""

from typing import Any

__all__ = ["ParallelKMeans"]


def __getattr__(name: str) -> Any:
    # workers import the steps, and not the class, which needs scikit-learn
    if name == "ParallelKMeans":
        from dparallel.estimators.kmeans.model import ParallelKMeans

        return ParallelKMeans
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
