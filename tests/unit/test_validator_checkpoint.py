"""A run cut at any moment and taken up from its checkpoint is the run that nobody cut."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.validator import checkpointing
from services.validator.board import RunBoard
from services.validator.checkpoint import Checkpoint, capture, ranges_of, restore
from services.validator.windows import MOST_RETIRED, SystemWindows
from shared.bus import Bus
from shared.contracts.run import RunState, SystemProgress, WorkerProgress
from shared.contracts.window import FrameWindows
from shared.subjects import Subjects
from tests.unit.test_validator_windows import content, deliveries
from tests.unit.validator_frames import RUN, at_us, cell, desired, frame, state

AT = datetime.fromtimestamp(at_us(10) / 1e6, UTC)


def told(frames: Sequence[FrameWindows]) -> RunBoard:
    board = RunBoard(RUN)
    for number, one in enumerate(frames):
        board.merge(one, at_us(10))
        board.note_state(progress(number))
    return board


def progress(second: float) -> RunState:
    worker = WorkerProgress(
        worker="w1", run=RUN, epoch=1, users=7 + int(second), systems=(SystemProgress(system="autmatrix", in_flight=3),)
    )
    return state(second, workers=(worker,))


def observed(board: RunBoard) -> object:
    windows = board.windows["autmatrix"]
    return content(windows), asdict(windows.whole_health()), windows.duplicates, board.users, board.generator.points()


@settings(max_examples=80, deadline=None)
@given(deliveries(), st.integers(0, 40))
def test_a_run_taken_up_goes_on_as_if_nothing_had_happened(
    pair: tuple[list[FrameWindows], list[FrameWindows]], cut: int
) -> None:
    frames = pair[1]
    cut = min(cut, len(frames))
    whole, first = told(frames), told(frames[:cut])
    again = RunBoard(RUN, joined_late=True)
    restore(again, Checkpoint.unpacked(capture(first, cut, AT).packed()), at_us(10))
    for one in frames[:cut]:
        again.replay(one)
    for windows in again.windows.values():
        windows.settle_joining()
    for number, one in enumerate(frames[cut:], cut):
        again.merge(one, at_us(10))
        again.note_state(progress(number))
    assert observed(again) == observed(whole)
    assert all(windows.take_late() is None or cut < len(frames) for windows in again.windows.values())


def test_gaps_given_up_and_workers_that_left_are_remembered() -> None:
    windows = SystemWindows()
    board = RunBoard(RUN, windows={"autmatrix": windows})
    for seq in (1, 2, 5, 9):
        windows.merge(frame(seq, 1.0 + seq / 10, [cell(1, [5.0])]), at_us(1))
    windows.merge(frame(1, 1.0, worker="gone", final=True), at_us(1))
    for second in range(1, 400):
        windows.merge(frame(9 + second, 1.0 + second, worker="w1"), at_us(1.0 + second))
        windows.advance(at_us(1.0 + second))
    assert ("gone", 1) in windows.retired
    assert windows.health.frames_given_up == 5
    again = RunBoard(RUN)
    restore(again, Checkpoint.unpacked(capture(board, 1, AT).packed()), at_us(10))
    taken = again.windows["autmatrix"]
    assert taken.producers["w1", 1].sequence.missing == {3, 4, 6, 7, 8}
    assert not taken.merge(frame(1, 1.0, worker="gone", final=True), at_us(400))
    assert not taken.merge(frame(2, 1.0), at_us(400))
    assert taken.merge(frame(3, 1.0), at_us(400)), "it was given up, never seen"


def test_a_checkpoint_stays_small_however_long_the_run() -> None:
    board = RunBoard(RUN)
    board.note_desired(desired())
    for epoch in range(1, 3 * MOST_RETIRED):
        one = frame(1, epoch * 200.0, [cell(epoch * 200 - 1, [5.0])], final=True).model_copy(update={"epoch": epoch})
        board.merge(one, at_us(epoch * 200.0))
        board.windows["autmatrix"].advance(at_us(epoch * 200.0))
        board.note_state(progress(epoch * 200))
    windows = board.windows["autmatrix"]
    assert len(windows.retired) <= MOST_RETIRED
    assert len(windows.producers) <= 2
    assert len(windows.seconds) <= 2
    assert len(capture(board, 1, AT).packed()) < 200_000


@pytest.mark.parametrize("body", [b"", b"no checkpoint", b"x\x9c\x03\x00\x00\x00\x00\x01"])
def test_what_is_no_checkpoint_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(ValueError, match="not a checkpoint"):
        Checkpoint.unpacked(body)


def test_ranges() -> None:
    assert ranges_of({1, 2, 3, 7, 9, 10}) == [(1, 3), (7, 7), (9, 10)]
    assert ranges_of(set()) == []


async def test_a_state_that_cannot_be_read_is_passed_over_when_a_run_is_taken_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def read_since(*_: object) -> list[SimpleNamespace]:
        bodies = (b"{}", progress(3).model_dump_json().encode())
        return [SimpleNamespace(subject="run", data=body) for body in bodies]

    monkeypatch.setattr(checkpointing, "read_since", read_since)
    bus = cast(Bus, SimpleNamespace(js=None, subjects=Subjects("test")))
    board = RunBoard(RUN)
    checkpointer = checkpointing.Checkpointer(bus, cast(Any, None), cast(Any, None), cast(Any, None), cast(Any, None))
    await checkpointer._catch_up(board, capture(board, 1, AT))
    assert board.state == progress(3)
    assert "ignored run" in caplog.text
