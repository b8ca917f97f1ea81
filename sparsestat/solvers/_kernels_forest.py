"""Compiled loops of Newton steps on forests."""

import numpy as np

from sparsestat.utils._numba import jit


@jit
def root(parents, j):
    """Representative of a set, with paths halved on the way."""
    while parents[j] != j:
        parents[j] = parents[parents[j]]
        j = parents[j]
    return j


@jit
def grow_forest(data, indices, indptr, order, parents, chosen):
    """Take coordinates in order unless one would close a cycle; returns how many there are.

    ``parents`` are those of the coordinates in their sets, -1 for what is not taken.
    """
    count = 0
    for position in range(order.shape[0]):
        j = order[position]
        closes = False
        # It closes a cycle if two of its neighbours are in the same tree.
        for p in range(indptr[j], indptr[j + 1]):
            i = indices[p]
            if i == j or data[p] == 0.0 or parents[i] < 0:
                continue
            first = root(parents, i)
            for q in range(indptr[j], p):
                k = indices[q]
                if k != j and data[q] != 0.0 and parents[k] >= 0 and root(parents, k) == first:
                    closes = True
                    break
            if closes:
                break
        if closes:
            continue
        parents[j] = j
        for p in range(indptr[j], indptr[j + 1]):
            i = indices[p]
            if i != j and data[p] != 0.0 and parents[i] >= 0:
                parents[root(parents, i)] = j
        chosen[count] = j
        count += 1
    return count


@jit
def order_forest(data, indices, indptr, block, places, queue, above):
    """Order a forest from roots to leaves; returns whether it is one.

    ``places`` are positions in the block, -1 elsewhere; ``queue`` gets positions, ``above`` the
    position of the parent of each, or -1.
    """
    m = block.shape[0]
    for k in range(m):
        above[k] = -2
    count = 0
    for start in range(m):
        if above[start] != -2:
            continue
        above[start] = -1
        queue[count] = start
        head = count
        count += 1
        while head < count:
            k = queue[head]
            head += 1
            j = block[k]
            for p in range(indptr[j], indptr[j + 1]):
                other = places[indices[p]]
                if other < 0 or other == k or data[p] == 0.0 or other == above[k]:
                    continue
                if above[other] != -2:
                    return False
                above[other] = k
                queue[count] = other
                count += 1
    return True


@jit
def solve_forest(data, indices, indptr, block, places, queue, above, pivots, right):
    """Solve the system of a forest in place: eliminate from leaves to roots, then go back.

    Returns the position of a pivot that is not positive, or -1.
    """
    m = block.shape[0]
    for k in range(m):
        j = block[k]
        pivots[k] = 0.0
        for p in range(indptr[j], indptr[j + 1]):
            if indices[p] == j:
                pivots[k] = data[p]
    for position in range(m - 1, -1, -1):
        k = queue[position]
        if not pivots[k] > 0.0:
            return k
        if above[k] >= 0:
            share = edge(data, indices, indptr, block, k, above[k]) / pivots[k]
            pivots[above[k]] -= share * share * pivots[k]
            right[above[k]] -= share * right[k]
    for position in range(m):
        k = queue[position]
        value = right[k]
        if above[k] >= 0:
            value -= edge(data, indices, indptr, block, k, above[k]) * right[above[k]]
        right[k] = value / pivots[k]
    return -1


@jit
def edge(data, indices, indptr, block, k, other):
    j, i = block[k], block[other]
    for p in range(indptr[j], indptr[j + 1]):
        if indices[p] == i:
            return data[p]
    return np.nan
