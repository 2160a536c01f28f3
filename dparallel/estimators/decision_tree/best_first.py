"""Growth with a limit on the leaves: the node that gains most is split next, as scikit-learn does."""

from __future__ import annotations

import heapq

import numpy as np

from dparallel.estimators.decision_tree.nodes import READY, SPLIT, Nodes


def choose_order(nodes: Nodes, max_leaf_nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Follow best-first growth as far as the children of the nodes to split are known.

    Several nodes are split in a step before it is known whether all of them are among the best; those that turn out
    not to be stay leaves of the tree.

    Parameters
    ----------
    nodes : Nodes, of which none waits for its histogram

    Returns
    -------
    order : ndarray of int32, the nodes that are split, in their order; at an equal gain the older node comes first
    wanted : ndarray of int32, nodes to be split by the next step, none once the order is complete
    """
    heap = [(-nodes.improvement[0], 0)] if nodes.status[0] in (READY, SPLIT) else []
    order: list[int] = []
    n_left = max_leaf_nodes - 1
    while heap and n_left:
        _, node = heap[0]
        if nodes.status[node] == READY:
            break
        heapq.heappop(heap)
        order.append(node)
        n_left -= 1
        for child in (int(nodes.left_child[node]), int(nodes.right_child[node])):
            if nodes.status[child] in (READY, SPLIT):
                heapq.heappush(heap, (-nodes.improvement[child], child))
    best = [node for _, node in sorted(heap)[:n_left]] if n_left else []
    wanted = [node for node in best if nodes.status[node] == READY]
    return np.array(order, np.int32), np.array(wanted, np.int32)
