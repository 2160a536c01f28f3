"""Hostile and damaged checkpoints: a typed error that names the file, no code run, no memory asked for."""

import io
import json
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile

import dask
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dparallel import AsyncSGDClassifier, ParameterStore, SparseTable, checkpoint
from dparallel.errors import CheckpointError, DataError
from dparallel.workers.saving import Saving
from tests.hostile import VALUES, exchanged, hostile, nested, places, save

X = np.random.default_rng(0).normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)
DAMAGED = "is no checkpoint of dparallel, or it is damaged.*Give another file, or delete this one"
MANY = settings(max_examples=5000)


def of_a_fit(path, staleness):
    """The content of a checkpoint of a fit that was broken off after three epochs, and what goes on from it."""
    options = {"loss": "log_loss", "random_state": 0, "tol": None, "checkpoint": path, "staleness": staleness}
    options["learning_rate"] = "constant"
    with pytest.MonkeyPatch.context() as patch, dask.config.set({"dparallel.checkpoint-every": "0s"}):
        patch.setattr(Saving, "remove", lambda saving: None)
        AsyncSGDClassifier(max_iter=3, **options).fit(X, Y)
    return options


@pytest.fixture(scope="module", params=[None, 0], ids=["asynchronous", "synchronous"])
def fit(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("fit") / "fit.checkpoint"
    with dask.config.set(num_workers=2):
        options = of_a_fit(path, request.param)
        return path, path.read_bytes(), checkpoint.read(path), options


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "store.checkpoint"
    parameters = {"W": (3, 2), "b": 2, "emb": SparseTable(width=2)}
    with ParameterStore(parameters, optimizer="adam", staleness=0, n_partitions=2) as opened:
        for clock in range(2):
            for partition in range(2 - clock):  # so that an update is pending, and the state before is kept
                update = {"W": np.ones((3, 2)), "emb": ([7, 10**15 + clock], [[1.0, 2.0], [3.0, 4.0]])}
                opened.push(update, step=(partition, clock))
        opened.snapshot(path)
    return path, checkpoint.read(path)


def resume(options):
    with dask.config.set(num_workers=2):
        return AsyncSGDClassifier(max_iter=5, **options).fit(X, Y)


def check_words(named, message):
    assert str(named) in message and len(message) < 2000


def resume_or_refuse(path, arrays, document, options):
    """Go on from a file, or be told what is wrong with it; anything else is a failure."""
    save(path, arrays, document)
    try:
        model = resume(options)
    except CheckpointError as error:
        check_words(path, str(error))
    except DataError as error:
        check_words("overflow", str(error))  # numbers that might have been, and led nowhere
    else:
        assert np.isfinite(model.coef_).all() and model.n_iter_ == 5


def open_or_refuse(path, arrays, document):
    save(path, arrays, document)
    try:
        opened = ParameterStore.restore(path)
    except CheckpointError as error:
        check_words(path, str(error))
        return
    with opened:
        assert all(np.isfinite(part).all() for name in ("W", "b") for part in opened.pull([name]).values())


@pytest.mark.filterwarnings("ignore")
@given(data=st.data())
@settings(max_examples=15)
def test_fit_goes_on_from_an_exchanged_checkpoint_or_tells_what_is_wrong(fit, data):
    path, _, content, options = fit
    resume_or_refuse(path, *data.draw(hostile(*content)), options)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.filterwarnings("ignore")
@given(data=st.data())
@MANY
def test_fit_goes_on_from_any_exchanged_checkpoint_or_tells_what_is_wrong(fit, data):
    path, _, content, options = fit
    resume_or_refuse(path, *data.draw(hostile(*content)), options)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.filterwarnings("ignore")
def test_fit_survives_every_value_at_every_place(fit):
    path, _, (arrays, document), options = fit
    for place in places(document):
        for value in VALUES:
            if place or isinstance(value, dict):
                resume_or_refuse(path, arrays, exchanged(document, place, value), options)


@pytest.mark.filterwarnings("ignore")
@given(data=st.data())
@settings(max_examples=25)
def test_store_opens_an_exchanged_snapshot_or_tells_what_is_wrong(store, data):
    path, content = store
    open_or_refuse(path, *data.draw(hostile(*content)))


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.filterwarnings("ignore")
@given(data=st.data())
@MANY
def test_store_opens_any_exchanged_snapshot_or_tells_what_is_wrong(store, data):
    path, content = store
    open_or_refuse(path, *data.draw(hostile(*content)))


def check_bytes(path, content, whole):
    """Read a file of these bytes: what is read is what was written, or an error."""
    path.write_bytes(content)
    try:
        arrays, document = checkpoint.read(path)
    except CheckpointError as error:
        check_words(path, str(error))
        return
    assert json.dumps(document) == json.dumps(whole[1]) and arrays.keys() == whole[0].keys()
    assert all(array.tobytes() == whole[0][name].tobytes() for name, array in arrays.items())


CHANGES = st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=8), st.integers(0, 8)), min_size=1, max_size=4)


