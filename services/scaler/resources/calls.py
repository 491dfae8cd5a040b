"""Calls between services over a span: how long the network took, how many failed, how much was carried. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from shared.histogram import Histogram
from shared.store.figures import CallTimes


@dataclass(frozen=True, slots=True)
class CallSummary:
    """``network_*_ms``: of the client's time less the server's, which is transfer and waiting to be taken; its share of
    the client's time. None where no call was answered by a service that tells spans. ``error_rate``: of the calls
    looked at. ``bytes_*_per_call``: None where spans tell no sizes.
    """

    caller: str
    callee: str
    calls: int
    network_p50_ms: float | None
    network_p95_ms: float | None
    network_share: float | None
    error_rate: float
    bytes_sent_per_call: float | None
    bytes_received_per_call: float | None


def summarize_calls(calls: Iterable[CallTimes]) -> list[CallSummary]:
    return [_summary(pair) for pair in calls]


def _summary(pair: CallTimes) -> CallSummary:
    histogram = Histogram()
    for bucket, count in pair.network.items():
        histogram.add(bucket, count)

    def percentile_ms(q: float) -> float | None:
        told = histogram.percentile_us(q)
        return None if told is None else told / 1e3

    return CallSummary(
        caller=pair.caller,
        callee=pair.callee,
        calls=pair.calls,
        network_p50_ms=percentile_ms(0.5),
        network_p95_ms=percentile_ms(0.95),
        network_share=(pair.client_us - pair.server_us) / pair.client_us if pair.client_us else None,
        error_rate=pair.failed / pair.calls,
        bytes_sent_per_call=None if pair.bytes_sent is None else pair.bytes_sent / pair.calls,
        bytes_received_per_call=None if pair.bytes_received is None else pair.bytes_received / pair.calls,
    )
