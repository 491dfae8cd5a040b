"""What every target keeps, as one suite: a test module per target gives it a ``Stage`` and inherits ``TargetContract``.

``Stage`` is the outside system as the tests need it: a service with two replicas that become ready, another adapter
that speaks to it as a second scaler would, and ways to take the system away and to make replicas fall sick.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import pytest

from services.scaler.situation import Observation, Sizes
from services.scaler.targets.target import FencedError, RefusedError, Target
from shared.errors import TransientError

MOVED_S = 45.0
BACK_S = 150.0
"""A Swarm that was killed elects a leader anew, finds its node lost, and starts its tasks again."""
ANSWER_S = 12.0
UNKNOWN = "nobody-here"


class Stage(Protocol):
    """One service of an outside system, with two replicas and room for more.

    ``sizes``: other sizes that its replicas can be given while they run or by a rolling update; None where the system
    resizes nothing. ``room``: how many more replicas fit; None where the system does not know.
    ``crash_loops``: whether it can be told that a replica keeps ending.
    """

    service: str
    sizes: Sizes | None
    room: int | None
    crash_loops: bool

    def target(self) -> Target:
        """An adapter of its own, as each scaler has one; one that knows ``UNKNOWN`` as the name of no service."""
        ...

    async def instances(self) -> set[str]:
        """What tells the replicas that run from those that replaced them."""
        ...

    async def loop(self) -> None:
        """From now on replicas of the service end soon after they have started, all of them."""
        ...

    def away(self) -> AbstractAsyncContextManager[None]:
        """The system does not answer meanwhile; its replicas go on or are started again by it."""
        ...


async def eventually(what: str, probe: Callable[[], Awaitable[Any]], timeout_s: float = MOVED_S) -> Any:
    """The first truthy answer of a probe."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        found = await probe()
        if found:
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(f"{what} did not happen within {timeout_s:g} s")


async def settled(target: Target, service: str, replicas: int) -> None:
    """Until so many are wanted and ready, and none is on its way, sick or being replaced."""
    wanted = Observation(desired=replicas, ready=replicas)
    seen = Observation(desired=0, ready=0)

    async def look() -> bool:
        nonlocal seen
        seen = await target.observe(service)
        return seen == wanted

    try:
        await eventually(f"{replicas} replicas ready", look)
    except AssertionError as error:
        raise AssertionError(f"{error}; last seen: {seen}") from None


async def rolls(stage: Stage, target: Target, sizes: Sizes) -> None:
    """Give other sizes, and watch the two replicas be replaced one at a time."""
    await settled(target, stage.service, 2)
    before = await stage.instances()
    await target.set_sizes(stage.service, sizes, 7, "d-1")
    seen = [await target.observe(stage.service)]
    while seen[-1].updating:
        await asyncio.sleep(0.02)
        seen.append(await target.observe(stage.service))
    assert seen[0].updating
    assert all(one.desired == 2 <= one.ready <= 3 for one in seen)
    await settled(target, stage.service, 2)
    assert not before & await stage.instances()


