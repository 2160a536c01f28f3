"""Arrays and a JSON document in one file that is either whole or not there; no pickle."""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from dparallel.errors import CheckpointError

FORMAT = "dparallel checkpoint"
VERSION = 1
DOCUMENT = "document.json"
LARGEST_DOCUMENT = 2**26  # bytes of JSON, whose objects may take twenty times as many in memory
LARGEST_WHOLE = 2**53  # beyond it float64 skips whole numbers
_LARGEST_HEADER = 10_000  # characters of a .npy header that numpy reads by default
_LARGEST_REASON = 500  # characters quoted of an error, which may quote the file


def write(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], document: Mapping[str, Any]) -> None:
    """Write a file that replaces the one of that name once it is whole and on the disk.

    Parameters
    ----------
    path : str or Path; its folder must exist
    arrays : dict of str to ndarray of any shape and dtype but object
    document : dict for JSON: str keys, plain numbers, strings, lists, None

    Raises
    ------
    CheckpointError
        If an array holds objects, or the document something that JSON does not have, or more than 64 MB.
    OSError
        If the file cannot be written. A file that was there before stays as it was.

    Notes
    -----
    A zip archive without compression: document.json, and each array as .npy under its number. zip holds a checksum of
    each. The names of the arrays are in the document, so nothing in a file is ever taken for a path.
    """
    head = _head(arrays, document)
    target = Path(os.path.realpath(path))  # a link stays a link
    # beside the target, since a rename is whole only inside one file system
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with open(part, "xb") as file:
            _write_archive(file, head, arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    flush_folder(target.parent)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write` wrote.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    arrays : dict of str to ndarray
    document : dict

    Raises
    ------
    CheckpointError
        If the file is cut short, damaged, of a newer version or something else. Nothing in it is executed, and no sizes
        in it are believed: reading takes a small multiple of the bytes that the file has.
    OSError
        If it cannot be opened.
    """
    with open(path, "rb") as file, parsing(path):
        return _read_archive(file)


@contextlib.contextmanager
def parsing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn whatever the content of a file leads a parser to into a CheckpointError that names file and remedy."""
    try:
        yield
    except _OtherVersion as error:
        raise CheckpointError(
            f"{path} has version {error}, and this dparallel reads version {VERSION}. "
            "Update dparallel, or give another file."
        ) from error
    # a file may hold anything, so its parsers may stumble in any way: too deep, too large, of another kind
    except Exception as error:
        reason = (str(error) or type(error).__name__)[:_LARGEST_REASON].rstrip(".")
        raise CheckpointError(
            f"{path} is no checkpoint of dparallel, or it is damaged: {reason}. "
            "Give another file, or delete this one to begin anew."
        ) from error


def as_whole(given: Any, least: int = 0, most: int = LARGEST_WHOLE) -> int:
    """Return a whole number of a document; a ValueError if it is none, or out of range."""
    if type(given) is not int or not least <= given <= most:
        raise ValueError(f"{_quoted(given)} is no whole number from {least} to {most}")
    return given


def as_finite(given: Any) -> float:
    """Return a number of a document; a ValueError if it is none, NaN or infinite."""
    if type(given) not in (int, float) or not abs(given) < math.inf or (type(given) is int and abs(given) > 2**1000):
        raise ValueError(f"{_quoted(given)} is no finite number")
    return given


def require_finite(arrays: Mapping[str, np.ndarray]) -> None:
    """Raise a ValueError where an array holds anything but finite numbers."""
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
            raise ValueError(f"the array {_quoted(name)} of {array.dtype} holds something that is no finite number")


def _quoted(given: Any) -> str:
    if isinstance(given, (int, float, str, type(None))):
        text = given[:50] if isinstance(given, str) else given
        return repr(text) if not isinstance(given, int) or abs(given) < 10**50 else "a number of over 50 digits"
    return f"a {type(given).__name__}"


class _OtherVersion(Exception):
    """The file has another version than this program reads."""


def _head(arrays: Mapping[str, np.ndarray], document: Mapping[str, Any]) -> str:
    for name, array in arrays.items():
        if not isinstance(name, str):
            raise CheckpointError(f"The name {name!r} of an array must be a str.")
        if array.dtype.hasobject:
            raise CheckpointError(f"The array {name!r} holds Python objects ({array.dtype}), which are not saved.")
    try:
        head = json.dumps({"format": FORMAT, "version": VERSION, "arrays": list(arrays), "document": document})
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"The document is no JSON: {error}. Save plain numbers, strings, lists.") from error
    if len(head) > LARGEST_DOCUMENT:  # one byte a character, json.dumps escapes all others
        raise CheckpointError(
            f"The document takes {len(head)} bytes, {LARGEST_DOCUMENT} at most. Save arrays as arrays."
        )
    return head


def _write_archive(file: IO[bytes], head: str, arrays: Mapping[str, np.ndarray]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(DOCUMENT, head)
        for number, array in enumerate(arrays.values()):
            with archive.open(_member(number), "w", force_zip64=True) as member:
                np.lib.format.write_array(cast(Any, member), np.asarray(array), allow_pickle=False)


def _read_archive(file: IO[bytes]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with zipfile.ZipFile(file) as archive:
        _check_members(archive, os.fstat(file.fileno()).st_size)
        head = json.loads(archive.read(DOCUMENT))
        if not isinstance(head, dict) or head.get("format") != FORMAT:
            raise ValueError(f"its {DOCUMENT} does not say {FORMAT!r}")
        if as_whole(head["version"]) != VERSION:
            raise _OtherVersion(str(head["version"]))
        names, document = head["arrays"], head["document"]
        if not isinstance(document, dict) or not isinstance(names, list) or len(set(names)) != len(names):
            raise ValueError(f"its {DOCUMENT} holds no document, or a name twice")
        if not all(isinstance(name, str) for name in names):
            raise ValueError(f"its {DOCUMENT} gives an array a name that is no text")
        members = [_member(number) for number in range(len(names))]
        if sorted(archive.namelist()) != sorted([DOCUMENT, *members]):
            raise ValueError(f"it holds other members than its {DOCUMENT} names")
        return {name: _read_array(archive, member) for name, member in zip(names, members)}, document


def _member(number: int) -> str:
    return f"arrays/{number}.npy"


def _check_members(archive: zipfile.ZipFile, file_bytes: int) -> None:
    """Refuse what could take more memory than the file is long: compression, members that overlap, false sizes."""
    members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 for member in members):
        raise ValueError("it is compressed or encrypted")
    if any(member.file_size != member.compress_size for member in members):
        raise ValueError("it gives false sizes")
    if sum(member.file_size for member in members) > file_bytes:
        raise ValueError("it claims more bytes than it has")
    if archive.getinfo(DOCUMENT).file_size > LARGEST_DOCUMENT:
        raise ValueError(f"its {DOCUMENT} is larger than any that dparallel writes")


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Read one .npy, whose header must announce exactly the bytes that follow it."""
    with archive.open(name) as member:
        version = np.lib.format.read_magic(cast(Any, member))
        if version == (1, 0):
            shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(cast(Any, member), _LARGEST_HEADER)
        elif version == (2, 0):
            shape, is_fortran, dtype = np.lib.format.read_array_header_2_0(cast(Any, member), _LARGEST_HEADER)
        else:
            raise ValueError(f"{name} has .npy version {version}")
        if dtype.hasobject:
            raise ValueError(f"{name} holds Python objects")
        content = bytearray(member.read())  # to the end, where zip compares the checksum; writable, so copied once
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(content):
            raise ValueError(f"{name} announces {dtype} of shape {shape} and has {len(content)} bytes")
    return np.ndarray(shape, dtype, content, order="F" if is_fortran else "C")


def flush_folder(folder: Path) -> None:
    """Bring the new name to the disk, where the system lets a folder be opened."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