def changed(content, changes):
    for where, put, n_removed in changes:
        start = int(where * len(content))
        content = content[:start] + put + content[start + n_removed :]
    return content


@given(changes=CHANGES)
@example(changes=[(0.99, (10**12).to_bytes(8, "little"), 8)])
def test_no_changed_bytes_are_read_as_other_numbers(fit, changes):
    path, content, whole, _ = fit
    check_bytes(path.with_name("changed"), changed(content, changes), whole)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@given(changes=CHANGES)
@settings(max_examples=20_000)
def test_no_changed_bytes_are_ever_read_as_other_numbers(fit, changes):
    path, content, whole, _ = fit
    check_bytes(path.with_name("changed"), changed(content, changes), whole)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_fit_cut_short_at_any_byte_is_refused(fit):
    path, content, _, _ = fit
    cut = path.with_name("cut")
    for length in range(len(content)):
        cut.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=DAMAGED):
            checkpoint.read(cut)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_fit_tells_of_a_checkpoint_that_was_cut_short(fit, share):
    path, content, _, options = fit
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=f"{path.name} {DAMAGED}"):
        resume(options)


# what a document says


def at(document, *path):
    for key in path:
        document = document[key]
    return document


LIES = {
    "partitions": (("fingerprint", "n_partitions"), 10**12),
    "clocks": (("store", "shards", 0, "clocks", "n_partitions"), 10**12),
    "staleness": (("store", "shards", 0, "clocks", "staleness"), 10**12),
    "shape": (("store", "layout", "shapes", 0), [10**6, 10**6]),
    "cuts": (("store", "layout", "cuts", 0), [0, 10**12]),
    "later clock": (("store", "shards", 0, "clocks", "next", 0, 1), 10**12),
    "earlier clock": (("store", "shards", 0, "clocks", "next", 0, 1), 0),
    "finished": (("store", "shards", 0, "clocks", "finished"), [0]),
    "optimizer": (("store", "shards", 0, "optimizers", 0, 1), {"name": "sgd", "learning_rate": 1e9}),
    "no optimizer": (("store", "shards", 0, "optimizers", 0, 1), {"name": "__class__"}),
    "number too long": (("store", "shards", 0, "version"), 10**4000),
    "version not whole": (("store", "shards", 0, "version"), 1.5),
    "sums of another length": (("course", "ends", 0, "total"), [1.0] * 3),
    "infinite sums": (("course", "ends", 0, "total"), [float("inf"), 1.0]),
    "control": (("course", "ends", 0, "control"), "x"),
    "record": (("course", "ends", 0, "record"), {"round": 1}),
    "record of text": (("course", "ends", 0, "record", "seconds"), "1"),
    "judge": (("course", "ends", 0, "judge", "factor"), -1.0),
    "epoch less": (("course", "ends"), []),
    "no course": (("course",), None),
    "no store": (("store",), []),
    "no fingerprint": (("fingerprint",), 3),
}


@pytest.mark.parametrize("name", LIES)
def test_fit_tells_of_a_checkpoint_that_lies(fit, name):
    path, _, (arrays, document), options = fit
    place, value = LIES[name]
    at(document, *place)  # it is there
    save(path, arrays, exchanged(document, place, value))
    with pytest.raises(CheckpointError, match=f"{path.name} {DAMAGED}"):
        resume(options)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("key", ["0/values/coef", "0/values/intercept"])
def test_fit_tells_of_numbers_that_are_not_finite(fit, key, value):
    path, _, (arrays, document), options = fit
    save(path, {**arrays, key: np.full_like(arrays[key], value)}, document)
    with pytest.raises(CheckpointError, match=f"'{key}' of float64 holds something that is no finite number"):
        resume(options)


