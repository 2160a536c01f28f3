"""Checkpoints: whole or not there; nothing in a file is trusted."""

import io
import json
import os
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from dparallel import checkpoint
from dparallel.errors import CheckpointError

ARRAYS = {
    "W": np.arange(6.0).reshape(2, 3),
    "F": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "../../etc/passwd": np.array(["a", "bc"]),
    "empty": np.zeros((0, 3), np.float32),
    "scalar": np.array(3),
    "big end": np.arange(3, dtype=">i4"),
    "": np.array([True, False]),
    "fields": np.array([(1, 2.0)], dtype=[("ä", int), ("y", float)]),
}
DOCUMENT = {"clock": 3, "text": "ä", "nested": {"list": [1, None, 0.1, 2**70]}, "loss": float("inf")}


def same(first, second):
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert (array.dtype, array.shape) == (second[name].dtype, second[name].shape)
        assert array.tobytes() == second[name].tobytes()


def write_zip(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)


def npy(array, allow_pickle=False):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


def head(names=("W",), version=checkpoint.VERSION, **changes):
    whole = {"format": checkpoint.FORMAT, "version": version, "arrays": list(names), "document": {}}
    return json.dumps(whole | changes)


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "a.checkpoint"
    checkpoint.write(path, ARRAYS, DOCUMENT)
    arrays, document = checkpoint.read(str(path))
    same(arrays, ARRAYS)
    assert document == DOCUMENT
    assert all(array.flags.writeable for array in arrays.values())
    assert os.listdir(tmp_path) == ["a.checkpoint"]


def test_second_write_replaces_the_first(tmp_path):
    path = tmp_path / "a"
    for number in range(3):
        checkpoint.write(path, {"n": np.full(number, number)}, {"number": number})
    assert checkpoint.read(path)[1] == {"number": 2}
    assert os.listdir(tmp_path) == ["a"]


def test_link_stays_a_link(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "a")
    checkpoint.write(tmp_path / "link", {}, {"n": 1})
    assert (tmp_path / "link").is_symlink()
    assert checkpoint.read(tmp_path / "folder" / "a") == ({}, {"n": 1})


@pytest.mark.parametrize("every", [50])
def test_file_cut_short_anywhere_is_refused(tmp_path, every):
    path, cut = tmp_path / "whole", tmp_path / "cut"
    checkpoint.write(path, ARRAYS, DOCUMENT)
    content = path.read_bytes()
    for length in [*range(0, len(content), every), len(content) - 1]:
        cut.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"cut is no checkpoint of dparallel, or it is damaged.*delete"):
            checkpoint.read(cut)


def test_no_flipped_byte_is_read_as_other_numbers(tmp_path):
    path, damaged = tmp_path / "whole", tmp_path / "damaged"
    checkpoint.write(path, ARRAYS, DOCUMENT)
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        damaged.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        try:
            arrays, document = checkpoint.read(damaged)
        except CheckpointError:
            continue
        same(arrays, ARRAYS)  # a byte that says nothing, such as one of the time of a member
        assert document == DOCUMENT


