"""The frame codec: round trips, damage is found, and frames written once stay readable."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.frame import ACTION, AGE, HEADER, ActionState, Frame, FrameError, FrameId, Health, decode, encode
from shared.contracts.timing import COLUMNS, ROW_DTYPE, Kind

GOLDEN = Path(__file__).parent / "golden"


def golden_frame() -> Frame:
    events = np.zeros(2, ROW_DTYPE)
    events["intended_us"] = [1_000_000, 1_250_000]
    events["dispatch_us"] = [15, 20]
    events["service_us"] = [42_000, 3_000_000_000]
    events["status"] = [200, 503]
    events["action"] = [0, 1]
    events["error"] = [0, 8]
    events["user"] = [7, 4_000_000_000]
    events["trace_id"] = [b"\x01" * 16, b"\xff" * 16]
    return Frame(
        id=FrameId("run-1", "worker-ä", 9, "relaycore", 3),
        anchor_wall_us=1_764_000_000_000_000,
        anchor_monotonic_us=77,
        watermark_us=4_000_000_000,
        emitted_us=4_000_000_001,
        actions=(
            ActionState("cross", "authenticate", Kind.REQUEST, 10, 1, 0, {500: 1}),
            ActionState("cross", "workflow", Kind.WORKFLOW, 4, 4, 2, {0: 2, 1111: 4}),
        ),
        events=events,
        health=Health(1, 2, 3, 4, 5),
        final=True,
        at_fault=True,
    )


def assert_same(left: Frame, right: Frame) -> None:
    assert left.id == right.id
    assert left.actions == right.actions
    assert left.health == right.health
    assert (left.final, left.at_fault) == (right.final, right.at_fault)
    assert (left.anchor_wall_us, left.anchor_monotonic_us) == (right.anchor_wall_us, right.anchor_monotonic_us)
    assert (left.watermark_us, left.emitted_us) == (right.watermark_us, right.emitted_us)
    assert np.asarray(left.events).tobytes() == np.asarray(right.events).tobytes()


def test_a_frame_written_in_the_past_stays_readable() -> None:
    assert_same(decode((GOLDEN / "frame-1.bin").read_bytes()), golden_frame())


def test_a_frame_is_written_as_it_always_was() -> None:
    assert encode(golden_frame()) == (GOLDEN / "frame-1.bin").read_bytes()


def test_the_documented_sizes_are_the_real_ones() -> None:
    assert (HEADER.size, ACTION.size, AGE.size, ROW_DTYPE.itemsize) == (96, 24, 8, 72)


def test_done_in_wall_time_is_the_anchor_plus_all_durations() -> None:
    frame = golden_frame()
    assert frame.done_wall_us.tolist() == [1_764_000_000_000_000 + 1_042_015, 1_764_000_000_000_000 + 3_001_250_020]


names = st.text(min_size=1, max_size=20)
u32 = st.integers(0, 2**32 - 1)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    actions = draw(
        st.lists(
            st.builds(
                ActionState,
                names,
                names,
                st.sampled_from(Kind),
                st.integers(0, 2**64 - 1),
                u32,
                u32,
                st.dictionaries(st.integers(0, 1111), st.integers(1, 2**32 - 1), max_size=4),
            ),
            min_size=1,
            max_size=5,
        )
    )
    count = draw(st.integers(0, 20))
    raw = draw(st.binary(min_size=count * ROW_DTYPE.itemsize, max_size=count * ROW_DTYPE.itemsize))
    events = np.frombuffer(bytearray(raw), ROW_DTYPE)
    events["action"] %= len(actions)
    return Frame(
        id=FrameId(
            draw(names), draw(names), draw(st.integers(0, 2**64 - 1)), draw(names), draw(st.integers(0, 2**64 - 1))
        ),
        anchor_wall_us=draw(st.integers(-(2**63), 2**63 - 1)),
        anchor_monotonic_us=draw(st.integers(0, 2**63 - 1)),
        watermark_us=draw(st.integers(-(2**63), 2**63 - 1)),
        emitted_us=draw(st.integers(-(2**63), 2**63 - 1)),
        actions=tuple(actions),
        events=events,
        health=draw(st.builds(Health, u32, u32, u32, u32, u32)),
        final=draw(st.booleans()),
        at_fault=draw(st.booleans()),
    )


@given(frames())
def test_every_frame_comes_back_as_it_was(frame: Frame) -> None:
    assert_same(decode(encode(frame)), frame)


@given(frames(), st.data())
def test_a_damaged_frame_is_refused_and_never_misread(frame: Frame, data: st.DataObject) -> None:
    raw = bytearray(encode(frame))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FrameError):
        decode(bytes(raw))


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_with_a_reason(raw: bytes) -> None:
    with pytest.raises(FrameError, match=r"\w"):
        decode(raw)


@pytest.mark.parametrize("cut", [0, 4, 95, 96, 200, -1])
def test_a_frame_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(FrameError):
        decode(encode(golden_frame())[:cut])


def test_more_actions_than_a_frame_can_carry_are_refused() -> None:
    frame = golden_frame()
    too_many = tuple(ActionState("s", f"a{i}", Kind.REQUEST) for i in range(257))
    with pytest.raises(ValueError, match="at most 256 actions, not 257"):
        encode(Frame(frame.id, 0, 0, 0, 0, too_many, np.zeros(0, ROW_DTYPE)))


def test_every_column_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "contracts" / "frame.md").read_text()
    assert all(name in text for name, _ in COLUMNS)
