"""The report of a small run in a real store: its sums, percentiles, verdict and revisions, to the last figure."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from services.validator.board import RunBoard
from services.validator.facts import Observed
from services.validator.report import build_report
from services.validator.reporter import Reporter, is_settled
from services.validator.timescale import Store
from shared.config import load_document
from shared.contracts.benchmarks import Benchmarks
from shared.contracts.run import LostWorker, Phase, RunDesired, RunState, SystemProgress, WorkerProgress
from shared.contracts.timing import ErrorKind, EventFlag, Kind
from shared.errors import TransientError
from shared.histogram import bucket_of
from shared.settings import PROJECT_ROOT
from tests.unit.validator_frames import RUN, desired, state

pytestmark = pytest.mark.integration

BENCHMARKS = load_document(Benchmarks, PROJECT_ROOT / "config" / "benchmarks.yaml")
STARTED = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
RAMP_UP_S = 5
GATE = {"metric": "workflow_execution_time", "statistic": "mean", "limit": 30000, "unit": "ms"}
ASKED = desired(environment="test", ramp_up_s=RAMP_UP_S, started=STARTED, targets=[GATE])


ROLL_UP = """
INSERT INTO timing_part (
    series_id, at, ramp_up, cancelled, n, failed, service_sum_us, response_sum_us, service_max_us, response_max_us,
    bytes_in, bytes_out, errors, service, response
)
SELECT series_id, date_bin('10 seconds', at, '2000-01-01 00:00:00+00'), flags & 2 <> 0, error = 11, count(*),
       count(*) FILTER (WHERE error NOT IN (0, 11)), sum(service_us), sum(service_us + dispatch_us), max(service_us),
       max(service_us + dispatch_us), 0, 0,
       coalesce(array_agg((error::bigint << 40) + 1) FILTER (WHERE error <> 0), '{}'),
       array_agg((service_bucket::bigint << 40) + 1), array_agg((response_bucket::bigint << 40) + 1)
  FROM request_timing WHERE series_id = %s GROUP BY 1, 2, 3, 4
"""


class Rows:
    """Writes what a collector would have, one producer and a frame per call."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self.connection = connection
        self.seq = 0

    async def producer(self, worker: str = "w1", *, final: bool = True) -> int:
        row = await (
            await self.connection.execute(
                "INSERT INTO producer (run, worker, epoch, system, final) VALUES (%s, %s, 1, 'autmatrix', %s) "
                "RETURNING producer_id",
                (RUN, worker, final),
            )
        ).fetchone()
        assert row
        return int(row[0])

    async def series(self, kind: Kind, action: str) -> int:
        row = await (
            await self.connection.execute(
                "INSERT INTO series (run, system, scenario, action, kind) VALUES (%s, 'autmatrix', 'story', %s, %s) "
                "RETURNING series_id",
                (RUN, action, kind),
            )
        ).fetchone()
        assert row
        return int(row[0])

    async def sent(self, producer: int, series: int, sent: int, in_flight: int = 0) -> None:
        await self.connection.execute(
            "INSERT INTO sent_counter VALUES (%s, %s, 1, %s, %s, 0)", (producer, series, sent, in_flight)
        )

    async def requests(self, producer: int, series: int, rows: list[tuple[float, float, float, ErrorKind]]) -> None:
        """(seconds after the start, dispatch ms, service ms, error) each; all in one frame."""
        self.seq += 1
        async with self.connection.cursor() as cursor:
            await cursor.executemany(
                "INSERT INTO request_timing VALUES (%s, %s, %s, 0, %s, %s, 0, 0, 0, 0, 0, 0, 0, 200, %s, 0, 0, %s, %s, "
                "%s, gen_random_uuid())",
                [
                    (
                        STARTED + timedelta(seconds=at),
                        series,
                        producer,
                        round(dispatch * 1e3),
                        round(service * 1e3),
                        error,
                        EventFlag.RAMP_UP if at < RAMP_UP_S else 0,
                        bucket_of(service * 1e3),
                        bucket_of((dispatch + service) * 1e3),
                    )
                    for at, dispatch, service, error in rows
                ],
            )
        await self.connection.execute(
            "INSERT INTO frames (producer_id, seq, events) VALUES (%s, %s, %s)", (producer, self.seq, len(rows))
        )
        await self.connection.execute("DELETE FROM timing_part WHERE series_id = %s", (series,))
        await self.connection.execute(ROLL_UP, (series,))
        await self.connection.execute(
            "UPDATE producer SET last_seq = %s, frames = frames + 1, events = events + %s WHERE producer_id = %s",
            (self.seq, len(rows), producer),
        )

    async def cpu(self, instance: str, usage: float, missed: range = range(0)) -> None:
        for second in set(range(30)) - set(missed):
            await self.connection.execute(
                "INSERT INTO resource_sample VALUES (%s, 'test', 'autmatrix-backend', 'autmatrix', %s, true, %s)",
                (STARTED + timedelta(seconds=second), instance, Jsonb({"cpu_usage": usage})),
            )


