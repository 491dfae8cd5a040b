"""The AsyncAPI 3.0 document and JSON Schemas, made from the contracts: ``python -m shared.contracts.asyncapi DIR``.

A test holds the files in ``docs/contracts/`` against what this module makes, so they cannot fall behind the code.
"""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from shared import __version__
from shared.contracts.attention import Acknowledge, Silence
from shared.contracts.breach import CONTENT_TYPE as CLOUDEVENT
from shared.contracts.breach import BreachEvent
from shared.contracts.dead import DeadLetter
from shared.contracts.resource import ResourceSample
from shared.contracts.run import RunDesired, RunState
from shared.contracts.scaling import ScalingRecord
from shared.contracts.scaling_orders import ScalingOrder
from shared.contracts.span_window import SpanWindows
from shared.contracts.window import FrameWindows

# channel: (address after "tidegate.{environment}.", message, content type, stream, what it carries)
_JSON = "application/json"
CHANNELS: dict[str, tuple[str, type[BaseModel], str, str, str]] = {
    "runDesired": (
        "run.{run}.desired",
        RunDesired,
        _JSON,
        "RUNS",
        "The whole desired state of a run, with a generation.",
    ),
    "runState": ("run.{run}.state", RunState, _JSON, "RUNS", "Where a run stands, said by its coordinator."),
    "window": (
        "window.{run}.{system}",
        FrameWindows,
        _JSON,
        "WINDOWS",
        "One-second aggregates of one committed frame; merge each frame identity once.",
    ),
    "span": (
        "span.{system}",
        SpanWindows,
        _JSON,
        "RESOURCES",
        "One-second aggregates of the spans that benchmarks name; merge each collector's numbers once.",
    ),
    "resource": ("resource.{service}", ResourceSample, _JSON, "RESOURCES", "What one instance used at one moment."),
    "breach": (
        "breach.{system}.{metric}.{series}",
        BreachEvent,
        CLOUDEVENT,
        "BREACHES",
        "A breach opened, escalated, updated, acknowledged or resolved: CloudEvents 1.0, one id per episode.",
    ),
    "silence": (
        "silence.{silence}",
        Silence,
        _JSON,
        "ATTENTION",
        "Breaches that nobody is to be called for, until when; a later word of the same id replaces it.",
    ),
    "acknowledge": (
        "acknowledge.{breach}",
        Acknowledge,
        _JSON,
        "ATTENTION",
        "Somebody takes an episode on; the validator tells it as an event of the breach.",
    ),
    "scaling": (
        "scaling.{service}",
        ScalingRecord,
        _JSON,
        "SCALING",
        "One link of a service's audit chain: decision, result, effect, escalation or order of an operator.",
    ),
    "order": (
        "order.{service}.{subject}",
        ScalingOrder,
        _JSON,
        "ORDERS",
        "What an operator asks of the scaler: a count for a while, a pause, its end, or a part of a plan.",
    ),
    "dead": ("dead.{service}", DeadLetter, _JSON, "DEAD", "What could not be processed, with the reason."),
}


def document() -> dict[str, Any]:
    """The AsyncAPI document as plain data."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for name, (tail, model, content_type, stream, summary) in CHANNELS.items():
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
        messages[model.__name__] = {
            "name": model.__name__,
            "contentType": content_type,
            "payload": {"$ref": f"#/components/schemas/{model.__name__}"},
        }
        address = f"tidegate.{{environment}}.{tail}"
        channels[name] = {
            "address": address,
            "description": f"{summary} JetStream stream {stream}.",
            "parameters": {part[1:-1]: {} for part in address.split(".") if part.startswith("{")},
            "messages": {model.__name__: {"$ref": f"#/components/messages/{model.__name__}"}},
        }
        operations[f"receive{name[0].upper()}{name[1:]}"] = {
            "action": "receive",
            "channel": {"$ref": f"#/channels/{name}"},
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tidegate",
            "version": __version__,
            "description": "What Tidegate says on NATS. Timing frames (timing.{run}.{system}) are binary: frame.md.",
        },
        "defaultContentType": _JSON,
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": dict(sorted(schemas.items()))},
    }


def files() -> dict[str, str]:
    """Text of every generated file by name: the document, and the breach event's schema on its own for subscribers."""
    breach = BreachEvent.model_json_schema(mode="serialization") | {
        "$schema": "https://json-schema.org/draft/2020-12/schema"
    }
    return {
        "asyncapi.json": json.dumps(document(), indent=2) + "\n",
        "breach-event.schema.json": json.dumps(breach, indent=2) + "\n",
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for file_name, text in files().items():
        (folder / file_name).write_text(text, encoding="utf-8")
