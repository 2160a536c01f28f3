"""Lists of keys that travel once: whoever sent one refers to it by a signature from then on."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from dparallel.store.messages import Finish, Request, bytes_of
from dparallel.store.rows import Rows
from dparallel.store.updates import Update

SHORT = 16  # a signature takes as much as two keys, and is not worth it for so few
N_KNOWN = 10_000  # signatures that a sender remembers for each shard
CACHE_BYTES = 16 * 2**20  # of lists that a host remembers


class Listed(NamedTuple):
    """A list of keys in a message: with its signature, and the keys themselves where the receiver lacks them."""

    signature: bytes
    keys: np.ndarray | None

    @property
    def nbytes(self) -> int:
        """Bytes of the keys that travel."""
        return len(self.signature) + (0 if self.keys is None else self.keys.nbytes)


def signature_of(keys: np.ndarray) -> bytes:
    """Return 16 bytes that stand for a list of keys."""
    return blake2b(np.ascontiguousarray(keys), digest_size=16).digest()


class KnownLists:
    """What one host knows of, as far as a sender can tell: it may have forgotten, and says so then."""

    def __init__(self) -> None:
        self._signatures: OrderedDict[bytes, None] = OrderedDict()

    def packed(self, request: Request) -> Request:
        """Return a request that leaves out the lists that were sent before; those in it count as sent."""
        entries = []
        for entry in request.entries:
            if not isinstance(entry, Finish):
                values = {name: self._without_keys(given) for name, given in entry.values.items()}
                entry = Update(entry.step, values, entry.base)
            entries.append(entry)
        keys: Any = request.keys
        if keys:
            keys = {name: self._listed(mine) for name, mine in keys.items()}
        packed = request._replace(entries=tuple(entries), keys=keys)
        return packed._replace(saved_bytes=bytes_of(request) - bytes_of(packed))

    def forget(self) -> None:
        """Take it that nothing is known."""
        self._signatures.clear()

    def _without_keys(self, given: Any) -> Any:
        if not isinstance(given, Rows):
            return given
        keys: Any = self._listed(given.keys)
        return Rows(keys, given.values)

    def _listed(self, keys: np.ndarray) -> np.ndarray | Listed:
        if len(keys) < SHORT:
            return keys
        signature = signature_of(keys)
        is_known = signature in self._signatures
        self._signatures[signature] = None
        self._signatures.move_to_end(signature)
        if len(self._signatures) > N_KNOWN:
            self._signatures.popitem(last=False)
        return Listed(signature, None if is_known else keys)


class KeyLists:
    """The lists that a host was sent, the newest so many bytes."""

    def __init__(self) -> None:
        self._lists: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._size_bytes = 0

    def unpacked(self, request: Request) -> Request | None:
        """Return a request as it was before KnownLists.packed; None if a list is not known (any more)."""
        entries = []
        try:
            for entry in request.entries:
                if not isinstance(entry, Finish):
                    values = {name: self._with_keys(given) for name, given in entry.values.items()}
                    entry = Update(entry.step, values, entry.base)
                entries.append(entry)
            keys = {name: self._keys(given) for name, given in (request.keys or {}).items()}
        except KeyError:
            return None
        return request._replace(entries=tuple(entries), keys=keys or None)

    def _with_keys(self, given: Any) -> Any:
        return given._replace(keys=self._keys(given.keys)) if isinstance(given, Rows) else given

    def _keys(self, given: Any) -> np.ndarray:
        if not isinstance(given, Listed):
            return given
        if given.keys is not None:
            self._keep(given.signature, given.keys)
            return given.keys
        self._lists.move_to_end(given.signature)
        return self._lists[given.signature]

    def _keep(self, signature: bytes, keys: np.ndarray) -> None:
        if signature not in self._lists:
            self._lists[signature] = keys.copy()  # the message that it came in shall not stay
            self._size_bytes += keys.nbytes
        self._lists.move_to_end(signature)
        while self._size_bytes > CACHE_BYTES and len(self._lists) > 1:
            self._size_bytes -= self._lists.popitem(last=False)[1].nbytes