@pytest.fixture
async def rows(postgres_dsn: str) -> AsyncIterator[Rows]:
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
        yield Rows(connection)


def ended(phase: Phase = Phase.FINISHED, **fields: Any) -> RunState:
    return state(30, phase, started=STARTED, **fields)


async def report(dsn: str, over: RunState, asked: RunDesired = ASKED) -> dict[str, Any]:
    facts = await Store(dsn).gather(asked, over, Observed(), {})
    return build_report(BENCHMARKS, facts)


async def fill(rows: Rows) -> tuple[int, int]:
    """25 s at 40 requests/s of 11 to 110 ms after a slow ramp-up; two fail, one is cancelled; two workflows."""
    producer, series = await rows.producer(), await rows.series(Kind.REQUEST, "create")
    fast = [
        (RAMP_UP_S + n / 40, 1.0, 10.0 + n % 100, ErrorKind.STATUS if n in (3, 500) else ErrorKind.OK)
        for n in range(999)
    ]
    slow = [(n / 10, 0.0, 3_000.0, ErrorKind.OK) for n in range(20)]
    cancelled = [(29.9, 0.0, 9_000.0, ErrorKind.CANCELLED)]
    await rows.requests(producer, series, [*slow, *fast, *cancelled])
    await rows.sent(producer, series, 1020)
    workflow = await rows.series(Kind.WORKFLOW, "workflow")
    await rows.requests(producer, workflow, [(12, 0.0, 4_000.0, ErrorKind.OK), (24, 0.0, 6_000.0, ErrorKind.OK)])
    await rows.sent(producer, workflow, 2)
    return producer, series


async def test_a_report_holds_the_stores_figures(rows: Rows, postgres_dsn: str) -> None:
    await fill(rows)
    await rows.cpu("1", 0.4)
    await rows.cpu("2", 0.6)
    await rows.cpu("3", 0.5, missed=range(14, 17))
    body = await report(postgres_dsn, ended())

    (line,) = body["results"]
    counts = {name: line[name] for name in ("sent", "stored", "held", "missing", "succeeded", "failed", "cancelled")}
    assert counts == {
        "sent": 1020,
        "stored": 1020,
        "held": 0,
        "missing": 0,
        "succeeded": 1017,
        "failed": 2,
        "cancelled": 1,
    }
    assert line["errors"] == {"status": 2, "cancelled": 1}
    assert line["throughput"] == pytest.approx(1020 / 30)
    assert line["service_time_ms"]["p50"] == pytest.approx(61, rel=0.02)
    assert line["response_time_ms"]["p50"] == pytest.approx(62, rel=0.02)
    assert line["response_time_ms"]["p99"] == pytest.approx(3_000, rel=0.01)
    assert line["response_time_ms"]["max"] == 9_000
    mean = (20 * 3_000 + sum(11.0 + n % 100 for n in range(999)) + 9_000) / 1020
    assert line["response_time_ms"]["mean"] == pytest.approx(mean, abs=0.001)

    (workflow,) = body["workflows"]
    assert (workflow["count"], workflow["response_time_ms"]["mean"]) == (2, 5_000)

    compared = {item["metric"]: item for item in body["benchmark_comparison"] if item["system"] == "autmatrix"}
    response = compared["api_response_time"]
    assert (response["verdict"], response["passed"], response["samples"]) == ("met", True, 1000), (
        "without ramp-up, with the one cut off after 9 s: it would have ended beyond the limit"
    )
    assert response["actual"] == pytest.approx(105, rel=0.01), "the 950th of 1,000"
    assert response["deviation"] == pytest.approx((105 - 200) / 200, abs=0.01)
    assert compared["cpu_usage"]["actual"] == pytest.approx(0.5)
    assert compared["cpu_usage"]["samples"] == 25
    assert compared["throughput"]["verdict"] == "insufficient", "40 a second were sent, 100 are the target"
    assert compared["throughput"]["actual"] == pytest.approx(999 / 25)
    assert compared["error_rate"]["actual"] == pytest.approx(2 / 999, rel=1e-3)
    assert compared["memory_usage"]["actual"] is None
    others = [item for item in body["benchmark_comparison"] if item["system"] != "autmatrix"]
    assert {item["metric"] for item in others if item["system"] == "relaycore"} == {
        "routing_latency",
        "cost_optimization_time",
        "cpu_usage",
        "memory_usage",
    }, "it is loaded through AutoMatrix, not called"
    assert {item["verdict"] for item in others} == {"insufficient"}

    (gate,) = body["gates"]
    assert (gate["verdict"], gate["actual"], gate["target"]) == ("met", 5_000, 30_000)
    assert (body["verdict"], body["exit_code"], body["stopped"]) == ("met", 0, False)
    assert body["overall_score"] == 100.0
    scored = body["system_scores"]["autmatrix"]
    assert (scored["judged"], scored["total"]) == (3, 6), "response time, errors and CPU were judged"
    assert body["critical_issues"] == []

    points = {point["second"]: point for point in body["timeline"]["points"]}
    middle = points[int(STARTED.timestamp()) + 15]
    assert middle["systems"]["autmatrix"]["rate"] == 40
    assert middle["replicas"] == {"autmatrix-backend": 3}, "three scrapes that failed are no replica lost"
    assert middle["resources"] == {"autmatrix-backend": {"cpu_usage": 0.5}}
    # The 40 requests due in this second took 10 to 49 ms, each begun 1 ms late.
    told = [
        middle["systems"]["autmatrix"][f"{of}_{name}_ms"] for of in ("service", "response") for name in ("p50", "p95")
    ]
    assert told == pytest.approx([29, 47, 30, 48], rel=0.01)
    finished = points[int(STARTED.timestamp()) + 12]["workflows"]["story"]
    assert (finished["rate"], finished["response_p99_ms"]) == (1, pytest.approx(4_000, rel=0.01))
    (test,) = body["tests"]
    assert (test["total_requests"], test["failed_requests"], test["verdict"]) == (1020, 2, "met")
    assert {line["of"]: line["count"] for line in body["distributions"]} == {"requests": 1020, "workflows": 2}


