"""Within v1 a breach event only gains optional fields: old events are read now, and new ones by old readers."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
from cloudevents.core.formats.json import JSONFormat
from pydantic import BaseModel, ConfigDict

from shared.contracts.breach import BreachEvent, BreachStatus
from tests.contracts.schemas import breach_events, read

RECORDED = sorted((Path(__file__).parent / "recorded").glob("breach-*.jsonl"))
EVENTS = [(path.stem, line) for path in RECORDED for line in path.read_text().splitlines()]
IDS = [f"{stem}:{json.loads(line)['type'].split('.')[-2]}" for stem, line in EVENTS]

# What v1 began with. It stays: each of these in every event, and no other field required of one.
ENVELOPE = {"id", "source", "type", "subject", "time", "data"}
DATA = {
    *("breach", "revision", "status", "environment", "run", "system", "service", "metric", "series", "level"),
    *("statistic", "value", "limit", "target", "critical", "unit", "better", "confidence", "samples", "window"),
    "opened_at",
}
OPTIONAL = {"scenario", "action", "resolved_at", "exemplars", "slowest_hop", "recommendation"}


class FirstStatus(StrEnum):
    OPENED = "opened"
    ESCALATED = "escalated"
    UPDATED = "updated"
    RESOLVED = "resolved"


class FirstBreach(BaseModel):
    """A reader written when v1 was new, as strict as the contract lets it be."""

    model_config = ConfigDict(extra="ignore")
    breach: str
    revision: int
    status: FirstStatus
    level: Literal["target", "critical"]
    better: Literal["lower", "higher"]
    value: float
    limit: float
    slowest_hop: str = ""


class FirstEvent(BaseModel):
    model_config = ConfigDict(extra="ignore")
    specversion: Literal["1.0"]
    datacontenttype: Literal["application/json"]
    type: str
    data: FirstBreach


def holds(now: Any, then: Any) -> bool:
    """Whether everything that was said then is said now, with the same values."""
    if isinstance(then, dict):
        return isinstance(now, dict) and all(name in now and holds(now[name], value) for name, value in then.items())
    if isinstance(then, list):
        return len(now) == len(then) and all(map(holds, now, then))
    return bool(now == then)


@pytest.mark.parametrize("line", [line for _, line in EVENTS], ids=IDS)
def test_an_event_of_any_age_is_read_without_loss(line: str) -> None:
    event = BreachEvent.model_validate_json(line)
    assert holds(json.loads(event.model_dump_json()), json.loads(line))


@pytest.mark.parametrize("line", [line for _, line in EVENTS], ids=IDS)
def test_an_event_of_any_age_is_a_cloudevent_and_keeps_to_the_schema_of_today(line: str) -> None:
    breach_events().validate(json.loads(line))
    event = JSONFormat().read(None, line.encode())
    assert event.get_type().startswith("io.tidegate.breach.")
    assert event.get_type().endswith(".v1")


@pytest.mark.parametrize("line", [line for _, line in EVENTS], ids=IDS)
def test_an_event_of_any_age_is_read_by_the_first_reader(line: str) -> None:
    assert FirstEvent.model_validate_json(line).data.revision > 0


def test_recorded_are_all_that_an_event_may_tell() -> None:
    assert {name.split(":")[1] for name in IDS} == {"opened", "escalated", "updated", "acknowledged", "resolved"}
    assert {status.value for status in BreachStatus} == {status.value for status in FirstStatus}, "a new one needs v2"


def test_no_field_is_taken_away_and_none_more_is_required() -> None:
    schema = read("breach-event.schema.json")
    data = schema["$defs"]["Breach"]
    assert (set(schema["required"]), set(data["required"])) == (ENVELOPE, DATA)
    assert set(data["properties"]) >= DATA | OPTIONAL
    assert "additionalProperties" not in data, "an older schema must let newer fields through"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("data", "level"), "terrible"),
        (("data", "value"), "many"),
        (("type",), 5),
        (("data", "window"), None),
    ],
)
def test_the_schema_refuses_what_the_contract_does(path: tuple[str, ...], value: object) -> None:
    event = json.loads(EVENTS[0][1])
    inner = event
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    assert not breach_events().is_valid(event)
