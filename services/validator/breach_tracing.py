"""Trace context of breaches: an event continues the trace of the worst recorded request that showed it."""

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanContext, TraceFlags

from shared.contracts.breach import Breach, BreachStatus
from shared.telemetry import parent_context, traceparent

MOST_EPISODES = 1_000


class BreachTracing:
    """``validator.breach`` spans, one per opening; every event of an episode carries that span's context."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("tidegate.validator")
        self._contexts: dict[str, str] = {}

    def context_of(self, breach: Breach) -> dict[str, str]:
        """Message headers of an event; empty where no request of the episode was recorded."""
        if breach.status is BreachStatus.OPENED or breach.breach not in self._contexts:
            header = self._begin(breach)
            if header is None:
                return {}
            self._contexts[breach.breach] = header
        if breach.status is BreachStatus.RESOLVED:
            return {"traceparent": self._contexts.pop(breach.breach)}
        while len(self._contexts) > MOST_EPISODES:
            self._contexts.pop(next(iter(self._contexts)))
        return {"traceparent": self._contexts[breach.breach]}

    def _begin(self, breach: Breach) -> str | None:
        recorded = next((exemplar for exemplar in breach.exemplars if exemplar.recorded), None)
        if recorded is None:
            return None
        trace_id = int(recorded.trace_id, 16)
        # An exemplar names its trace, not a span in it: the parent is derived from the trace's own id.
        parent = SpanContext(trace_id, (trace_id & 0xFFFF_FFFF_FFFF_FFFF) or 1, True, TraceFlags(TraceFlags.SAMPLED))
        span = self._tracer.start_span(
            "validator.breach",
            context=parent_context(parent),
            attributes={
                "tidegate.breach": breach.breach,
                "tidegate.run": breach.run,
                "tidegate.system": breach.system,
                "tidegate.metric": breach.metric,
                "tidegate.level": breach.level,
                "tidegate.value": breach.value,
                "tidegate.limit": breach.limit,
            },
        )
        span.end()
        context = span.get_span_context()
        return traceparent(context.trace_id, context.span_id, sampled=context.trace_flags.sampled)
