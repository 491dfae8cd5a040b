"""A generator worker without any tracing, to compare with: no ids drawn, no ``traceparent`` sent, nothing recorded."""

from services.generator.app import serve
from services.generator.settings import GeneratorSettings
from services.generator.tracing import Tracing, Trail
from shared.service import run_service

_NOWHERE = Trail(bytes(16))


def _begin(_: Tracing, name: str, user: int, now_us: int) -> Trail:
    return _NOWHERE


if __name__ == "__main__":
    for owner, name, instead in (
        (Tracing, "begin", _begin),
        (Trail, "unrecorded", lambda _: ""),
    ):
        setattr(owner, name, instead)
    run_service("generator", GeneratorSettings, serve)