@pytest.mark.parametrize("dtype", ["complex128", "U3", "V8"])
def test_fit_tells_of_arrays_of_another_kind(fit, dtype):
    path, _, (arrays, document), options = fit
    save(path, {**arrays, "0/values/coef": arrays["0/values/coef"].astype(dtype)}, document)
    with pytest.raises(CheckpointError, match="'0/values/coef'"):
        resume(options)


def test_true_checkpoint_is_gone_on_from(fit):
    path, content, _, options = fit
    path.write_bytes(content)
    assert resume(options).n_iter_ == 5


def test_snapshot_with_keys_twice_is_refused(store):
    path, (arrays, document) = store
    save(path, {**arrays, "0/keys/emb": np.zeros_like(arrays["0/keys/emb"])}, document)
    with pytest.raises(CheckpointError, match=f"{path.name} {DAMAGED}"):
        ParameterStore.restore(path)


# no code, no memory


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def archive_of(path, head, *members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in [("document.json", head), *members]:
            archive.writestr(name, content)


def head_of(*names, document="{}"):
    head = json.dumps({"format": checkpoint.FORMAT, "version": 1, "arrays": names, "document": "?"})
    return head.replace('"?"', document)


@pytest.mark.parametrize("where", ["array", "whole file", "member", "document"])
def test_pickles_are_not_loaded(tmp_path, where):
    path, mark = tmp_path / "hostile", tmp_path / "executed"
    pickled = pickle.dumps(Bomb(str(mark)))
    if where == "array":
        file = io.BytesIO()
        np.lib.format.write_array(file, np.array([Bomb(str(mark))], dtype=object), allow_pickle=True)
        archive_of(path, head_of("W"), ("arrays/0.npy", file.getvalue()))
    elif where == "whole file":
        path.write_bytes(pickled)
    elif where == "member":
        archive_of(path, head_of("W"), ("arrays/0.npy", pickled))
    else:
        archive_of(path, pickled)
    with pytest.raises(CheckpointError, match=DAMAGED):
        checkpoint.read(path)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["../outside.npy", "/tmp/outside.npy", "arrays/../../outside.npy", "C:\\outside.npy"])
def test_names_of_members_are_never_paths(tmp_path, name):
    folder = tmp_path / "folder"
    folder.mkdir()
    archive_of(folder / "hostile", head_of(name), (name, b"x"))
    with pytest.raises(CheckpointError, match="other members"):
        checkpoint.read(folder / "hostile")
    assert [file.name for file in tmp_path.rglob("*")] == ["folder", "hostile"]


def npy(descr, shape, content=b""):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x02\x00" + (len(text) + 1).to_bytes(4, "little") + text + b"\n" + content


LARGE = {
    "elements": npy("'<f8'", (10**12,), bytes(24)),
    "elements of no bytes": npy("'V0'", (10**30,)),
    "bytes of an element": npy("'V1000000000'", (0,), b"x"),
    "product beyond 64 bits": npy("'<f8'", (2**40, 2**40), bytes(8)),
    "negative product": npy("'<f8'", (-(2**40), -(2**40))),
    "header": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(100),
    "signs in the header": npy("'<f8'", "-" * 9000 + "1"),
    "brackets in the header": npy("'<f8'", "(" * 4000 + ")" * 4000),
    "fields": npy([(f"f{number}", "V9999999") for number in range(400)], (0,), b"x"),
    "no text": npy("'<f8'", (3,)).replace(b"descr", b"\xff\xfe\xfd\xfc\xfb"),
}


def peak_of(action):
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", LARGE)
def test_sizes_that_an_array_claims_are_not_asked_for(tmp_path, name):
    path = tmp_path / "hostile"
    archive_of(path, head_of("W"), ("arrays/0.npy", LARGE[name]))

    def read():
        with pytest.raises(CheckpointError, match=DAMAGED):
            checkpoint.read(path)

    read()  # what is imported or compiled by the first is not counted
    assert peak_of(read) < 3_000_000


