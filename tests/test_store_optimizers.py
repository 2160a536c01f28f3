"""The store's optimizers, against their textbook formulas written as loops over plain floats."""

import json
import math

import numpy as np
import pytest

from dparallel.errors import StoreError
from dparallel.store.layout import FullUpdate
from dparallel.store.local import LocalTransport
from dparallel.store.optimizers import (
    FTRL,
    OPTIMIZERS,
    SGD,
    TILE,
    Adagrad,
    Adam,
    Add,
    Momentum,
    Nesterov,
    from_dict,
    make_optimizer,
)

STEPS = 200


def add(w, gradients):
    for g in gradients:
        w = w + g
    return w


def sgd(w, gradients, rate):
    for g in gradients:
        w = w - rate * g
    return w


def momentum(w, gradients, rate, mu):
    v = 0.0
    for g in gradients:
        v = mu * v + g
        w = w - rate * v
    return w


def nesterov(w, gradients, rate, mu):
    v = 0.0
    for g in gradients:
        v = mu * v + g
        w = w - rate * (g + mu * v)
    return w


def adagrad(w, gradients, rate, initial, epsilon):
    total = initial
    for g in gradients:
        total = total + g * g
        w = w - rate * g / (math.sqrt(total) + epsilon)
    return w


def adam(w, gradients, rate, beta_1, beta_2, epsilon):
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g * g
        m_hat = m / (1 - beta_1**t)
        v_hat = v / (1 - beta_2**t)
        w = w - rate * m_hat / (math.sqrt(v_hat) + epsilon)
    return w


def ftrl(w, gradients, alpha, beta, l1, l2):
    z, n = -w * (beta / alpha + l2) - math.copysign(l1, w) * (w != 0), 0.0
    for g in gradients:
        sigma = (math.sqrt(n + g * g) - math.sqrt(n)) / alpha
        z = z + g - sigma * w
        n = n + g * g
        w = 0.0 if abs(z) <= l1 else -(z - math.copysign(l1, z)) / ((beta + math.sqrt(n)) / alpha + l2)
    return w


CASES = [
    (Add(), add, ()),
    (SGD(0.05), sgd, (0.05,)),
    (Momentum(0.02, 0.8), momentum, (0.02, 0.8)),
    (Nesterov(0.02, 0.8), nesterov, (0.02, 0.8)),
    (Adagrad(0.3, 0.1, 1e-8), adagrad, (0.3, 0.1, 1e-8)),
    (Adagrad(0.3), adagrad, (0.3, 0.0, 1e-10)),
    (Adam(0.01, 0.9, 0.99, 1e-7), adam, (0.01, 0.9, 0.99, 1e-7)),
    (FTRL(0.1, 1.0, 0.5, 0.1), ftrl, (0.1, 1.0, 0.5, 0.1)),
    (FTRL(0.3, 0.5), ftrl, (0.3, 0.5, 0.0, 0.0)),
]
NAMES = [f"{case[0].name}-{number}" for number, case in enumerate(CASES)]


