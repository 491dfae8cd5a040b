"""Counting and adding up by group, whole columns at a time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer]
_DENSE = 8
"""Counting into every cell of a table is faster than sorting, up to so many cells an event."""


def compact(key: Integers, size: int) -> tuple[Integers, Integers]:
    """The keys (0 up to ``size``) that occur, ascending, and for each element which of them it has."""
    if size > _DENSE * max(len(key), 4_096):
        found, which = np.unique(key, return_inverse=True)
        return found, which
    occurs = np.bincount(key, minlength=size) > 0
    return np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[key]


@dataclass(frozen=True, slots=True)
class Tally:
    """Values that occur in groups, ascending within each, with their counts.

    Those of group g stand from ``edges[g]`` up to ``edges[g + 1]``.
    """

    values: NDArray[np.int64]
    counts: NDArray[np.int64]
    edges: list[int]


def tally(group: Integers, value: Integers, groups: int, most: int) -> Tally:
    """Count values (0 up to ``most``) per group (0 up to ``groups``)."""
    width = most + 1
    key = group.astype(np.int64) * width + value
    if groups * width <= _DENSE * max(len(key), 4_096):
        table = np.bincount(key, minlength=groups * width)
        keys = np.flatnonzero(table)
        counts = table[keys]
    else:
        keys, counts = np.unique(key, return_counts=True)
    return Tally(keys % width, counts, np.searchsorted(keys, np.arange(groups + 1) * width).tolist())


def total(group: Integers, column: NDArray[np.generic], groups: int) -> list[int]:
    """Sum of a column per group; exact below 2**53."""
    sums: list[int] = np.bincount(group, weights=column, minlength=groups).astype(np.int64).tolist()
    return sums


def most(group: Integers, column: Integers, groups: int) -> list[int]:
    """The largest of a column per group; 0 for a group without any."""
    found = np.zeros(groups, np.int64)
    np.maximum.at(found, group, column)
    largest: list[int] = found.tolist()
    return largest
