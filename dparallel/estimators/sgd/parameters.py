"""Checks of the constructor's parameters, before any work starts."""

from __future__ import annotations

import os
from numbers import Integral, Real
from typing import Any

import numpy as np

from dparallel.estimators.checks import check_choice, check_number, check_switch
from dparallel.store.compression import make_compression
from dparallel.store.optimizers import SGD

REGRESSION_LOSSES = ("squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive")
LOSSES = ("hinge", "log_loss", "modified_huber", "squared_hinge", "perceptron", *REGRESSION_LOSSES)
PENALTIES = ("l2", "l1", "elasticnet", None)
PASSIVE = ("pa1", "pa2")
LEARNING_RATES = ("auto", "constant", "optimal", "invscaling", "adaptive", *PASSIVE)
LEADER = "ftrl"  # needs coefficients in a sparse table


def check_parameters(model: Any, *, losses: tuple[str, ...], partial: bool = False) -> None:
    """Refuse values that cannot be meant.

    Parameters
    ----------
    model : classifier or regressor by SGD
    losses : what the estimator can make small
    partial : bool, whether partial_fit asks

    Raises
    ------
    ValueError, TypeError
        Saying what was given and what is needed, where scikit-learn has words for it in those.
    """
    check_choice(model, "loss", losses)
    check_choice(model, "penalty", PENALTIES)
    check_choice(model, "learning_rate", (*LEARNING_RATES, LEADER) if hasattr(model, "sparse_coef") else LEARNING_RATES)
    for name in ("fit_intercept", "shuffle", "early_stopping", "warm_start"):
        check_switch(model, name)
    for name in ("max_iter", "n_iter_no_change"):
        check_number(model, name, Integral, 1)
    check_number(model, "alpha", Real, 0)
    check_number(model, "epsilon", Real, 0)
    check_number(model, "power_t", Real, 0)
    if model.tol is not None:
        check_number(model, "tol", Real, 0)
    _check_fractions(model)
    _check_average(model)
    check_number_or_auto(model, "batch_size", Integral, 1)
    check_number_or_auto(model, "eta0", Real, 0, strict=True)
    _check_together(model, partial)


def _check_fractions(model: Any) -> None:
    check_number(model, "validation_fraction", Real, 0, strict=True)
    if not model.validation_fraction < 1:
        raise ValueError(f"validation_fraction was given {model.validation_fraction!r}. It must lie between 0 and 1.")
    if model.l1_ratio is None:
        if model.penalty == "elasticnet":
            raise ValueError("l1_ratio must be set when penalty is 'elasticnet'")
        return
    check_number(model, "l1_ratio", Real, 0)
    if not model.l1_ratio <= 1:
        raise ValueError(f"l1_ratio was given {model.l1_ratio!r}. It must lie between 0 and 1.")


def _check_average(model: Any) -> None:
    if isinstance(model.average, (bool, np.bool_)):
        return
    if not isinstance(model.average, Integral):
        raise TypeError(f"average was given {model.average!r}. It must be True, False or a number of rows.")
    check_number(model, "average", Integral, 1)


def check_number_or_auto(model: Any, name: str, kind: type, least: float, *, strict: bool = False) -> None:
    """Refuse what is neither "auto" nor such a number; see check_number."""
    if isinstance(getattr(model, name), str):
        check_choice(model, name, ("auto",))
    else:
        check_number(model, name, kind, least, strict=strict)


def check_asynchronous(model: Any) -> None:
    """Check what only AsyncSGDClassifier and AsyncSGDRegressor have; see check_parameters."""
    check_number_or_auto(model, "push_every", Integral, 1)
    if model.staleness is not None:
        check_number(model, "staleness", Integral, 0)
    check_checkpoint(model)
    check_choice(model, "sparse_coef", (False, True, "auto"))
    make_compression(model.compression, ("coef",))
    if model.sparse_coef is True and sparse_refusal(model):
        raise ValueError(f"sparse_coef=True was given, but {sparse_refusal(model)}")


def check_checkpoint(model: Any) -> None:
    """Refuse a checkpoint that is neither None nor a path."""
    if model.checkpoint is not None and not isinstance(model.checkpoint, (str, os.PathLike)):
        raise TypeError(f"checkpoint was given {model.checkpoint!r}. It must be the path of a file, or None.")


def sparse_refusal(model: Any) -> str:
    """Why a model's coefficients cannot be kept in a sparse table, with a remedy; empty where they can."""
    is_leader = model.learning_rate == LEADER
    has_l1 = model.penalty == "l1" or (model.penalty == "elasticnet" and model.l1_ratio > 0)
    has_l2 = model.alpha > 0 and model.penalty in ("l2", "elasticnet")
    plain = model.optimizer == "sgd" or isinstance(model.optimizer, SGD)
    if model.average:
        return "average=True moves the averages of all columns in every step. Give average=False."
    if has_l1 and model.alpha > 0 and not is_leader:
        return (
            "an L1 penalty moves the coefficients of all columns in every step, and no scale stands for that. Give "
            'learning_rate="ftrl", whose L1 is in closed form and gives exact zeros; or penalty="l2".'
        )
    if is_leader and not plain:
        return f'learning_rate="ftrl" is an optimizer itself. Leave out optimizer={model.optimizer!r}.'
    if has_l2 and not plain:
        return (
            f"optimizer={model.optimizer!r} has no exact L2 penalty for columns that a step does not have. Give "
            'optimizer="sgd", learning_rate="ftrl", or penalty=None.'
        )
    return ""


def _check_together(model: Any, partial: bool) -> None:
    if partial and model.early_stopping:
        raise ValueError("early_stopping should be False with partial_fit")
    if partial and getattr(model, "class_weight", None) == "balanced":
        raise ValueError(
            "class_weight 'balanced' is not supported for partial_fit. In order to use 'balanced' weights, use "
            "compute_class_weight('balanced', classes=classes, y=y). In place of y you can use a large enough sample "
            "of the full training set target to properly estimate the class frequency distributions. "
            "Pass the resulting weights as the class_weight parameter."
        )
    if model.learning_rate == "optimal" and model.alpha == 0:
        raise ValueError(
            "alpha must be > 0 since learning_rate is 'optimal'. alpha is used to compute the optimal learning rate."
        )
    needed = (
        "epsilon_insensitive" if model.loss in REGRESSION_LOSSES and not hasattr(model, "class_weight") else "hinge"
    )
    if model.learning_rate in PASSIVE and model.loss != needed:
        raise ValueError(f"Learning rate '{model.learning_rate}' only works with loss '{needed}'.")
