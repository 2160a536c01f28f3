"""Compare what a store could do about stale gradients: nothing, dividing the rate, compensating the delay.

Minibatch gradients of multinomial logistic regression, each computed from the parameters of d updates ago, on three
data sets. Delays: those of the real store, drawn from the histogram of a fit of AsyncSGDClassifier in four threads; a
constant 16; and 3 for nine steps of ten, 64 for the tenth, as a straggler's are.

"plain" applies gradients as they come. "divided" divides the rate by the delay (Zhang et al., "Staleness-aware
async-SGD for distributed deep learning", IJCAI 2016). "compensated" adds lambda * g * g * (w now - w then) to a
gradient, with lambda = 2 / sqrt(mean square of g), which the authors call adaptive (Zheng et al., "Asynchronous
stochastic gradient descent with delay compensation", ICML 2017); "compensated, constant" has lambda = 0.04.

Every rule gets the constant rate of a grid by factors of 2 that is best for it by the mean loss on held-out rows, which
other seeds then judge. "rate of no delay" is the loss where the rate is that which is best without delays.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.data import data_folder, load_a9a
from benchmarks.results import Bars, Report

BATCH = 32
RATES = tuple(2.0**exponent for exponent in range(-7, 4))
RULES = ("plain", "divided", "compensated", "compensated, constant")
N_STEPS = 2000
LONGEST = 128
JUDGED_FROM = 100  # number of the first seed that judges; those before choose rates


class Problem(NamedTuple):
    """Rows of one data set, those held out included; X with a column of ones."""

    X: np.ndarray
    y: np.ndarray
    X_held: np.ndarray
    y_held: np.ndarray
    n_classes: int


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    parser.add_argument("--seeds", type=int, default=5, help="runs that choose a rate, and that judge it (default: 5)")


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure all rules on all data sets that are there."""
    n_steps, n_seeds, rates = (50, 1, RATES[4:6]) if options.quick else (N_STEPS, options.seeds, RATES)
    table = report.tables.setdefault("Loss on held-out rows", [])
    for name, problem in load_problems(None if options.quick else data_folder()).items():
        delays = measured_delays(problem)
        report.tables.setdefault("Delays of the real store", []).append(
            {"case": name, "histogram": {str(delay): count for delay, count in sorted(delays.items())}}
        )
        table.extend(compare(name, problem, delays, n_steps, n_seeds, rates))
    report.figure = Bars("Loss on held-out rows", "case", "rule", "loss")


def load_problems(folder: Path | None) -> dict[str, Problem]:
    """Return the problems whose data are in a folder; without one a small generated one."""
    if folder is None:
        rng = np.random.default_rng(0)
        X = rng.normal(size=(2000, 5))
        return {"generated": _split(X, (X @ rng.normal(size=5) > 0).astype(int))}
    X, y, _, _ = load_a9a(folder)
    return {
        "a9a": _split(X.toarray(), y),
        "covtype": _split(*_load_covtype(folder / "covtype_93k.csv.gz")),
        "digits": _split(*_load_digits(folder)),
    }


def _load_covtype(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with gzip.open(path, "rt") as file:
        rows = list(csv.reader(file))[1:]
    table = np.array(rows, float)
    return table[:, :-1], table[:, -1].astype(int)


def _load_digits(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    with gzip.open(folder / "mnist_t10k-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16)
    with gzip.open(folder / "mnist_t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return pixels.reshape(len(labels), -1) / 255.0, labels


def _split(X: np.ndarray, y: np.ndarray) -> Problem:
    """Hold a fifth of the rows out, at most 5,000."""
    order = np.random.default_rng(0).permutation(len(X))
    X, y = np.hstack([X, np.ones((len(X), 1))])[order], np.unique(y, return_inverse=True)[1][order]
    n_held = min(len(X) // 5, 5000)
    return Problem(X[n_held:], y[n_held:], X[:n_held], y[:n_held], int(y.max()) + 1)


def measured_delays(problem: Problem) -> Mapping[int, int]:
    """Fit in four threads and return how many updates were based on parameters so many updates old."""
    from dparallel import AsyncSGDClassifier

    model = AsyncSGDClassifier(max_iter=1, tol=None, n_jobs=4, push_every=1, random_state=0)
    return model.fit(problem.X[:, :-1], problem.y).staleness_


def compare(
    name: str, problem: Problem, measured: Mapping[int, int], n_steps: int, n_seeds: int, rates: tuple[float, ...]
) -> list[dict[str, Any]]:
    """Let every rule meet every kind of delay."""
    values, counts = np.array(list(measured)), np.array(list(measured.values()), float)
    values = np.minimum(values, LONGEST)
    kinds: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
        "none": lambda rng: np.zeros(n_steps, int),
        "measured": lambda rng: rng.choice(values, n_steps, p=counts / counts.sum()),
        "16": lambda rng: np.full(n_steps, 16),
        "3 or 64": lambda rng: np.where(rng.random(n_steps) < 0.1, 64, 3),
    }
    rows, undelayed = [], None
    for kind, draw in kinds.items():
        for rule in RULES if kind != "none" else RULES[:1]:
            chosen = {rate: np.mean([loss_of(problem, rule, rate, draw, s) for s in range(n_seeds)]) for rate in rates}
            best = min(chosen, key=chosen.__getitem__)
            undelayed = undelayed or best
            judges = range(JUDGED_FROM, JUDGED_FROM + n_seeds)
            losses = [loss_of(problem, rule, best, draw, seed) for seed in judges]
            kept = [loss_of(problem, rule, undelayed, draw, seed) for seed in judges]
            rows.append(
                {
                    "case": f"{name}, {kind}",
                    "rule": rule,
                    "best rate": best,
                    "loss": float(np.mean(losses)),
                    "+-": float(np.std(losses)),
                    "rate of no delay": float(np.mean(kept)),
                }
            )
    return rows


@np.errstate(over="ignore", invalid="ignore")  # rates that are too long are to show as such
def loss_of(problem: Problem, rule: str, rate: float, draw: Any, seed: int) -> float:
    """Train with delayed gradients and return the loss on the held-out rows, at most 99."""
    rng = np.random.default_rng(seed)
    delays = draw(rng)
    past = np.zeros((LONGEST + 1, problem.X.shape[1], problem.n_classes))  # the parameters of the last updates
    mean_square = np.zeros(past.shape[1:])
    one_hot = np.eye(problem.n_classes)
    for step, delay in enumerate(delays):
        now, then = past[step % len(past)], past[max(step - delay, 0) % len(past)]
        rows = rng.integers(len(problem.X), size=BATCH)
        gradient = problem.X[rows].T @ (_softmax(problem.X[rows] @ then) - one_hot[problem.y[rows]]) / BATCH
        scale = rate / max(1, delay) if rule == "divided" else rate
        if rule.startswith("compensated"):
            mean_square = 0.95 * mean_square + 0.05 * gradient**2
            strength = 0.04 if rule.endswith("constant") else 2.0 / np.sqrt(mean_square + 1e-7)
            gradient = gradient + strength * gradient**2 * (now - then)
        past[(step + 1) % len(past)] = now - scale * gradient
    probabilities = _softmax(problem.X_held @ past[len(delays) % len(past)])
    picked = probabilities[np.arange(len(problem.y_held)), problem.y_held]
    loss = -np.mean(np.log(np.maximum(picked, 1e-40)))
    return float(min(loss, 99.0)) if np.isfinite(loss) else 99.0


def _softmax(scores: np.ndarray) -> np.ndarray:
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
