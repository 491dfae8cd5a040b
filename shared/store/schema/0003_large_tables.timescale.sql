-- The large tables on TimescaleDB: hypertables, and roll-ups as continuous aggregates over histogram buckets. They are
-- ordered by the time of the commit, not of the event: what comes late is part of the real-time tail like all that is
-- new, so that no event is ever committed and not counted. Policies are set by the collector from its settings.

DROP FUNCTION ensure_partitions(regclass, timestamptz, integer);

ALTER TABLE request_timing RENAME TO old_request_timing;
ALTER TABLE spans RENAME TO old_spans;
ALTER TABLE resource_sample RENAME TO old_resource_sample;
DROP INDEX request_timing_by_series, spans_by_trace, resource_sample_by_service;

CREATE TABLE request_timing (LIKE old_request_timing);
ALTER TABLE request_timing ALTER COLUMN trace_id DROP NOT NULL;
SELECT create_hypertable('request_timing', by_range('at', interval '1 day'), create_default_indexes => false);
CREATE INDEX request_timing_by_time ON request_timing USING brin (at) WITH (pages_per_range = 64, autosummarize = on);
ALTER TABLE request_timing
    SET (timescaledb.compress, timescaledb.compress_segmentby = 'series_id', timescaledb.compress_orderby = 'at');

CREATE TABLE spans (LIKE old_spans INCLUDING DEFAULTS);
SELECT create_hypertable('spans', by_range('at', interval '1 day'), create_default_indexes => false);
CREATE INDEX spans_by_trace ON spans (trace_id);
ALTER TABLE spans
    SET (timescaledb.compress, timescaledb.compress_segmentby = 'service', timescaledb.compress_orderby = 'trace_id, at');

CREATE TABLE resource_sample (LIKE old_resource_sample);
SELECT create_hypertable('resource_sample', by_range('at', interval '1 day'), create_default_indexes => false);
CREATE INDEX resource_sample_by_service ON resource_sample (service, at);
ALTER TABLE resource_sample
    SET (timescaledb.compress, timescaledb.compress_segmentby = 'service', timescaledb.compress_orderby = 'at');

INSERT INTO request_timing SELECT * FROM old_request_timing;
INSERT INTO spans SELECT * FROM old_spans;
INSERT INTO resource_sample SELECT * FROM old_resource_sample;
DROP TABLE old_request_timing, old_spans, old_resource_sample;

-- The requests and workflows whose trace was recorded: few, and found without a look at all the others.
CREATE TABLE request_trace (
    at          timestamptz NOT NULL,  -- done
    series_id   integer NOT NULL,
    trace_id    uuid NOT NULL,
    response_us bigint NOT NULL
);
SELECT create_hypertable('request_trace', by_range('at', interval '1 day'), create_default_indexes => false);
CREATE INDEX request_trace_by_series ON request_trace (series_id, at);
ALTER TABLE request_trace
    SET (timescaledb.compress, timescaledb.compress_segmentby = 'series_id', timescaledb.compress_orderby = 'at');
INSERT INTO request_trace
SELECT at, series_id, trace_id, service_us + dispatch_us FROM request_timing WHERE flags & 1 <> 0;

SELECT create_hypertable('timing_part', by_range('committed_at', interval '6 hours'),
                         create_default_indexes => false, migrate_data => true);
CREATE INDEX timing_part_by_series ON timing_part (series_id, committed_at);

-- Every event that is committed counts at once in both, in each as long as it is kept. A reader adds up what has the same
-- series and time.
CREATE MATERIALIZED VIEW timing_window
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket('1 hour', committed_at) AS committed_at, series_id, at, ramp_up, cancelled,
       sum(n)::bigint AS n, sum(failed)::bigint AS failed, sum(service_sum_us)::bigint AS service_sum_us,
       sum(response_sum_us)::bigint AS response_sum_us, max(service_max_us) AS service_max_us,
       max(response_max_us) AS response_max_us, sum(bytes_in)::bigint AS bytes_in, sum(bytes_out)::bigint AS bytes_out,
       sum(streams)::bigint AS streams, sum(tokens)::bigint AS tokens, sum(stream_us)::bigint AS stream_us,
       histogram_sum(errors) AS errors, histogram_sum(service) AS service, histogram_sum(response) AS response,
       histogram_sum(ttft) AS ttft, histogram_sum(gap) AS gap
  FROM timing_part GROUP BY 1, series_id, at, ramp_up, cancelled
WITH NO DATA;

CREATE MATERIALIZED VIEW timing_hour
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket('1 hour', committed_at) AS committed_at, series_id,
       date_bin('1 hour', at, timestamptz '2000-01-01 00:00:00+00') AS at, ramp_up, cancelled,
       sum(n)::bigint AS n, sum(failed)::bigint AS failed, sum(service_sum_us)::bigint AS service_sum_us,
       sum(response_sum_us)::bigint AS response_sum_us, max(service_max_us) AS service_max_us,
       max(response_max_us) AS response_max_us, sum(bytes_in)::bigint AS bytes_in, sum(bytes_out)::bigint AS bytes_out,
       sum(streams)::bigint AS streams, sum(tokens)::bigint AS tokens, sum(stream_us)::bigint AS stream_us,
       histogram_sum(errors) AS errors, histogram_sum(service) AS service, histogram_sum(response) AS response,
       histogram_sum(ttft) AS ttft, histogram_sum(gap) AS gap
  FROM timing_part GROUP BY 1, series_id, 3, ramp_up, cancelled
WITH NO DATA;
