"""The audit of scaling: decisions, their results and whether they helped, in one hash-chained series per service.

Every record names the hash of the one before; its own is SHA-256 over its canonical JSON without ``hash``
(sorted keys, no spaces). The first of a series has ``previous_hash`` of 64 zeros.
"""

import hashlib
import json
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from shared.contracts.base import Instant, Message

GENESIS = "0" * 64


class Action(StrEnum):
    SCALE_UP = "scale_up"
    SCALE_DOWN = "scale_down"
    NO_ACTION = "no_action"


REFUSALS = frozenset({"at_max", "capacity", "budget"})
"""Reason codes of a scale-up that was asked for and may not be: worth telling, although nothing moves."""


class Candidate(Message):
    """What one metric or breach asked for. ``holds``: whether its rule was met."""

    source: str
    value: float | None
    limit: float | None
    replicas: int
    holds: bool
    note: str = ""


class Clamp(Message):
    """One bound that was applied, in the order applied."""

    name: str
    before: int
    after: int


class Sizes(Message):
    """What one replica may use (``limit``) and is promised (``reserved``): cores, and MB of 1,048,576 bytes.

    None: without a limit, nothing promised, or not told. In an order: what is there stays.
    """

    cpu_limit: float | None = Field(default=None, gt=0)
    memory_limit: float | None = Field(default=None, gt=0)
    cpu_reserved: float | None = Field(default=None, ge=0)
    memory_reserved: float | None = Field(default=None, ge=0)


class ScalingRecord(Message):
    """One link of the chain. ``kind`` tells which of the optional parts is filled.

    decision: ``action`` … ``policy_version``; result: ``ok``, ``ready``, ``took_s``, ``error``;
    effectiveness: ``verdict``, ``before``, ``after`` and, where the last part of that counted, ``at_end``. Results and
    effectiveness name their ``decision``.
    escalation: nothing more is tried for ``cause`` until people or the end of the episode say so (``reason_code``
    ``ineffective``), or that this is over (``resumed``); it names the last decision made for the cause.
    order: what an operator asked: ``order`` (its id), ``by``, ``reason_code`` (its kind), ``reason``, ``target``,
    ``ok`` (False: refused, and ``error`` says why). A decision made while an order is in force names it.
    resize: what became of an order to give replicas other sizes: ``from_sizes``, ``to_sizes`` (None where none are
    given, and ``reason_code`` says why), ``order``, ``by``, ``reverses``; its results and effectiveness name it.
    ``ok`` is None while the order waits, True when it is carried out, False when it is not.
    ``expected``: what the decision reckons its metrics to be afterwards. ``recommendation``: what a person might do.
    """

    kind: Literal["decision", "result", "effectiveness", "escalation", "order", "resize"]
    decision: str
    service: str
    system: str
    environment: str
    at: Instant
    sequence: int = Field(ge=1)
    lease_epoch: int
    previous_hash: str
    hash: str = ""

    action: Action | None = None
    current: int | None = None
    target: int | None = None
    reason_code: str = ""
    reason: str = ""
    confidence: float | None = None
    inputs: dict[str, Any] = Field(default_factory=dict)
    candidates: tuple[Candidate, ...] = ()
    clamps: tuple[Clamp, ...] = ()
    policy_version: str = ""
    breaches: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    dry_run: bool = False
    cause: str = ""
    expected: dict[str, float] = Field(default_factory=dict)
    reverses: str = ""
    recommendation: str = ""

    ok: bool | None = None
    ready: int | None = None
    took_s: float | None = None
    error: str = ""

    verdict: Literal["helped", "no_effect", "worse", "unknown"] | None = None
    before: dict[str, float] = Field(default_factory=dict)
    after: dict[str, float] = Field(default_factory=dict)
    at_end: dict[str, float] = Field(default_factory=dict)

    order: str = ""
    by: str = ""

    from_sizes: Sizes | None = None
    to_sizes: Sizes | None = None

    def digest(self) -> str:
        """SHA-256 (hex) of this record's canonical JSON without its own hash."""
        body = self.model_dump(mode="json", exclude={"hash"})
        return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def sealed(self) -> "ScalingRecord":
        """This record with its hash filled in."""
        return self.model_copy(update={"hash": self.digest()})
