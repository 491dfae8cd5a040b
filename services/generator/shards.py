"""Who should carry which stripe of a run: pure rules that every worker applies to what it sees.

Leases decide; these rules only say what to try for and what to give back, so two workers that see different
members for a moment cannot double a stripe, and agree again when their views do.
"""

from collections.abc import Collection, Mapping


def quota(worker: str, workers: Collection[str], shards: int) -> int:
    """Fair share of this worker: shards over live workers, the remainder to the first by name."""
    ranked = sorted({*workers, worker})
    each, rest = divmod(shards, len(ranked))
    return each + (ranked.index(worker) < rest)


def to_release(held: Collection[int], allowed: int) -> list[int]:
    """Stripes to give back when more are held than the share allows: the highest ones."""
    return sorted(held)[allowed:] if len(held) > allowed else []


def to_acquire(
    worker: str, held: Collection[int], claims: Mapping[str, Collection[int]], shards: int, allowed: int
) -> list[int]:
    """Stripes to try for: those no live worker claims, from a place of our own on so that workers rarely collide."""
    taken = set(held).union(*(claim for name, claim in claims.items() if name != worker))
    free = [shard for shard in range(shards) if shard not in taken]
    ranked = sorted({*claims, worker})
    start = len(free) * ranked.index(worker) // len(ranked)
    return (free[start:] + free[:start])[: max(0, allowed - len(held))]


def users_of(shard: int, shards: int, users: int) -> range:
    """Virtual users of a stripe: every ``shards``-th, so that each stripe ramps like the whole."""
    return range(shard, users, shards)