FOREIGN = {
    "nothing": b"",
    "text": b"hello",
    "npy": npy(np.zeros(3)),
    "pickle": b"\x80\x04K\x01.",
    "zeros": bytes(100_000),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_file_is_refused(tmp_path, name):
    path = tmp_path / "foreign"
    path.write_bytes(FOREIGN[name])
    with pytest.raises(CheckpointError, match="foreign is no checkpoint"):
        checkpoint.read(path)


def npy_header(text):
    return b"\x93NUMPY\x01\x00\x76\x00" + text.ljust(117) + b"\n"


FALSE_SHAPE = npy_header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }") + bytes(24)
NEGATIVE_SHAPE = npy_header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -3), }") + bytes(24)
OBJECTS = npy(np.array([{"a": 1}], dtype=object), allow_pickle=True)
HOSTILE = {
    "npz of numpy": [("W.npy", npy(np.zeros(3)))],
    "no json": [("document.json", "{"), ("arrays/0.npy", npy(np.zeros(3)))],
    "json of another kind": [("document.json", "[1]"), ("arrays/0.npy", npy(np.zeros(3)))],
    "json too deep": [("document.json", "[" * 100_000), ("arrays/0.npy", npy(np.zeros(3)))],
    "another format": [("document.json", head(format="x")), ("arrays/0.npy", npy(np.zeros(3)))],
    "no version": [("document.json", json.dumps({"format": checkpoint.FORMAT}))],
    "document of another kind": [("document.json", head(document=3)), ("arrays/0.npy", npy(np.zeros(3)))],
    "names of another kind": [("document.json", head(names=[["W"]])), ("arrays/0.npy", npy(np.zeros(3)))],
    "names twice": [("document.json", head(["W", "W"])), *((f"arrays/{n}.npy", npy(np.zeros(3))) for n in (0, 1))],
    "array missing": [("document.json", head(["W", "b"])), ("arrays/0.npy", npy(np.zeros(3)))],
    "member too many": [("document.json", head()), ("arrays/0.npy", npy(np.zeros(3))), ("x.py", "1")],
    "path upwards": [("document.json", head()), ("../arrays/0.npy", npy(np.zeros(3)))],
    "objects": [("document.json", head()), ("arrays/0.npy", OBJECTS)],
    "false shape": [("document.json", head()), ("arrays/0.npy", FALSE_SHAPE)],
    "negative shape": [("document.json", head()), ("arrays/0.npy", NEGATIVE_SHAPE)],
    "bytes too many": [("document.json", head()), ("arrays/0.npy", npy(np.zeros(3)) + b"x")],
    "no npy": [("document.json", head()), ("arrays/0.npy", b"hello")],
    "long npy header": [("document.json", head()), ("arrays/0.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\x7f")],
    "code in npy header": [("document.json", head()), ("arrays/0.npy", npy_header(b"__import__('os').abort()"))],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archive_is_refused(tmp_path, name):
    path = tmp_path / "hostile"
    write_zip(path, HOSTILE[name])
    with pytest.raises(CheckpointError, match="hostile is no checkpoint"):
        checkpoint.read(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_member_twice_is_refused(tmp_path):
    path = tmp_path / "hostile"
    write_zip(path, [("document.json", head()), *[("arrays/0.npy", npy(np.zeros(3)))] * 2])
    with pytest.raises(CheckpointError, match="other members"):
        checkpoint.read(path)


def test_compressed_archive_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "bomb"
    write_zip(path, [("document.json", head()), ("arrays/0.npy", npy(np.zeros(10_000_000)))], zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 200_000
    with pytest.raises(CheckpointError, match="compressed"):
        checkpoint.read(path)


def test_archive_that_claims_more_bytes_than_it_has_is_refused(tmp_path):
    path = tmp_path / "bomb"
    write_zip(path, [("document.json", head()), ("arrays/0.npy", npy(np.zeros(3)))])
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")  # the last member in the directory at the end
    content[entry + 20 : entry + 28] = (2**31).to_bytes(4, "little") * 2
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="claims more bytes"):
        checkpoint.read(path)


def test_newer_version_is_told_from_a_damaged_file(tmp_path):
    path = tmp_path / "newer"
    write_zip(path, [("document.json", head(version=2)), ("arrays/0.npy", npy(np.zeros(3)))])
    with pytest.raises(CheckpointError, match=r"newer has version 2.*Update dparallel"):
        checkpoint.read(path)


def test_missing_file_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        checkpoint.read(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        checkpoint.write(tmp_path / "no folder" / "a", {}, {})


@pytest.mark.parametrize(
    "arrays, document, words",
    [
        ({"W": np.array([None])}, {}, "'W' holds Python objects"),
        ({"W": np.zeros(1, [("x", object)])}, {}, "'W' holds Python objects"),
        ({"W": np.zeros(1)}, {"f": len}, "no JSON"),
        ({1: np.zeros(1)}, {}, "must be a str"),
    ],
)
def test_what_cannot_be_saved_leaves_the_old_file(tmp_path, arrays, document, words):
    path = tmp_path / "a"
    checkpoint.write(path, {}, {"old": True})
    with pytest.raises(CheckpointError, match=words):
        checkpoint.write(path, arrays, document)
    assert checkpoint.read(path) == ({}, {"old": True})
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["full", "interrupt"])
def test_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, function, error):
    path = tmp_path / "a"
    checkpoint.write(path, {}, {"old": True})

    def fail(*arguments):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(type(error)):
            checkpoint.write(path, ARRAYS, DOCUMENT)
    assert checkpoint.read(path) == ({}, {"old": True})
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_process_killed_before_the_rename_leaves_the_old_file(tmp_path, function):
    path = tmp_path / "a"
    checkpoint.write(path, {}, {"old": True})
    program = (
        "import os, signal, sys, numpy\nfrom dparallel import checkpoint\n"
        f"os.{function} = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)\n"
        "checkpoint.write(sys.argv[1], {'W': numpy.zeros(1000)}, {'new': True})\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert checkpoint.read(path) == ({}, {"old": True})
    checkpoint.write(path, {}, {"new": True})
    assert checkpoint.read(path) == ({}, {"new": True})
