"""A worker whose wall clock steps begins a new epoch, so that its readings never span the step."""

from pathlib import Path
from typing import Any

import pytest

from services.generator.app import Worker
from services.generator.settings import GeneratorSettings
from services.generator.tracing import Recorder
from shared import clock
from tests.unit.test_lease import Bucket


class Forgetting(Bucket):
    """A bucket from which a key may be deleted."""

    async def create(self, key: str, value: bytes) -> int:
        return await self.update(key, value, last=self.revision)

    async def delete(self, _: str, last: int) -> bool:
        assert last == self.revision
        self.revision += 1
        return True


async def test_a_step_of_the_wall_clock_begins_a_new_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket: Any = Forgetting()
    nowhere: Any = None
    worker = Worker(GeneratorSettings(worker_id="w1", spool_dir=tmp_path), nowhere, bucket, Recorder(None), {})
    presence = worker._presence
    assert await presence.acquire(b"[]")
    first = presence.epoch
    await worker._renew_presence()
    assert presence.epoch == first
    before = clock.wall_us
    monkeypatch.setattr(clock, "wall_us", lambda: before() + 3_600_000_000)
    await worker._renew_presence()
    second = presence.epoch
    assert second > first
    assert presence.held
    await worker._renew_presence()
    assert presence.epoch == second
