"""The audit of one service in table and stream: whole as written, and no way to tamper with it that is not found."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.scaler.chain import Head, digest, link, verify
from services.scaler.orders import HeardOrder
from services.scaler.policy import decide
from services.scaler.records import Scribe
from services.scaler.situation import Memory
from services.scaler.verification import LISTED, Findings, Row, Verification
from shared.contracts.scaling import ScalingRecord
from tests.unit.scaler_cases import NOW_S, RELAYCORE, change, facts, open_breach, running
from tests.unit.test_scaler_orders import asked

NOW = datetime.fromtimestamp(NOW_S, tz=UTC)
SCRIBE = Scribe("relaycore", "local", RELAYCORE)


def written(count: int = 6) -> list[bytes]:
    """A chain as it travels: decisions, results, effects and an order, with awkward figures."""
    situation = facts(running(2), {"cpu_usage": 0.1 + 0.7, "routing_latency": 1e-07}, (open_breach(),))
    made = change(1, ok=None, done_s=None, verdict=None)
    kinds = (
        SCRIBE.decision(
            decide(RELAYCORE, situation, Memory()), situation, Memory(), {"nothing": -0.0, "huge": 1e22},
            name="relaycore-1", epoch=3, dry_run=False,
        ),
        SCRIBE.result(made, NOW_S, 3, ready=4),
        SCRIBE.effectiveness(made, NOW_S, 3, "helped", "ä", {"routing_latency": 12.25}),
        SCRIBE.order(HeardOrder(7, asked()), NOW_S, 3, ""),
    )  # fmt: skip
    head, bodies = Head(), []
    for number in range(count):
        sealed = link(head, kinds[number % len(kinds)])
        head = Head(sealed.sequence, sealed.hash)
        bodies.append(sealed.model_dump_json().encode())
    return bodies


WRITTEN = written()
END = Head(6, json.loads(WRITTEN[-1])["hash"])


def row(body: bytes) -> Row:
    record = json.loads(body)
    return Row(record["sequence"], record["hash"], record["kind"], record["decision"], NOW, record)


def check(table: list[Row], stream: list[bytes], noted: Head | None = END, now: datetime = NOW) -> Findings:
    verification = Verification("relaycore")
    for one in table:
        verification.take_row(one)
    for body in stream:
        verification.take_message(body)
    return verification.finish(noted, now)


def rows(bodies: list[bytes] = WRITTEN) -> list[Row]:
    return [row(body) for body in bodies]


def test_an_audit_as_written_is_whole() -> None:
    found = check(rows(), WRITTEN)
    assert (found.faults, found.in_table, found.in_stream, found.last) == ([], 6, 6, 6)


@pytest.mark.parametrize("expired", [1, 3, 5])
def test_what_has_left_the_stream_by_age_is_no_fault(expired: int) -> None:
    assert check(rows(), WRITTEN[expired:]).faults == []
    assert check(rows(), [], now=NOW + timedelta(days=31)).faults == []


def test_rows_that_come_while_one_looks_are_taken_after_the_stream() -> None:
    verification = Verification("relaycore")
    for one in rows()[:4]:
        verification.take_row(one)
    for body in WRITTEN:
        verification.take_message(body)
    assert verification.lacking
    for one in rows()[4:]:
        verification.take_row(one)
    assert verification.finish(END, NOW).faults == []


@pytest.mark.parametrize(
    ("table", "stream", "said"),
    [
        (rows()[1:], WRITTEN, "table: record 2 (result of relaycore-1): follows record 0"),
        (rows()[:2] + rows()[3:], WRITTEN, "follows record 2, so one is missing"),
        (rows(), WRITTEN[:2] + WRITTEN[3:], "stream: record 4 (order of o1): follows record 2"),
        (rows()[:4], WRITTEN, "table: lacks 2 records from 5 to 6, which the stream has"),
        (rows()[:5], WRITTEN, "table: lacks record 6, which the stream has"),
        (rows(), WRITTEN[:4], "stream: ends with record 4, while the table goes on to 6"),
        (rows(), [], "stream: ends with record 0, while the table goes on to 6"),
        (rows()[:4], WRITTEN[:4], "both: end with record 4, while the scaler has written 6"),
        (rows(), [*WRITTEN[:2], b"{", *WRITTEN[3:]], "message 3 of relaycore is no record"),
        (rows(), [*WRITTEN[:2], b"[]", *WRITTEN[3:]], "message 3 of relaycore is no record"),
    ],
    ids=[
        "the first row", "a row", "a message", "the last rows", "the last row", "the last messages", "the whole stream",
        "the end of both", "no JSON", "no object",
    ],
)  # fmt: skip
def test_what_is_missing_is_named(table: list[Row], stream: list[bytes], said: str) -> None:
    assert any(said in fault for fault in check(table, stream).faults)


def reforged(bodies: list[bytes], number: int, **values: Any) -> list[bytes]:
    """A chain whose record is another and that is sealed anew from there on."""
    head, again = Head(), []
    for at, body in enumerate(bodies):
        record = json.loads(body) | (values if at == number else {})
        record["previous_hash"] = head.hash
        record["hash"] = digest(record)
        head = Head(record["sequence"], record["hash"])
        again.append(json.dumps(record).encode())
    return again


@pytest.mark.parametrize("number", range(6))
def test_a_chain_that_was_sealed_anew_in_one_place_differs_from_the_other(number: int) -> None:
    forged = reforged(WRITTEN, number, reason="another")
    assert verify(json.loads(body) for body in forged) == []
    assert check(rows(forged), WRITTEN).faults != []
    assert check(rows(), forged).faults != []
    assert check(rows(forged), forged).faults == ["table: record 6 is not the one that the scaler has written"]


def test_a_second_chain_in_the_stream_is_not_taken_for_the_first() -> None:
    assert len(check(rows(), reforged(WRITTEN, 0, reason="begun anew")).faults) >= 6


def test_the_columns_of_a_row_are_held_against_its_record() -> None:
    table = rows()
    table[2] = Row(3, table[2].hash, "decision", "relaycore-9", NOW + timedelta(seconds=1), table[2].record)
    assert check(table, WRITTEN).faults == [
        "table: record 3 (effectiveness of relaycore-1): its column kind says decision",
        "table: record 3 (effectiveness of relaycore-1): its column decision says relaycore-9",
        "table: record 3 (effectiveness of relaycore-1): its column at says 2027-01-15 08:00:01+00:00",
    ]


def test_the_record_of_another_service_is_found() -> None:
    moved = json.loads(WRITTEN[-1]) | {"service": "autmatrix-backend"}
    faults = check(rows(), [*WRITTEN[:-1], json.dumps(moved).encode()]).faults
    assert any("is of service autmatrix-backend" in fault for fault in faults)


def test_of_many_faults_the_first_are_told() -> None:
    told = Findings("relaycore", faults=[str(number) for number in range(30)]).told()
    assert (len(told), told[-1]) == (LISTED + 1, "and 10 more")


@settings(max_examples=600, deadline=None)
@given(st.integers(0, 5), st.floats(0, 1, exclude_max=True), st.integers(0, 255))
def test_any_changed_byte_is_found_in_the_stream_and_in_the_table(number: int, where: float, value: int) -> None:
    body = bytearray(WRITTEN[number])
    at = int(where * len(body))
    assume(body[at] != value)
    body[at] = value
    changed = bytes(body)
    assert check(rows(), [*WRITTEN[:number], changed, *WRITTEN[number + 1 :]]).faults or same(changed, WRITTEN[number])
    try:
        record = json.loads(changed)
    except ValueError:
        return  # the table takes no text that is not JSON
    was = row(WRITTEN[number])
    table = rows()
    table[number] = Row(was.sequence, was.hash, was.kind, was.decision, NOW, record)
    assert check(table, WRITTEN).faults or same(changed, WRITTEN[number])


def same(one: bytes, other: bytes) -> bool:
    """Whether two texts are JSON of the same content, e.g. with 1E-07 for 1e-07."""
    try:
        return json.dumps(json.loads(one), sort_keys=True) == json.dumps(json.loads(other), sort_keys=True)
    except ValueError:
        return False


@given(st.data())
def test_any_record_missing_swapped_or_doubled_is_found(data: st.DataObject) -> None:
    chain = list(WRITTEN)
    how = data.draw(st.sampled_from(["missing", "swapped", "doubled"]))
    number = data.draw(st.integers(1 if how == "missing" else 0, len(chain) - 1))
    if how == "missing":
        del chain[number]
    elif how == "doubled":
        chain.insert(data.draw(st.integers(0, len(chain))), chain[number])
    else:
        other = data.draw(st.integers(0, len(chain) - 1).filter(lambda one: one != number))
        chain[number], chain[other] = chain[other], chain[number]
    assert check(rows(), chain).faults != []
    assert check([row(body) for body in chain], WRITTEN).faults != []


def test_a_record_reads_the_same_as_its_model() -> None:
    for body in WRITTEN:
        record = ScalingRecord.model_validate_json(body)
        assert digest(json.loads(body)) == record.digest() == record.hash
