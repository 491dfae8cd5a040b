"""Stripes: fair shares, and no stripe or user without exactly one place."""

from hypothesis import given
from hypothesis import strategies as st

from services.generator.shards import quota, to_acquire, to_release, users_of

workers = st.sets(st.text("abcdefgh", min_size=1, max_size=3), min_size=1, max_size=20)


@given(workers, st.integers(1, 128))
def test_fair_shares_add_up_to_all_stripes_and_differ_by_at_most_one(names: set[str], shards: int) -> None:
    shares = [quota(name, names, shards) for name in names]
    assert sum(shares) == shards
    assert max(shares) - min(shares) <= 1


@given(workers, st.integers(1, 64))
def test_workers_that_take_in_turn_leave_no_stripe_free(names: set[str], shards: int) -> None:
    claims: dict[str, list[int]] = {name: [] for name in names}
    for name in sorted(names):
        claims[name] = to_acquire(name, [], claims, shards, quota(name, names, shards))
    assert sorted(shard for claim in claims.values() for shard in claim) == list(range(shards))


def test_a_worker_gives_back_what_is_above_its_share() -> None:
    assert to_release({5, 1, 9, 3}, 2) == [5, 9]
    assert to_release({1}, 2) == []


def test_two_workers_begin_to_try_at_different_stripes() -> None:
    claims: dict[str, list[int]] = {"a": [], "b": []}
    assert set(to_acquire("a", [], claims, 16, 8)).isdisjoint(to_acquire("b", [], claims, 16, 8))


@given(st.integers(1, 64), st.integers(1, 500))
def test_every_user_belongs_to_one_stripe(shards: int, users: int) -> None:
    assert sorted(user for shard in range(shards) for user in users_of(shard, shards, users)) == list(range(users))