class TargetContract:
    """Tests that hold for each target. A subclass gives the fixture ``stage``."""

    @pytest.fixture
    def target(self, stage: Stage) -> Target:
        return stage.target()

    async def test_more_are_wanted_at_once_and_ready_later_and_fewer_leave_nothing_behind(
        self, stage: Stage, target: Target
    ) -> None:
        await settled(target, stage.service, 2)
        await target.set_replicas(stage.service, 4, 7, "d-1")
        assert (await target.observe(stage.service)).desired == 4
        await settled(target, stage.service, 4)
        assert len(await stage.instances()) == 4
        await target.set_replicas(stage.service, 3, 7, "d-2")
        assert (await target.observe(stage.service)).desired == 3
        await settled(target, stage.service, 3)

        async def gone() -> bool:
            return len(await stage.instances()) == 3

        await eventually("the fourth to be gone", gone)

    async def test_asking_for_what_is_there_replaces_nothing(self, stage: Stage, target: Target) -> None:
        await settled(target, stage.service, 2)
        before = await stage.instances()
        for epoch in (7, 7, 9):
            await target.set_replicas(stage.service, 2, epoch, "d-1")
        assert await target.observe(stage.service) == Observation(desired=2, ready=2)
        assert await stage.instances() == before
        await target.set_replicas(stage.service, 3, 9, "d-2")
        await settled(target, stage.service, 3)
        for _ in range(2):
            await target.set_replicas(stage.service, 3, 9, "d-2")
        await settled(target, stage.service, 3)
        assert before < await stage.instances()

    async def test_an_older_epoch_is_refused_once_a_later_was_heard_even_if_that_changed_nothing(
        self, stage: Stage, target: Target
    ) -> None:
        await settled(target, stage.service, 2)
        await stage.target().set_replicas(stage.service, 2, 8, "")
        with pytest.raises(FencedError):
            await target.set_replicas(stage.service, 3, 7, "d-1")
        with pytest.raises(FencedError):
            await target.set_replicas(stage.service, 2, 7, "d-1")
        if stage.sizes is not None:
            with pytest.raises(FencedError):
                await target.set_sizes(stage.service, stage.sizes, 7, "d-1")
        assert await target.observe(stage.service) == Observation(desired=2, ready=2)
        await target.set_replicas(stage.service, 3, 8, "d-2")
        await settled(target, stage.service, 3)

    async def test_two_who_ask_for_the_same_at_once_get_it_once(self, stage: Stage) -> None:
        targets = [stage.target(), stage.target()]
        await settled(targets[0], stage.service, 2)
        await asyncio.gather(*(target.set_replicas(stage.service, 4, 7, "d-1") for target in targets))
        await settled(targets[0], stage.service, 4)
        assert len(await stage.instances()) == 4

    async def test_nothing_goes_to_zero(self, stage: Stage, target: Target) -> None:
        await settled(target, stage.service, 2)
        for replicas in (0, -1):
            with pytest.raises(RefusedError):
                await target.set_replicas(stage.service, replicas, 7, "d-1")
        assert await target.observe(stage.service) == Observation(desired=2, ready=2)

    async def test_a_service_that_is_not_there_is_refused_by_name(self, target: Target) -> None:
        with pytest.raises(RefusedError, match=UNKNOWN):
            await target.observe(UNKNOWN)
        with pytest.raises(RefusedError, match=UNKNOWN):
            await target.set_replicas(UNKNOWN, 3, 7, "d-1")

    async def test_sizes_are_told_and_given_and_who_cannot_refuses(self, stage: Stage, target: Target) -> None:
        await settled(target, stage.service, 2)
        before = await target.sizes(stage.service)
        if stage.sizes is None:
            assert before == Sizes()
            with pytest.raises(RefusedError):
                await target.set_sizes(stage.service, Sizes(cpu_limit=1), 7, "d-1")
            return
        assert before != stage.sizes
        for _ in range(2):
            await target.set_sizes(stage.service, stage.sizes, 7, "d-1")
        assert await target.sizes(stage.service) == stage.sizes
        await settled(target, stage.service, 2)
        assert await target.sizes(stage.service) == stage.sizes
        await target.set_replicas(stage.service, 3, 7, "d-2")
        await settled(target, stage.service, 3)

    async def test_room_is_what_more_would_fit(self, stage: Stage, target: Target) -> None:
        await settled(target, stage.service, 2)
        assert await target.room(stage.service) == stage.room
        if stage.room is None:
            return
        await target.set_replicas(stage.service, 3, 7, "d-1")
        await settled(target, stage.service, 3)
        assert await target.room(stage.service) == stage.room - 1

    async def test_replicas_that_keep_ending_are_no_capacity(self, stage: Stage, target: Target) -> None:
        if not stage.crash_loops:
            pytest.skip("this system does not tell that a replica keeps ending")
        await settled(target, stage.service, 2)
        await stage.loop()

        async def seen() -> bool:
            looked = await target.observe(stage.service)
            assert looked.desired == 2
            return (looked.ready, looked.unhealthy, looked.restarting) == (0, 2, 2)

        await eventually("both replicas seen looping", seen)

    async def test_a_system_that_is_away_is_a_passing_fault_and_forgets_nothing(
        self, stage: Stage, target: Target
    ) -> None:
        await settled(target, stage.service, 2)
        await target.set_replicas(stage.service, 2, 8, "")
        async with stage.away():
            began = time.monotonic()
            with pytest.raises(TransientError):
                await target.observe(stage.service)
            with pytest.raises(TransientError):
                await target.set_replicas(stage.service, 3, 8, "d-1")
            assert time.monotonic() - began < 2 * ANSWER_S

        async def answers() -> bool:
            try:
                # A system that only slept may have heard what was asked meanwhile.
                return (await target.observe(stage.service)).ready in (2, 3)
            except TransientError:
                return False

        await eventually("an answer", answers, BACK_S)
        with pytest.raises(FencedError):
            await target.set_replicas(stage.service, 3, 7, "d-1")
        await target.set_replicas(stage.service, 3, 8, "d-1")
        await settled(target, stage.service, 3)
