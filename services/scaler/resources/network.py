"""What could be made better of the network: connections used again, systems nearer to each other, calls bundled,
smaller answers, links that lose packets. Pure.

None of it is Tidegate's to change, so each item says whose it is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.scaler.resources.calls import summarize_calls
from services.scaler.resources.item import Advice, Impact, Item
from services.scaler.resources.usage import ServiceUsage
from shared.store.figures import CallTimes, Connecting, Served

ENOUGH = 100
NEW_CONNECTIONS = 0.1
"""Share of requests with a connection of their own from which on they are not used again; replicas and the generator's
own renewal every 30 s explain a few percent."""
FAR_MS, FAR_SHARE = 1.0, 0.3
"""Network time of the median call, and share of all the time of the calls, from which on two systems are far apart."""
CHATTY = 5.0
"""Calls of one pair in one trace."""
LARGE_BYTES = 16_384
COMPRESSED = 0.2
"""What is left of JSON and other text after gzip, as a rule of thumb."""
LOST_PER_S = 0.1


@dataclass(frozen=True, slots=True)
class NetworkUse:
    """``connecting``: by system. ``calls``: by pair. ``served``: by system and step, over ``span_s``."""

    connecting: Sequence[Connecting] = ()
    calls: Sequence[CallTimes] = ()
    served: Sequence[Served] = ()
    services: Sequence[ServiceUsage] = ()
    span_s: float = 0.0


def advise_network(use: NetworkUse) -> Advice:
    """Every item, by kind and name, and what there was too little of."""
    items = [
        *_each(_connections(one) for one in use.connecting),
        *_each(item for pair in use.calls if pair.callee for item in (_placement(pair), _chatty(pair))),
        *_each(_payload(system, use) for system in sorted({one.system for one in use.served})),
        *_each(_losses(one) for one in use.services),
    ]
    notes = []
    if not any(one.looked_at >= ENOUGH for one in use.connecting):
        notes.append(f"connections: fewer than {ENOUGH} requests of runs were stored in this time")
    if not any(pair.answered >= ENOUGH for pair in use.calls):
        notes.append(f"placement: fewer than {ENOUGH} calls between systems were traced in this time")
    if not any(name.startswith("network_") for one in use.services for name in one.replica):
        notes.append("errors and drops: no source of samples tells of the network (docs/resources.md)")
    return Advice(items=tuple(items), notes=tuple(notes))


def _each(items: Iterable[Item | None]) -> list[Item]:
    return [item for item in items if item is not None]


def _connections(one: Connecting) -> Item | None:
    if one.looked_at < ENOUGH or one.opened < NEW_CONNECTIONS * one.looked_at:
        return None
    share = one.opened / one.looked_at
    saved_ms = share * one.connect_ms
    return Item(
        id=f"network.{one.system}.connections",
        part="network",
        subject=one.system,
        title=f"{one.system}: let connections be used again",
        evidence=(
            f"{one.opened} of {one.looked_at} requests ({share:.0%}) opened a connection",
            f"opening took {one.connect_ms:.3g} of their {one.service_ms:.3g} ms on average",
        ),
        figures={"opened_share": share, "connect_ms": one.connect_ms, "samples": float(one.looked_at)},
        impact=Impact(
            latency=f"{saved_ms:.3g} ms less per request: that share, times what opening takes",
            latency_ms=-round(saved_ms, 3),
            headroom="the handshakes' CPU time on both sides",
        ),
        risk_reason="idle connections take a little memory; clients must retry on one that was closed meanwhile",
        why_not="keep-alive is set in the system, its clients or the proxy between them",
    )


def _network(pair: CallTimes) -> tuple[float, float, float]:
    """p50 and p95 in ms of the network's part of a call, and its share of all the calls' time."""
    [told] = summarize_calls([pair])
    return told.network_p50_ms or 0.0, told.network_p95_ms or 0.0, told.network_share or 0.0


def _placement(pair: CallTimes) -> Item | None:
    p50, p95, share = _network(pair)
    if pair.answered < ENOUGH or p50 < FAR_MS or share < FAR_SHARE:
        return None
    name = f"{pair.caller} → {pair.callee}"
    return Item(
        id=f"network.{pair.caller}.{pair.callee}.placement",
        part="network",
        subject=name,
        title=f"{name}: place them nearer to each other",
        evidence=(
            f"{share:.0%} of the time of these calls is spent between them, p50 {p50:.3g}, p95 {p95:.3g} ms",
            f"{pair.answered} traced calls",
        ),
        figures={"network_share": share, "p50_ms": p50, "p95_ms": p95, "samples": float(pair.answered)},
        impact=Impact(
            latency=f"up to {p50:.3g} ms less per call; what is left on one host is well below {FAR_MS:g} ms",
            latency_ms=-round(p50, 3),
        ),
        risk="medium",
        risk_reason="what shares a host or zone fails with it; the time may also be waiting before the server begins",
        why_not="where replicas run is up to the cluster: affinity in Kubernetes, placement preferences in Swarm",
    )


def _chatty(pair: CallTimes) -> Item | None:
    a_trace = pair.calls / pair.traces if pair.traces else 0.0
    if pair.answered < ENOUGH or a_trace < CHATTY:
        return None
    p50, _, _ = _network(pair)
    name, saved_ms = f"{pair.caller} → {pair.callee}", (a_trace - 1) * p50
    return Item(
        id=f"network.{pair.caller}.{pair.callee}.calls",
        part="network",
        subject=name,
        title=f"{name}: bundle or cache the calls of one request",
        evidence=(f"{a_trace:.3g} calls in each of {pair.traces} traces, {p50:.3g} ms of network each at p50",),
        figures={"calls_per_trace": a_trace, "p50_ms": p50, "samples": float(pair.calls)},
        impact=Impact(
            latency=f"up to {saved_ms:.3g} ms less per request, where the calls follow one another",
            latency_ms=-round(saved_ms, 3),
        ),
        risk="medium",
        risk_reason="the interface between the two changes",
        why_not="how often one calls the other is in their code",
    )


def _payload(system: str, use: NetworkUse) -> Item | None:
    its = [one for one in use.served if one.system == system]
    count, received = sum(one.count for one in its), sum(one.bytes_in for one in its)
    if count < ENOUGH or received / count < LARGE_BYTES or not use.span_s:
        return None
    a_response, a_second = received / count, received / use.span_s
    return Item(
        id=f"network.{system}.payload",
        part="network",
        subject=system,
        title=f"{system}: compress its answers, or send less",
        evidence=(
            f"{a_response / 1024:.4g} kB an answer over {count} requests, {a_second / 1024:.4g} kB/s on average",
        ),
        figures={"bytes_per_response": a_response, "bytes_per_s": a_second, "samples": float(count)},
        impact=Impact(
            latency="transfer time falls as the bytes do; unknown without the link's speed",
            cost=f"about {(1 - COMPRESSED) * a_second / 1024:.4g} kB/s less traffic, where text is not compressed yet",
        ),
        risk_reason="compressing takes CPU time of the system",
        why_not="compression is set in the system or the proxy before it",
    )


def _losses(one: ServiceUsage) -> Item | None:
    lost = {name: told for name in ("network_errors", "network_drops") if (told := one.replica.get(name)) is not None}
    bad = {name: told for name, told in lost.items() if told.samples >= ENOUGH and told.mean >= LOST_PER_S}
    if not bad:
        return None
    words = tuple(
        f"{name.removeprefix('network_')} {told.mean:.3g}/s on average, at most {told.peak:.3g}/s per replica"
        for name, told in bad.items()
    )
    return Item(
        id=f"network.{one.service}.losses",
        part="network",
        subject=one.service,
        title=f"{one.service}: find out why its network loses packets",
        evidence=(*words, f"{max(told.samples for told in bad.values())} samples"),
        figures={f"{name}_per_s": told.mean for name, told in bad.items()},
        impact=Impact(
            latency="a lost packet costs at least one round trip, often the 200 ms of a retransmission timer"
        ),
        risk="medium",
        risk_reason="the cause is not known yet: queues too short, a faulty link, limits of the host",
        why_not="the network of the host is not Tidegate's",
    )