DOCUMENTS = {
    "deep": nested(100_000),
    "deep and unclosed": "[" * 1_000_000,
    "deep objects": '{"x":' * 100_000,
    "digits": "1" * 1_000_000,
    "exponent": "1e999999999",
    "not UTF-8": b'{"x": "\xff\xfe"}'.decode("latin1"),
    "many": "[" + "[]," * 100_000 + "[]]",
    "text": '"' + "x" * 1_000_000 + '"',
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_document_of_any_kind_takes_a_small_multiple_of_its_bytes(tmp_path, name):
    path = tmp_path / "hostile"
    archive_of(path, head_of(document=DOCUMENTS[name]).encode("latin1"))

    def read():
        with pytest.raises(CheckpointError, match=DAMAGED):
            checkpoint.read(path)

    assert peak_of(read) < 30 * path.stat().st_size + 3_000_000


def test_document_larger_than_any_is_refused_unread(tmp_path, monkeypatch):
    path = tmp_path / "hostile"
    monkeypatch.setattr(checkpoint, "LARGEST_DOCUMENT", 10_000)
    archive_of(path, head_of(document='{"x": "' + "x" * 10_000 + '"}'))
    with pytest.raises(CheckpointError, match="larger than any that dparallel writes"):
        checkpoint.read(path)
    with pytest.raises(CheckpointError, match="10000 at most"):
        checkpoint.write(path, {}, {"x": "x" * 10_000})


def with_zip_sizes(content, size):
    """The sizes in the directory at the end, of every member."""
    content, place = bytearray(content), 0
    while (place := content.find(b"PK\x01\x02", place)) >= 0:
        content[place + 20 : place + 28] = size.to_bytes(4, "little") * 2
        place += 4
    return bytes(content)


def with_end(content, where, value):
    """A field of four bytes of the end of the directory."""
    end = content.rindex(b"PK\x05\x06") + where
    return content[:end] + value.to_bytes(4, "little") + content[end + 4 :]


ZIPS = {
    "sizes": lambda content: with_zip_sizes(content, 2**32 - 2),
    "size of the directory": lambda content: with_end(content, 12, 2**32 - 2),
    "place of the directory": lambda content: with_end(content, 16, 2**32 - 2),
    "64-bit sizes without their record": lambda content: with_zip_sizes(content, 2**32 - 1),
    "a directory twice": lambda content: content + content[content.index(b"PK\x01\x02") :],
}


@pytest.mark.parametrize("name", ZIPS)
def test_sizes_that_a_zip_claims_are_not_asked_for(fit, name):
    path, content, whole, _ = fit
    hostile_path = path.with_name("hostile")

    def read():
        check_bytes(hostile_path, ZIPS[name](content), whole)

    read()
    assert peak_of(read) < 3_000_000


def test_sizes_of_64_bits_are_not_asked_for(tmp_path):
    path = tmp_path / "hostile"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("document.json", "arrays/0.npy"):
            member = zipfile.ZipInfo(name)
            member.extra = struct.pack("<HHQQ", 1, 16, 10**12, 10**12)  # what stands for sizes of 2**32 - 1
            archive.writestr(member, head_of("W"))
    path.write_bytes(with_zip_sizes(path.read_bytes(), 2**32 - 1))
    assert [member.file_size for member in zipfile.ZipFile(path).infolist()] == [10**12] * 2

    def read():
        with pytest.raises(CheckpointError, match="claims more bytes than it has"):
            checkpoint.read(path)

    assert peak_of(read) < 1_000_000


def test_large_checkpoint_takes_little_more_than_its_bytes(tmp_path):
    path, array = tmp_path / "large", np.zeros(4_000_000)
    checkpoint.write(path, {"W": array, "V": array}, {})
    assert peak_of(lambda: checkpoint.read(path)) < 1.6 * path.stat().st_size


@pytest.mark.slow
def test_hostile_files_end_no_process(tmp_path):
    """Reading them in a process of little memory raises the same error: nothing overflows the stack or the memory."""
    names = []
    for number, content in enumerate(LARGE.values()):
        names.append(str(tmp_path / f"array-{number}"))
        archive_of(names[-1], head_of("W"), ("arrays/0.npy", content))
    for number, document in enumerate(DOCUMENTS.values()):
        names.append(str(tmp_path / f"document-{number}"))
        archive_of(names[-1], head_of(document=document).encode("latin1"))
    program = (
        "import resource, sys\nfrom dparallel import checkpoint\nfrom dparallel.errors import CheckpointError\n"
        "limit = int(open('/proc/self/statm').read().split()[0]) * 4096 + 400_000_000\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n        checkpoint.read(name)\n    except CheckpointError:\n        print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *names], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["refused"] * len(names)