@pytest.mark.parametrize("n_shards", [1, 2, 3])
@pytest.mark.parametrize("optimizer, textbook, settings", CASES, ids=NAMES)
def test_optimizer_matches_its_textbook_loop(optimizer, textbook, settings, n_shards):
    rng = np.random.default_rng(3)
    first = {"W": rng.normal(size=(3, 5)), "b": rng.normal(size=4)}
    gradients = {name: rng.normal(size=(STEPS, *array.shape)) for name, array in first.items()}
    store = LocalTransport.create(first, dict.fromkeys(first, optimizer), n_shards=n_shards)
    for clock in range(STEPS):
        reply = store.exchange([FullUpdate((0, clock), {name: g[clock] for name, g in gradients.items()})])
    for name, array in first.items():
        for place in np.ndindex(array.shape):
            expected = textbook(float(array[place]), gradients[name][:, *place].tolist(), *settings)
            assert reply.parameters[name][place] == pytest.approx(expected, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("optimizer", [case[0] for case in CASES], ids=NAMES)
def test_length_of_the_array_does_not_change_a_bit(optimizer):
    n = 2 * TILE + 77
    rng = np.random.default_rng(5)
    values, updates = rng.normal(size=n), rng.normal(size=(4, n))
    pieces = [slice(0, 1), slice(1, 18), slice(18, TILE + 3), slice(TILE + 3, n)]
    whole, slots = values.copy(), optimizer.slots(values)
    cut = [(values[piece].copy(), optimizer.slots(values[piece])) for piece in pieces]
    for count, update in enumerate(updates, 1):
        optimizer.apply(whole, slots, update, count)
        for piece, (part, part_slots) in zip(pieces, cut):
            optimizer.apply(part, part_slots, update[piece], count)
    assert np.concatenate([part for part, _ in cut]).tobytes() == whole.tobytes()
    for name, slot in slots.items():
        assert np.concatenate([part_slots[name] for _, part_slots in cut]).tobytes() == slot.tobytes()


@pytest.mark.parametrize("optimizer", [case[0] for case in CASES], ids=NAMES)
def test_update_is_only_read(optimizer):
    update = np.arange(1.0, 6.0)
    update.flags.writeable = False
    optimizer.apply(np.zeros(5), optimizer.slots(np.zeros(5)), update, 1)
    np.testing.assert_array_equal(update, np.arange(1.0, 6.0))


def test_whole_numbers_add_up_exactly_to_2_to_the_53():
    values = np.array([2.0**53 - 1000.0])
    for count in range(1, 1001):
        Add().apply(values, {}, np.ones(1), count)
    assert values[0] == 2**53


def test_ftrl_does_not_move_a_weight_before_its_first_gradient():
    w = np.array([-0.7, 0.0, 2.5])
    optimizer, values = FTRL(0.1, 1.0, 0.5, 0.1), w.copy()
    optimizer.apply(values, optimizer.slots(values), np.zeros(3), 1)
    np.testing.assert_allclose(values, w, rtol=1e-14)


@pytest.mark.parametrize("optimizer", [case[0] for case in CASES], ids=NAMES)
def test_optimizer_survives_json(optimizer):
    assert from_dict(json.loads(json.dumps(optimizer.as_dict()))) == optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_name_makes_its_optimizer(name):
    assert make_optimizer(name) == OPTIMIZERS[name]()


def test_instance_is_kept_and_learning_rate_replaced():
    given = Adam(0.5, beta_1=0.8)
    assert make_optimizer(given) is given
    assert make_optimizer(given, 0.25) == Adam(0.25, beta_1=0.8)
    assert make_optimizer("momentum", np.float32(0.5)).learning_rate == 0.5


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: make_optimizer("adamw"), "'adamw'.*'adam'"),
        (lambda: make_optimizer(Adam), "instance"),
        (lambda: make_optimizer("add", 0.1), "no learning_rate"),
        (lambda: SGD(0.0), "learning_rate must be a positive"),
        (lambda: SGD(-1), "learning_rate"),
        (lambda: SGD("fast"), "'fast'"),
        (lambda: SGD(math.nan), "learning_rate"),
        (lambda: Momentum(0.1, 1.0), "momentum must be"),
        (lambda: Adam(beta_2=-0.1), "beta_2"),
        (lambda: FTRL(l1=-1), "l1 must be"),
        (lambda: Adagrad(initial_accumulator=-1), "initial_accumulator"),
        (lambda: from_dict({"name": "lamb"}), "lamb"),
        (lambda: from_dict({"name": "sgd", "speed": 1}), "speed"),
        (lambda: from_dict({}), "no optimizer"),
    ],
)
def test_wrong_settings_are_named(call, words):
    with pytest.raises(StoreError, match=words):
        call()
