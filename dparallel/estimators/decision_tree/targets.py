"""What a tree learns, as whole numbers: class codes, and targets and weights in fixed point."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel import kernels
from dparallel.errors import DataError
from dparallel.estimators.decision_tree.labels import encode
from dparallel.estimators.decision_tree.survey import Range, Survey
from dparallel.estimators.sgd.classes import refuse_strange, weigh_classes
from dparallel.estimators.sgd.numbers import to_numbers

_SUM_BITS = 61  # no sum of statistics is larger than 2**61
_WEIGHT_BITS = 4  # mean weights up to 2**4 are taken for counts of repeated rows
_TARGET_BITS = 46  # of a target, fewer where there are many rows; integers of so many bits stay exact


@dataclass(frozen=True)
class Coded:
    """The targets of some rows as the kernels read them.

    Parameters
    ----------
    rows : kernels.histogram.Rows
    target : ndarray of shape (n_rows,), int64, targets in fixed point, of shape (0,) for classes
    second : ndarray of shape (n_rows,), int64, the sum that Poisson's deviance needs beside the moments, else (0,)
    """

    rows: Any
    target: np.ndarray
    second: np.ndarray

    def at(self, rows: Any) -> Coded:
        """Some of the rows, given by their numbers or as a slice."""
        kept = type(self.rows)(*(column[rows] if column.size else column for column in self.rows))
        target, second = (column[rows] if column.size else column for column in (self.target, self.second))
        return Coded(kept, target, second)

    @classmethod
    def joined(cls, parts: list[Coded]) -> Coded:
        """The rows of all parts."""
        histogram = kernels.histogram
        rows = histogram.Rows(*(np.concatenate(column) for column in zip(*(part.rows for part in parts))))
        target = np.concatenate([part.target for part in parts])
        return cls(rows, target, np.concatenate([part.second for part in parts]))


@dataclass(frozen=True)
class ClassTargets:
    """Labels.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,), sorted
    class_weight : ndarray of shape (n_classes,), float64, or None where all are 1
    weight_power : int, weights are multiplied by 2**weight_power; None where rows are counted
    """

    classes: np.ndarray
    class_weight: np.ndarray | None
    weight_power: int | None

    moment_power = 0
    target_power = 0
    shift = 0.0

    @property
    def weighted(self) -> bool:
        """Whether rows differ in weight."""
        return self.weight_power is not None

    def code(self, y: np.ndarray, sample_weight: np.ndarray | None) -> Coded:
        """Code the targets of a block; sample_weight : float64, above 0, or None."""
        histogram, fixed_point = kernels.histogram, kernels.fixed_point
        codes = encode(self.classes, y)
        weight = histogram.NONE_64
        if self.weight_power is not None:
            real = np.ones(len(codes)) if self.class_weight is None else self.class_weight[codes]
            real = real if sample_weight is None else real * sample_weight
            # a tiny weight is no weight of 0, which a class_weight may give
            weight = np.where(real > 0, np.maximum(fixed_point.fixed(real, self.weight_power), 1), 0)
        rows = histogram.Rows(codes.astype(np.int32), weight, histogram.NONE_64)
        return Coded(rows, histogram.NONE_64, histogram.NONE_64)


@dataclass(frozen=True)
class NumberTargets:
    """Numbers.

    Parameters
    ----------
    shift : float, subtracted from the targets
    target_power : int, targets are multiplied by 2**target_power
    moment_power : int, so are targets times weights
    weight_power : int, so are weights; None where rows are counted
    second_power : int, so is y log(y), or None where it is not needed
    """

    shift: float
    target_power: int
    moment_power: int
    weight_power: int | None
    second_power: int | None

    classes = np.empty(0)

    @property
    def weighted(self) -> bool:
        """Whether rows differ in weight."""
        return self.weight_power is not None

    def code(self, y: np.ndarray, sample_weight: np.ndarray | None) -> Coded:
        """Code the targets of a block; sample_weight : float64, above 0, or None."""
        histogram, fixed_point = kernels.histogram, kernels.fixed_point
        values = to_numbers(y)
        target = fixed_point.fixed(values - self.shift, self.target_power)
        weight, moment = histogram.NONE_64, target
        if self.weight_power is not None:
            real = np.ones(len(target)) if sample_weight is None else sample_weight
            weight = np.maximum(fixed_point.fixed(real, self.weight_power), 1)
            # the product of an integer weight and a target in fixed point is exact, as repeated rows would add up
            moment = fixed_point.fixed(real * target, self.moment_power - self.target_power)
        second = histogram.NONE_64
        if self.second_power is not None:
            entropy = np.zeros(len(values))
            np.log(values, out=entropy, where=values > 0)
            entropy *= values if sample_weight is None else values * sample_weight
            second = fixed_point.fixed(entropy, self.second_power)
        return Coded(histogram.Rows(histogram.NONE_32, weight, moment), target, second)


def class_targets(found: Survey, class_weight: Any, weighted: bool) -> ClassTargets:
    """Choose how labels are coded.

    Parameters
    ----------
    class_weight : the parameter; weighted : bool, whether there is a sample_weight

    Raises
    ------
    ValueError
        For targets that are no labels, or class weights of other classes.
    """
    refuse_strange(found.target)
    weights = weigh_classes(class_weight, found.target)
    if weights is None and not weighted:
        return ClassTargets(found.target.classes, None, None)
    if weights is None:
        return ClassTargets(found.target.classes, None, _SUM_BITS - found.weight_bits)
    # two bounds of the sum of all weights: rare classes may weigh much, and so may rare rows
    heaviest = found.weight_bits + math.frexp(float(weights.max()) or 1.0)[1]
    by_class = math.frexp(float(weights @ found.target.weights) or 1.0)[1] + math.frexp(found.largest_weight)[1]
    return ClassTargets(found.target.classes, weights, _SUM_BITS - min(heaviest, by_class))


def number_targets(found: Survey, criterion: str, weighted: bool) -> NumberTargets:
    """Choose how numbers are coded.

    Raises
    ------
    ValueError
        If criterion is "poisson" and targets are negative, or all 0.
    """
    span: Range = found.target
    if criterion == "poisson":
        _refuse_for_poisson(span)
    shift = _shift(span) if criterion != "poisson" else 0.0
    largest = max(abs(span.low - shift), abs(span.high - shift))
    weight_bits = found.weight_bits
    row_bits = found.n_used.bit_length()
    # as many bits as repeated rows would get, unless weights are so large that this would cost many
    heavy = weight_bits if weight_bits - row_bits <= _WEIGHT_BITS else row_bits
    bits = min(_TARGET_BITS, _SUM_BITS - max(heavy, row_bits))
    power = min(bits - math.frexp(largest)[1], 1000) if largest > 0 else 0
    moment_power = power + _SUM_BITS - bits - weight_bits if weighted else power
    second_power = None
    if criterion == "poisson":
        entropy = max(1.0, largest * abs(math.log(largest)))
        second_power = _SUM_BITS - math.frexp(entropy)[1] - max(weight_bits, row_bits)
    return NumberTargets(shift, power, moment_power, _SUM_BITS - weight_bits if weighted else None, second_power)


def _refuse_for_poisson(span: Range) -> None:
    if span.low < 0:
        raise DataError("Some value(s) of y are negative which is not allowed for Poisson regression.")
    if span.high <= 0:
        raise DataError("Sum of y is not positive which is necessary for Poisson regression.")


def _shift(span: Range) -> float:
    """What all targets have in common, where that is most of them: it would cost their squares most of their digits.

    A multiple of a power of two, so that integers stay integers; it depends on no sum, so that chunks cannot change it.
    """
    spread = span.high - span.low
    nearest = span.low if span.low > 0 else span.high if span.high < 0 else 0.0
    if not math.isfinite(spread) or abs(nearest) <= spread:
        return 0.0
    step = math.ldexp(1.0, math.frexp(spread)[1]) if spread > 0 else 1.0
    return math.floor(nearest / step) * step if abs(nearest) / step < 2.0**52 else nearest
