"""The spool: first in, first out, and what a crash cut short is left out."""

import resource
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.generator.spool import Parcel, Spool, claim, read_parcels

parcels = st.lists(
    st.builds(
        Parcel,
        st.text("abc.", min_size=1),
        st.text("abc/1", min_size=1),
        st.integers(0, 1000),
        st.integers(1, 2**40),
        st.text("abc", min_size=1),
        st.binary(max_size=200),
    ),
    min_size=1,
    max_size=8,
)


@given(parcels)
@settings(max_examples=30, deadline=None)
def test_parcels_come_out_in_order_and_the_file_goes(tmp_path_factory: object, given_parcels: list[Parcel]) -> None:
    folder: Path = tmp_path_factory.mktemp("spool")  # type: ignore[attr-defined]
    path = folder / "w1.spool"
    spool = Spool(path)
    for parcel in given_parcels:
        spool.append(parcel)
    found = []
    while oldest := spool.peek(3):
        found.extend(oldest)
        for _ in oldest:
            spool.drop()
    assert found == given_parcels
    assert spool.empty
    assert not path.exists()


def test_a_record_cut_short_by_a_crash_ends_the_file(tmp_path: Path) -> None:
    path = tmp_path / "w1.spool"
    spool = Spool(path)
    whole = Parcel("a.b", "id-1", 3, 1, "shop", b"frame one")
    spool.append(whole)
    spool.append(Parcel("a.b", "id-2", 3, 2, "shop", b"frame two"))
    spool.close()
    path.write_bytes(path.read_bytes()[:-4])
    assert [parcel for parcel, _ in read_parcels(path)] == [whole]


def test_what_a_living_worker_spools_is_not_taken_and_what_it_let_go_of_is(tmp_path: Path) -> None:
    path = tmp_path / "w1-run-1.spool"
    spool = Spool(path)
    spool.append(Parcel("a.b", "id-1", 0, 1, "shop", b"a heartbeat"))
    assert not spool.empty
    with claim(path) as ours:
        assert not ours
    spool.close()
    with claim(path) as ours:
        assert ours
    with claim(tmp_path / "gone.spool") as ours:
        assert not ours


def test_a_disk_that_refuses_a_parcel_leaves_the_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "w1.spool"
    spool = Spool(path)
    whole = Parcel("a.b", "id-1", 3, 1, "shop", b"frame one")
    spool.append(whole)
    size = path.stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5, before[1]))
    try:
        with pytest.raises(OSError, match=r"No space|File too large"):
            spool.append(Parcel("a.b", "id-2", 3, 2, "shop", b"frame two"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    third = Parcel("a.b", "id-3", 1, 3, "shop", b"frame three")
    spool.append(third)
    spool.close()
    assert [parcel for parcel, _ in read_parcels(path)] == [whole, third]