@pytest.mark.parametrize(("rate", "verdict"), [(120.0, "missed"), (None, "insufficient")], ids=["arrivals", "users"])
async def test_throughput_is_what_ended_in_the_run_against_what_was_due_in_it(
    rows: Rows, postgres_dsn: str, rate: float | None, verdict: str
) -> None:
    """120 a second are due for 25 s: 90 are answered, 20 after the end only, and for 10 nobody is free."""
    producer, series = await rows.producer(), await rows.series(Kind.REQUEST, "create")
    answered = [(RAMP_UP_S + n / 90, 1.0, 10.0, ErrorKind.OK) for n in range(90 * 25)]
    late = [(30 + n / 90, 8_000.0, 10.0, ErrorKind.OK) for n in range(20 * 25)]
    refused = [(29.0, 0.0, 0.0, ErrorKind.REFUSED)] * (10 * 25)
    await rows.requests(producer, series, [*answered, *late, *refused])
    await rows.sent(producer, series, 120 * 25)
    loads = tuple(load.model_copy(update={"rate": rate}) for load in ASKED.loads)
    body = await report(postgres_dsn, ended(), ASKED.model_copy(update={"loads": loads}))
    (throughput,) = [item for item in body["benchmark_comparison"] if item["metric"] == "throughput"]
    assert throughput["verdict"] == verdict
    assert throughput["actual"] == pytest.approx(90, abs=0.1)


async def test_instances_are_told_apart_by_the_median_of_what_they_told_while_ready(
    rows: Rows, postgres_dsn: str
) -> None:
    for second in range(30):
        for instance, rate, ready in (("1", 10.0, True), ("2", 90.0 if second < 9 else 20.0, True), ("3", 1.0, False)):
            await rows.connection.execute(
                "INSERT INTO resource_sample VALUES (%s, 'test', 'autmatrix-backend', 'autmatrix', %s, %s, %s)",
                (STARTED + timedelta(seconds=second), instance, ready, Jsonb({"request_rate": rate, "cpu_usage": 0.1})),
            )
    facts = await Store(postgres_dsn).gather(ASKED, ended(), Observed(), {})
    told = [(one.instance, one.metric, one.median, one.seconds) for one in facts.instances]
    assert told == [("1", "request_rate", 10.0, 25), ("2", "request_rate", 20.0, 25)], "after ramp-up"


async def test_a_slow_run_is_missed_with_advice_and_issues(rows: Rows, postgres_dsn: str) -> None:
    producer, series = await rows.producer(), await rows.series(Kind.REQUEST, "create")
    await rows.requests(producer, series, [(6 + n / 100, 0.0, 700.0, ErrorKind.OK) for n in range(500)])
    await rows.sent(producer, series, 503)
    body = await report(postgres_dsn, ended())
    assert (body["verdict"], body["exit_code"]) == ("missed", 1)
    (missed,) = [item for item in body["benchmark_comparison"] if item["metric"] == "api_response_time"]
    assert (missed["verdict"], missed["score"]) == ("critical", 0.0)
    assert "create" in missed["recommendation"]
    assert body["recommendations"] == [missed["recommendation"]]
    assert body["results"][0]["missing"] == 3
    assert [issue.split(" is ")[0] for issue in body["critical_issues"]] == [
        "AutoMatrix api_response_time p95",
        "3 requests were sent and are not in the store",
    ]


