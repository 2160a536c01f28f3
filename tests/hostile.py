"""Checkpoints that nobody who means well has written: real ones with a piece of them exchanged."""

import copy
import json
import zipfile

import numpy as np
from hypothesis import strategies as st

from dparallel import checkpoint

# what a place of a document may be exchanged for
VALUES = [
    None, True, -1, 0, 1, 7, 10**12, 10**15, 2**63, 10**400, -(10**400), 0.5, -0.0, 1e308, float("nan"), float("inf"),
    "", "x", "0", "../../x", "\x00", "\ud800", "x" * 10_000, [], {}, [[]], [None], [1, 2, 3], {"x": 1},
    [10**12], [[10**12, 10**12]], ["__import__('os').abort()"],
]  # fmt: skip


def nested(depth):
    """A list in a list, and so on, as text."""
    return "[" * depth + "]" * depth


def places(document, path=()):
    """The paths of all places in a document."""
    yield path
    keys = list(document) if isinstance(document, dict) else range(len(document) if isinstance(document, list) else 0)
    for key in keys:
        yield from places(document[key], (*path, key))


def exchanged(document, path, value):
    """A copy of a document with one place exchanged."""
    if not path:
        return value
    changed = copy.deepcopy(document)
    holder = changed
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return changed


def without(document, path):
    """A copy of a document with one place left out."""
    changed = copy.deepcopy(document)
    holder = changed
    for key in path[:-1]:
        holder = holder[key]
    del holder[path[-1]]
    return changed


def other_arrays(array):
    """What an array may be exchanged for."""
    flat = array.reshape(-1)
    yield from (array[:0], np.concatenate([flat, flat]), flat[:-1], array.reshape(1, 1, *array.shape), np.array(3.0))
    yield from (array.astype(dtype) for dtype in ("float32", "int64", "bool", "complex128", "U3", "S3", "V8"))
    yield from (np.full_like(array, value) for value in (np.nan, np.inf, 1e300))
    yield np.zeros((0, 2**40))
    yield np.zeros(1, [("f", float), ("x" * 100, "M8[ns]", (2, 2))])


@st.composite
def hostile(draw, arrays, document):
    """Arrays and a document of which one or two pieces were exchanged, left out or doubled."""
    originals, arrays = arrays, dict(arrays)
    for _ in range(draw(st.integers(1, 2))):
        if draw(st.integers(0, 3)) == 0:
            name = draw(st.sampled_from(sorted(originals)))
            choices = list(other_arrays(originals[name]))
            number = draw(st.integers(-1, len(choices) - 1))
            if number < 0:
                arrays.pop(name, None)
            else:
                arrays[name] = choices[number]
            continue
        known = [path for path in places(document) if path]
        if not known:
            break
        path = draw(st.sampled_from(known))
        value = draw(st.sampled_from(VALUES))
        document = without(document, path) if draw(st.integers(0, 4)) == 0 else exchanged(document, path, value)
    return arrays, document


def save(path, arrays, document):
    """Write what checkpoint.write would refuse to, with right checksums."""
    head = {"format": checkpoint.FORMAT, "version": checkpoint.VERSION, "arrays": list(arrays), "document": document}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("document.json", json.dumps(head))
        for number, array in enumerate(arrays.values()):
            with archive.open(f"arrays/{number}.npy", "w") as member:
                np.lib.format.write_array(member, array)
