"""Traces drawn as indented text would be: spans by name, in ms, so that a test shows the shape it speaks of."""

from shared.store.figures import TraceSpan

INTERNAL, SERVER, CLIENT = 1, 2, 3
"""OpenTelemetry's ``SpanKind``."""
GENERATOR, AUTMATRIX, RELAYCORE, NEUROWEAVER = (
    "tidegate-generator",
    "autmatrix-backend",
    "relaycore",
    "neuroweaver-backend",
)


def span(
    name: str,
    parent: str,
    service: str,
    kind: int,
    start_ms: float,
    end_ms: float,
    peer: str = "",
) -> TraceSpan:
    """A span is known by its name."""
    return TraceSpan(
        span_id=name.encode(),
        parent_span_id=parent.encode(),
        service=service,
        name=name,
        kind=kind,
        start_us=round(start_ms * 1e3),
        duration_us=round(end_ms * 1e3) - round(start_ms * 1e3),
        peer=peer,
    )


def polled_workflow(*, queue_ms: float = 20.0, skew_ms: float = 0.0) -> list[TraceSpan]:
    """A workflow started by one request and polled for: AutoMatrix asks RelayCore, which asks NeuroWeaver.

    RelayCore's clock is ``skew_ms`` ahead. The execution takes 280 ms and ``queue_ms`` of waiting in RelayCore.
    """
    s, done = skew_ms, 340 + queue_ms
    return [
        span("story", "", GENERATOR, INTERNAL, 0, done + 60),
        span("execute", "story", GENERATOR, CLIENT, 10, 30),
        span("POST execute", "execute", AUTMATRIX, SERVER, 12, 28),
        span("execution", "POST execute", AUTMATRIX, INTERNAL, 27, done - 33),
        span("ask relaycore", "execution", AUTMATRIX, CLIENT, 87, done - 43, "relaycore"),
        span("POST requests", "ask relaycore", RELAYCORE, SERVER, 89 + s, done - 45 + s),
        span("queue_wait", "POST requests", RELAYCORE, INTERNAL, 89 + s, 89 + queue_ms + s),
        span("ask neuroweaver", "POST requests", RELAYCORE, CLIENT, 109 + queue_ms + s, done - 50 + s, "neuroweaver"),
        span("POST inference", "ask neuroweaver", NEUROWEAVER, SERVER, 114 + queue_ms, done - 55),
        span("poll 1", "story", GENERATOR, CLIENT, 130, 135),
        span("GET status 1", "poll 1", AUTMATRIX, SERVER, 131, 134),
        span("poll 2", "story", GENERATOR, CLIENT, done, done + 5),
        span("GET status 2", "poll 2", AUTMATRIX, SERVER, done + 1, done + 4),
    ]
