"""Named queries of the operator's door: runs, reports, breaches, scaling and traces as lists. Reads only."""

from typing import Any

from psycopg import Connection
from psycopg.rows import dict_row

Row = dict[str, Any]

_RUNS = """
SELECT r.run, r.phase, r.suite, r.requested_by, r.requested_at, r.started_at, r.ended_at, r.reason, r.desired,
       p.body ->> 'verdict' AS verdict, (p.body ->> 'overall_score')::double precision AS overall_score
  FROM run r
  LEFT JOIN LATERAL (SELECT body FROM report WHERE report.run = r.run ORDER BY revision DESC LIMIT 1) p ON true
 WHERE r.environment = %(environment)s AND (%(run)s::text IS NULL OR r.run = %(run)s)
 ORDER BY r.requested_at DESC, r.run DESC
 LIMIT %(limit)s
"""

_REPORT = "SELECT body FROM report WHERE run = %s ORDER BY revision DESC LIMIT 1"

_LAST_REPORTED = """
SELECT r.run FROM run r
 WHERE r.environment = %s AND EXISTS (SELECT FROM report p WHERE p.run = r.run)
 ORDER BY r.requested_at DESC, r.run DESC
 LIMIT 1
"""

_BREACHES = """
SELECT * FROM (
    SELECT DISTINCT ON (breach) event, status, at
      FROM breach_revision
     WHERE environment = %(environment)s AND (%(run)s::text IS NULL OR run = %(run)s)
     ORDER BY breach, revision DESC
) latest
 WHERE NOT %(open)s OR status <> 'resolved'
 ORDER BY at DESC
 LIMIT %(limit)s
"""

# A decision belongs to a run that it names, or during which it was made; results and effects follow their decision.
_SCALING = """
WITH asked AS (
    SELECT requested_at, ended_at FROM run WHERE run = %(run)s
)
SELECT record FROM scaling_record s
 WHERE environment = %(environment)s
   AND (%(service)s::text IS NULL OR service = %(service)s)
   AND (%(run)s::text IS NULL OR decision IN (
        SELECT d.decision FROM scaling_record d
         WHERE d.environment = %(environment)s AND d.kind = 'decision'
           AND (d.record -> 'runs' ? %(run)s OR EXISTS (
                SELECT FROM asked WHERE d.at BETWEEN requested_at AND coalesce(ended_at, now())))))
 ORDER BY at DESC, service, sequence DESC
 LIMIT %(limit)s
"""

_CROSSING = """
SELECT s.trace_id::text AS trace_id
  FROM spans s
 WHERE s.service = ANY (%(services)s)
   AND s.at >= (SELECT requested_at FROM run WHERE run = %(run)s)
   AND s.trace_id IN (
        SELECT t.trace_id FROM request_timing t JOIN series e USING (series_id)
         WHERE e.run = %(run)s AND t.at >= (SELECT requested_at FROM run WHERE run = %(run)s))
 GROUP BY s.trace_id
HAVING count(DISTINCT s.service) = cardinality(%(services)s::text[])
 ORDER BY max(s.duration_us) DESC
 LIMIT 1
"""

_SPANS = """
SELECT service, name, at, duration_us, status, encode(span_id, 'hex') AS span_id,
       encode(parent_span_id, 'hex') AS parent_span_id
  FROM spans WHERE trace_id = %s ORDER BY at, duration_us DESC
"""


def list_runs(connection: Connection[Any], environment: str, run: str | None = None, limit: int = 50) -> list[Row]:
    """Runs with their latest report's verdict and score, newest first; only ``run`` when it is given."""
    return _rows(connection, _RUNS, {"environment": environment, "run": run, "limit": limit})


def read_latest_report(connection: Connection[Any], run: str) -> Row | None:
    """The highest revision of a run's report."""
    rows = _rows(connection, _REPORT, (run,))
    return rows[0]["body"] if rows else None


def find_last_reported(connection: Connection[Any], environment: str) -> str | None:
    """The newest run that has a report."""
    rows = _rows(connection, _LAST_REPORTED, (environment,))
    return rows[0]["run"] if rows else None


def list_breaches(
    connection: Connection[Any], environment: str, run: str | None = None, *, only_open: bool = False, limit: int = 100
) -> list[Row]:
    """The latest event of every episode, newest first, as plain ``shared.contracts.breach.Breach``."""
    asked = {"environment": environment, "run": run, "open": only_open, "limit": limit}
    return [row["event"].get("data", row["event"]) for row in _rows(connection, _BREACHES, asked)]


def list_scaling(
    connection: Connection[Any], environment: str, service: str | None = None, run: str | None = None, limit: int = 100
) -> list[Row]:
    """Records of the audit, newest first, as plain ``shared.contracts.scaling.ScalingRecord``."""
    asked = {"environment": environment, "service": service, "run": run, "limit": limit}
    return [row["record"] for row in _rows(connection, _SCALING, asked)]


def find_crossing_trace(connection: Connection[Any], run: str, services: list[str]) -> str | None:
    """A trace (32 hex digits) that began with a request of this run and has spans of all these services."""
    rows = _rows(connection, _CROSSING, {"run": run, "services": services})
    return rows[0]["trace_id"].replace("-", "") if rows else None


def read_trace(connection: Connection[Any], trace_id: str) -> list[Row]:
    """The spans of a trace in order of their start."""
    return _rows(connection, _SPANS, (trace_id,))


def _rows(connection: Connection[Any], query: str, arguments: Any) -> list[Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, arguments).fetchall()
