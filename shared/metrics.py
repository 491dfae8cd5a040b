"""Every Prometheus metric of every service, with what it means. Names follow the Prometheus conventions."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

# Generator
REQUESTS_SENT = Counter("tidegate_requests_sent", "Requests handed to a transport", ["system"], registry=REGISTRY)
EVENTS_ACKNOWLEDGED = Counter("tidegate_events_acknowledged", "Events the broker has kept", registry=REGISTRY)
EVENT_BACKLOG = Gauge("tidegate_event_backlog", "Events cut into frames but not yet acknowledged", registry=REGISTRY)
EVENTS_SPOOLED = Gauge("tidegate_events_spooled", "Events spilled to disk, waiting for the broker", registry=REGISTRY)
LOOP_LAG_SECONDS = Gauge("tidegate_loop_lag_seconds", "Worst loop lateness in the last second", registry=REGISTRY)
CLOCK_SKEW_SECONDS = Gauge("tidegate_clock_skew_seconds", "This clock minus the broker's", registry=REGISTRY)
SHARDS_HELD = Gauge("tidegate_shards_held", "Shards this worker carries", registry=REGISTRY)

# Collector
EVENTS_STORED = Counter("tidegate_events_stored", "Events committed to the store", registry=REGISTRY)
FRAMES_STORED = Counter("tidegate_frames_stored", "Frames committed to the store", registry=REGISTRY)
FRAMES_REDELIVERED = Counter("tidegate_frames_redelivered", "Frames that were already committed", registry=REGISTRY)
DEAD_LETTERS = Counter("tidegate_dead_letters", "Messages sent to DEAD", ["service"], registry=REGISTRY)
STORE_RETRIES = Counter("tidegate_store_retries", "Batches retried because the store failed", registry=REGISTRY)
SPANS_STORED = Counter("tidegate_spans_stored", "Spans committed to the store", registry=REGISTRY)
SPANS_WAITING = Gauge("tidegate_spans_waiting", "Spans that wait for the store", registry=REGISTRY)
SPANS_DROPPED = Counter(
    "tidegate_spans_dropped", "Spans not kept: malformed, sampled or unstorable", ["reason"], registry=REGISTRY
)
BATCH_EVENTS = Histogram(
    "tidegate_batch_events",
    "Events of a committed batch, redelivered ones included",
    buckets=(1, 10, 100, 1_000, 4_000, 8_000, 16_000, 32_000, 64_000),
    registry=REGISTRY,
)
COMMIT_SECONDS = Histogram(
    "tidegate_commit_seconds",
    "How long the transaction of a batch took, those that failed included",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
    registry=REGISTRY,
)
STORED_LAG_SECONDS = Histogram(
    "tidegate_stored_lag_seconds",
    "From a request's end to its row being stored, the longest of the first frame of a batch",
    buckets=(0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30, 60, 300, 3_600),
    registry=REGISTRY,
)
FRAMES_WAITING = Gauge("tidegate_frames_waiting", "Frames in TIMINGS that no collector has pulled", registry=REGISTRY)
FRAMES_UNSETTLED = Gauge("tidegate_frames_unsettled", "Frames pulled but not yet acknowledged", registry=REGISTRY)
SAMPLES_TAKEN = Counter("tidegate_samples_taken", "Resource samples read", ["source"], registry=REGISTRY)
SAMPLES_STORED = Counter("tidegate_samples_stored", "Resource samples committed to the store", registry=REGISTRY)
SOURCE_UP = Gauge("tidegate_source_up", "1 while a source of samples can be read", ["source"], registry=REGISTRY)

# Validator
FRAMES_MERGED = Counter("tidegate_frames_merged", "Frames merged into windows", registry=REGISTRY)
VERDICTS = Counter("tidegate_verdicts", "Verdicts on windows", ["verdict"], registry=REGISTRY)
BREACHES_OPEN = Gauge("tidegate_breaches_open", "Breach episodes that are open", registry=REGISTRY)

# Forwarder
WEBHOOKS = Counter(
    "tidegate_webhooks", "Attempts to send a breach to an endpoint", ["endpoint", "answer"], registry=REGISTRY
)

# Scaler
DECISIONS = Counter(
    "tidegate_scaling_decisions", "Recorded scaling decisions", ["service", "action"], registry=REGISTRY
)
SCALE_UPS_REFUSED = Counter(
    "tidegate_scale_ups_refused", "Recorded refusals of a scale-up", ["service", "reason"], registry=REGISTRY
)
ESCALATED = Gauge(
    "tidegate_scaling_escalated", "Causes for which scaling has been given up", ["service"], registry=REGISTRY
)
REPLICAS = Gauge("tidegate_replicas", "Replicas last observed", ["service", "state"], registry=REGISTRY)
