"""Settings of every stream and bucket, in one place, created idempotently by whichever service comes first.

A stream that exists with other settings is updated where the server allows it; what it refuses is raised.
"""

from dataclasses import dataclass

from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, KeyValueConfig, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import BadRequestError, NotFoundError

from shared.subjects import Subjects

DAY_S = 86_400.0
LEASE_S = 4.0
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """One stream: its DESIGN name, the subjects under the environment's prefix, and how long it keeps them.

    ``last_of_each``: how many messages of one subject at most, the newest; None: as many as there are.
    """

    name: str
    subjects: tuple[str, ...]
    max_age_s: float
    max_bytes: int
    work_queue: bool = False
    last_of_each: int | None = None

    def config(self, subjects: Subjects) -> StreamConfig:
        return StreamConfig(
            name=subjects.stream(self.name),
            subjects=[f"{subjects.prefix}.{tail}" for tail in self.subjects],
            storage=StorageType.FILE,
            retention=RetentionPolicy.WORK_QUEUE if self.work_queue else RetentionPolicy.LIMITS,
            # A full work queue refuses what is new: the worker must know that it has to spool.
            discard=DiscardPolicy.NEW if self.work_queue else DiscardPolicy.OLD,
            max_age=self.max_age_s,
            max_bytes=self.max_bytes,
            max_msgs_per_subject=self.last_of_each or -1,
            duplicate_window=120.0,
        )


STREAMS = (
    # A run says each second where it stands; in days that would push out what is asked of it.
    StreamSpec("RUNS", ("run.*.desired", "run.*.state"), 30 * DAY_S, GIB, last_of_each=1_000),
    StreamSpec("TIMINGS", ("timing.*.*",), 7 * DAY_S, 8 * GIB, work_queue=True),
    StreamSpec("WINDOWS", ("window.*.*",), 3_600.0, 2 * GIB),
    StreamSpec("RESOURCES", ("resource.*", "span.*"), 3_600.0, GIB),
    StreamSpec("BREACHES", ("breach.*.*.*",), 30 * DAY_S, GIB),
    # What is said of a breach is kept as long as the breach; a silence ends before.
    StreamSpec("ATTENTION", ("silence.*", "acknowledge.*"), 31 * DAY_S, GIB // 16, last_of_each=1),
    StreamSpec("SCALING", ("scaling.*",), 30 * DAY_S, GIB),
    # What operators ask of the scaler, acted on by whoever leads; no order holds longer than 30 days.
    StreamSpec("ORDERS", ("order.*.*",), 31 * DAY_S, GIB // 16, last_of_each=100),
    StreamSpec("DEAD", ("dead.*",), 7 * DAY_S, GIB),
)

BUCKETS = (
    KeyValueConfig(bucket="shards", ttl=30 * DAY_S, storage=StorageType.FILE),
    # What each webhook endpoint was told of each episode, a little longer than BREACHES could tell it again.
    KeyValueConfig(bucket="webhooks", ttl=31 * DAY_S, storage=StorageType.FILE),
    # Leases live by the server's clock alone: a key that is not renewed for LEASE_S is gone. They are on file so
    # that a server restarted within that time does not give one shard to two workers.
    KeyValueConfig(bucket="leases", ttl=LEASE_S, storage=StorageType.FILE),
    # What the validator knows of a run, so that another goes on with it.
    KeyValueConfig(bucket="checkpoints", ttl=7 * DAY_S, storage=StorageType.FILE),
)


async def ensure_streams(js: JetStreamContext, subjects: Subjects) -> None:
    """Create or update every stream and bucket of an environment; safe to call from all services at once."""
    for spec in STREAMS:
        config = spec.config(subjects)
        try:
            await js.add_stream(config)
        except BadRequestError:
            # Exists with other settings (or another service was faster with them).
            await js.update_stream(config)
    for bucket in BUCKETS:
        name = subjects.bucket(bucket.bucket)
        try:
            await js.key_value(name)
        except NotFoundError:
            await js.create_key_value(config=KeyValueConfig(bucket=name, ttl=bucket.ttl, storage=bucket.storage))