async def test_a_run_of_which_requests_are_missing_from_the_store_confirms_nothing(
    rows: Rows, postgres_dsn: str
) -> None:
    producer, series = await rows.producer(), await rows.series(Kind.REQUEST, "create")
    await rows.requests(producer, series, [(6 + n / 100, 0.0, 20.0, ErrorKind.OK) for n in range(500)])
    await rows.sent(producer, series, 501)
    body = await report(postgres_dsn, ended())
    assert (body["verdict"], body["exit_code"]) == ("invalid", 3)
    assert body["critical_issues"] == ["1 requests were sent and are not in the store"]


@pytest.mark.parametrize(
    ("phase", "verdict", "code"),
    [(Phase.FINISHED, "insufficient", 3), (Phase.STOPPED, "insufficient", 3), (Phase.FAILED, "invalid", 4)],
)
async def test_a_run_without_measurements_is_no_pass(postgres_dsn: str, phase: Phase, verdict: str, code: int) -> None:
    body = await report(postgres_dsn, ended(phase, reason="nobody came"))
    assert (body["verdict"], body["exit_code"], body["overall_score"]) == (verdict, code, None)
    assert body["stopped"] is (phase is Phase.STOPPED)
    assert any("nobody came" in issue for issue in body["critical_issues"]) is (phase is Phase.FAILED)


async def test_what_a_lost_worker_held_is_told_apart_from_what_is_missing(rows: Rows, postgres_dsn: str) -> None:
    producer, series = await rows.producer(final=False), await rows.series(Kind.REQUEST, "create")
    await rows.requests(producer, series, [(6 + n / 100, 0.0, 70.0, ErrorKind.OK) for n in range(200)])
    await rows.sent(producer, series, 207, in_flight=7)
    lost = LostWorker(
        worker="w1",
        epoch=1,
        last_ack_at=STARTED,
        declared_at=STARTED,
        acknowledged=200,
        in_flight=7,
        held_ms=900.0,
        held_requests=40,
    )
    body = await report(postgres_dsn, ended(lost=(lost,)))
    line = body["results"][0]
    assert (line["sent"], line["stored"], line["held"], line["missing"]) == (207, 200, 7, 0)
    assert body["run"]["lost_workers"][0]["held_requests"] == 40
    assert any("w1" in issue and "40" in issue for issue in body["critical_issues"])


async def test_late_rows_give_a_higher_revision_and_nothing_else_does(rows: Rows, postgres_dsn: str) -> None:
    producer, series = await fill(rows)
    board = RunBoard(RUN, desired=ASKED, state=ended())
    store = Store(postgres_dsn)
    for _ in range(2):
        # The second time it is a run that an earlier validator has reported.
        await Reporter(store, BENCHMARKS, settle_s=2.0, late_s=0.05).report(board)
    assert await store.has_report(RUN)
    await rows.connection.execute("DELETE FROM report")

    class LateStore(Store):
        """A store into which rows come just after the first report of this reporter."""

        async def write_report(self, run: str, body: dict[str, Any]) -> int:
            revision = await super().write_report(run, body)
            if revision == 1:
                await rows.requests(producer, series, [(20, 0.0, 50.0, ErrorKind.OK)])
            return revision

    await Reporter(LateStore(postgres_dsn), BENCHMARKS, settle_s=2.0, late_s=0.05).report(board)
    stored = await (
        await rows.connection.execute(
            "SELECT revision, body->'revision', body->'results'->0->'stored' FROM report ORDER BY revision"
        )
    ).fetchall()
    assert stored == [(1, 1, 1020), (2, 2, 1021)]


async def test_a_run_is_settled_when_every_frame_its_workers_speak_of_is_committed(
    rows: Rows, postgres_dsn: str
) -> None:
    await fill(rows)
    stored = await Store(postgres_dsn).read_stored(RUN)

    def told(last_seq: int) -> RunState:
        progress = SystemProgress(system="autmatrix", sent=1022, acknowledged=1022, last_seq=last_seq)
        return ended(workers=(WorkerProgress(worker="w1", run=RUN, epoch=1, systems=(progress,)),))

    assert is_settled(stored, told(2))
    assert not is_settled(stored, told(3))


async def test_an_unreachable_store_is_a_passing_fault() -> None:
    with pytest.raises(TransientError, match="the store"):
        await Store("postgresql://nobody@127.0.0.1:1/none").has_report(RUN)
