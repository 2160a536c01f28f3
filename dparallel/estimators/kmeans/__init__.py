"""Parallel k-means: k-means‖ seeding and exact Lloyd rounds with distance bounds."""

from dparallel.estimators.kmeans.model import ParallelKMeans

__all__ = ["ParallelKMeans"]
