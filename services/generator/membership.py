"""Which workers live and what each last said of its runs; pure.

Fed with every renewal of a presence lease; ``now_us`` is wall time. A worker that has not renewed for a lease's
length is gone, as its lease is.
"""

from dataclasses import dataclass, replace

from shared.contracts.run import RunState, WorkerProgress
from shared.streams import LEASE_S

# Every worker speaks each second.
DEAF_S = 2.5
# A worker silent for so long does not come back in the same epoch.
GONE_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Member:
    """A worker's last word on one run. ``sent_per_s`` is its rate between its last two words."""

    progress: WorkerProgress
    seen_us: int
    sent_per_s: float = 0.0

    def current(self, now_us: int) -> bool:
        """It was said within a lease's length, so that the leases it speaks of may stand."""
        return now_us - self.seen_us < LEASE_S * 1e6

    @property
    def sent(self) -> int:
        return sum(system.sent for system in self.progress.systems)


class Membership:
    """Last words by worker and run. A worker's words outlive it: they bound what was lost with it."""

    def __init__(self) -> None:
        self._seen_us: dict[str, int] = {}
        self._members: dict[tuple[str, str, int], Member] = {}
        self._heard_us = 0

    def deaf(self, now_us: int) -> bool:
        """Nobody was heard for a while, not even this process: no silence of others means anything now."""
        return now_us - self._heard_us > DEAF_S * 1e6

    def hear(self, worker: str, words: list[WorkerProgress], now_us: int) -> bool:
        """Take a worker's words; True when it carries less of a run than it said before, so that others may have it."""
        if self._heard_us and self.deaf(now_us):
            self._excuse(now_us - self._heard_us)
        self._heard_us = now_us
        self._seen_us[worker] = now_us
        if any(progress.leaving for progress in words):
            self.leave(worker)
        freed = False
        for progress in words:
            key = (progress.run, worker, progress.epoch)
            before = self._members.get(key)
            freed = freed or (before is not None and not set(before.progress.shards) <= set(progress.shards))
            member = Member(progress, now_us)
            if before is not None and now_us > before.seen_us:
                rate = (member.sent - before.sent) / ((now_us - before.seen_us) / 1e6)
                member = Member(progress, now_us, max(rate, 0.0))
            self._members[key] = member
        return freed

    def _excuse(self, silence_us: int) -> None:
        """The broker was away: its silence is no worker's."""
        self._seen_us = {worker: seen_us + silence_us for worker, seen_us in self._seen_us.items()}
        for key, member in self._members.items():
            self._members[key] = replace(member, seen_us=member.seen_us + silence_us)

    def settle(self, state: RunState) -> None:
        """Forget whom a state of the run names no more: it has counted them among those that are gone."""
        named = {(progress.worker, progress.epoch) for progress in state.workers}
        until_us = int(state.at.timestamp() * 1e6) - GONE_US
        for key, member in list(self._members.items()):
            if key[0] == state.run and key[1:] not in named and member.seen_us < until_us:
                del self._members[key]

    def recall(self, state: RunState) -> None:
        """Take words that were said before this process lived from the run's last state, at its average rate."""
        seen_us = int(state.at.timestamp() * 1e6)
        began_us = int((state.started_at or state.at).timestamp() * 1e6)
        for progress in state.workers:
            member = Member(progress, seen_us)
            rate = member.sent / ((seen_us - began_us) / 1e6) if seen_us > began_us else 0.0
            self._members.setdefault((progress.run, progress.worker, progress.epoch), replace(member, sent_per_s=rate))

    def leave(self, worker: str) -> None:
        """It gave its presence back in order, or is about to: others share its part."""
        self._seen_us.pop(worker, None)

    def live(self, now_us: int) -> set[str]:
        return {worker for worker, seen_us in self._seen_us.items() if now_us - seen_us < LEASE_S * 1e6}

    def claims(self, run: str, now_us: int) -> dict[str, tuple[int, ...]]:
        """Stripes that each worker said it carries within a lease's length; what an earlier life said has lapsed."""
        return {m.progress.worker: m.progress.shards for m in self.of(run) if m.current(now_us)}

    def of(self, run: str) -> list[Member]:
        """Every worker and epoch that ever said something of a run, oldest word first."""
        return sorted((m for (name, _, _), m in self._members.items() if name == run), key=lambda m: m.seen_us)

    def forget(self, run: str) -> None:
        for key in [key for key in self._members if key[0] == run]:
            del self._members[key]
