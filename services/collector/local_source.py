"""A source of this host: readings made beside the loop become what each instance did since the last ones."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from services.collector.source import Seen, local_lease_key
from services.collector.source_config import OwnedSpec
from services.collector.usage import Past, Usage, kept
from shared.offload import Offload


@dataclass(frozen=True, slots=True)
class Found:
    """One reading of an instance; ``life`` is another one after a restart."""

    instance: str
    life: str
    usage: Usage


class LocalSource:
    """A ``Source``. ``find`` reads every instance that is there; it blocks, so it runs in a thread."""

    def __init__(self, spec: OwnedSpec, find: Callable[[], Iterable[Found]]) -> None:
        self.name = spec.title
        self._spec, self._find = spec, find
        self._offload = Offload(self.name, 1, spec.timeout_s)
        self._past = Past()

    async def lease_key(self) -> str:
        return local_lease_key(self.name)

    async def read(self) -> list[Seen]:
        seen = []
        for one in await self._offload.run(self._find):
            values = kept(self._past.step(one.instance, one.life, one.usage), self._spec.keep)
            seen.append(Seen(self._spec.service, self._spec.of_system, one.instance, values))
        self._past.end_round()
        return seen

    def forget(self) -> None:
        self._past.forget()

    async def close(self) -> None:
        self._offload.close()
