"""Which features a node looks at where max_features leaves some out: drawn by hash of the node's key.

A key depends on the seed and on the way from the root alone, so that workers, chunks and the order in which nodes are
split do not change the draws.
"""

import numpy as np

from dparallel.compat import kernel
from dparallel.kernels import draws
from dparallel.kernels.draws import mix
from dparallel.kernels.layouts import flat

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_LEFT, _RIGHT = np.uint64(0x632BE59BD9B4E019), np.uint64(0xD1342543DE82EF95)


@kernel(inner=True)
def draw_features(key, max_features, varied):
    """Choose the features that a node looks at: in an order given by hashes, until enough have been visited.

    varied : ndarray of shape (n_features,), bool, whether the feature takes more than one value in the node, changed to
        whether it is looked at, too. As in scikit-learn the draw goes on until at least one such feature is visited.
    """
    n_features = varied.size
    if max_features >= n_features:
        return
    number, visited = np.empty(n_features, np.uint64), np.zeros(n_features, np.bool_)
    for f in range(n_features):
        number[f] = mix(key + np.uint64(f + 1) * _GOLDEN)
    enough = False
    for count in range(n_features):
        if count >= max_features and enough:
            break
        least = -1
        for f in range(n_features):
            if not visited[f] and (least < 0 or number[f] < number[least]):
                least = f
        visited[least] = True
        enough |= varied[least]
    for f in range(n_features):
        varied[f] &= visited[f]


def root_key(seed):
    """The key of a tree's root; seed : int in [0, 2**64)."""
    return draws.key(seed, "features")


@kernel(inner=True)
def child_key(key, right):
    """The key of a child."""
    return mix(key ^ (_RIGHT if right else _LEFT))


@kernel
def _child_keys(keys, children):
    for node in range(keys.size):
        children[0, node], children[1, node] = child_key(keys[node], False), child_key(keys[node], True)


def child_keys(keys):
    """The keys of the left and of the right children of some nodes.

    Parameters
    ----------
    keys : ndarray of shape (n_nodes,), uint64

    Returns
    -------
    children : ndarray of shape (2, n_nodes), uint64
    """
    keys = flat(keys, np.uint64)
    children = np.empty((2, keys.size), np.uint64)
    _child_keys(keys, children)
    return children
