-- The large tables on plain PostgreSQL: daily partitions made ahead and dropped on time, and roll-ups that a task of the
-- collector folds. No index orders request_timing: rows come in the order of time, which BRIN needs no more than.

DROP FUNCTION ensure_partitions(regclass, timestamptz, integer);

-- Makes the daily partitions (days of UTC) of a table that hold these moments and those between; how many are new.
CREATE FUNCTION ensure_partitions(parent regclass, earliest timestamptz, latest timestamptz) RETURNS integer
    LANGUAGE plpgsql AS $$
DECLARE
    day     timestamptz := date_trunc('day', earliest, 'UTC');
    name    text;
    created integer := 0;
BEGIN
    WHILE day <= latest LOOP
        name := parent::text || to_char(day AT TIME ZONE 'UTC', '"_p"YYYYMMDD');
        IF to_regclass(name) IS NULL THEN
            EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF %s FOR VALUES FROM (%L) TO (%L)',
                           name, parent, day, day + interval '1 day');
            created := created + 1;
        END IF;
        day := day + interval '1 day';
    END LOOP;
    RETURN created;
END $$;

-- Drops the partitions of a table all of whose rows are older than a moment; how many.
CREATE FUNCTION drop_partitions(parent regclass, before timestamptz) RETURNS integer
    LANGUAGE plpgsql AS $$
DECLARE
    part    regclass;
    dropped integer := 0;
BEGIN
    FOR part IN
        SELECT inhrelid::regclass FROM pg_inherits
         WHERE inhparent = parent
           AND right(inhrelid::regclass::text, 8) <= to_char((before - interval '1 day') AT TIME ZONE 'UTC', 'YYYYMMDD')
    LOOP
        EXECUTE format('DROP TABLE %s', part);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;

DROP INDEX request_timing_by_series;
ALTER TABLE request_timing ALTER COLUMN trace_id DROP NOT NULL;
CREATE INDEX request_timing_by_time ON request_timing USING brin (at) WITH (pages_per_range = 64, autosummarize = on);

CREATE INDEX timing_part_by_series ON timing_part (series_id, at);

-- The requests and workflows whose trace was recorded: few, and found without a look at all the others.
CREATE TABLE request_trace (
    at          timestamptz NOT NULL,  -- done
    series_id   integer NOT NULL,
    trace_id    uuid NOT NULL,
    response_us bigint NOT NULL
) PARTITION BY RANGE (at);
CREATE INDEX request_trace_by_series ON request_trace (series_id, at);
SELECT ensure_partitions('request_trace', min(at), max(at)) FROM request_timing;
INSERT INTO request_trace
SELECT at, series_id, trace_id, service_us + dispatch_us FROM request_timing WHERE flags & 1 <> 0;

-- Parts, folded: one row of a series and ten seconds, and one of a series and hour.
CREATE TABLE timing_folded_window (
    LIKE timing_part INCLUDING DEFAULTS, PRIMARY KEY (series_id, at, ramp_up, cancelled)
);
CREATE TABLE timing_folded_hour (
    LIKE timing_part INCLUDING DEFAULTS, PRIMARY KEY (series_id, at, ramp_up, cancelled)
);
CREATE INDEX timing_folded_window_by_time ON timing_folded_window (at);
CREATE INDEX timing_folded_hour_by_time ON timing_folded_hour (at);

-- Every event that is committed counts at once in both, in each as long as it is kept. A reader adds up what has the same
-- series and time: what is not folded yet stands beside what is.
CREATE VIEW timing_window AS
SELECT * FROM timing_part UNION ALL SELECT * FROM timing_folded_window;

CREATE VIEW timing_hour AS
SELECT committed_at, series_id, date_bin('1 hour', at, timestamptz '2000-01-01 00:00:00+00') AS at, ramp_up, cancelled, n,
       failed, service_sum_us, response_sum_us, service_max_us, response_max_us, bytes_in, bytes_out, streams,
       tokens, stream_us, errors, service, response, ttft, gap
  FROM timing_part
UNION ALL SELECT * FROM timing_folded_hour;

-- Takes the parts committed before a moment and adds them to both. In a transaction: a reader finds an event once.
CREATE FUNCTION fold_timings(before timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    fold text := $fold$
        INSERT INTO %1$I AS kept
        SELECT max(committed_at), series_id, date_bin(%2$L, at, timestamptz '2000-01-01 00:00:00+00') AS at, ramp_up,
               cancelled, sum(n), sum(failed), sum(service_sum_us), sum(response_sum_us), max(service_max_us),
               max(response_max_us), sum(bytes_in), sum(bytes_out), sum(streams), sum(tokens), sum(stream_us),
               histogram_sum(errors), histogram_sum(service), histogram_sum(response), histogram_sum(ttft),
               histogram_sum(gap)
          FROM gone GROUP BY series_id, 3, ramp_up, cancelled ORDER BY series_id, 3, ramp_up, cancelled
        ON CONFLICT (series_id, at, ramp_up, cancelled) DO UPDATE
           SET committed_at = excluded.committed_at, n = kept.n + excluded.n, failed = kept.failed + excluded.failed,
               service_sum_us = kept.service_sum_us + excluded.service_sum_us,
               response_sum_us = kept.response_sum_us + excluded.response_sum_us,
               service_max_us = greatest(kept.service_max_us, excluded.service_max_us),
               response_max_us = greatest(kept.response_max_us, excluded.response_max_us),
               bytes_in = kept.bytes_in + excluded.bytes_in, bytes_out = kept.bytes_out + excluded.bytes_out,
               streams = kept.streams + excluded.streams, tokens = kept.tokens + excluded.tokens,
               stream_us = kept.stream_us + excluded.stream_us,
               errors = histogram_merge(kept.errors || excluded.errors),
               service = histogram_merge(kept.service || excluded.service),
               response = histogram_merge(kept.response || excluded.response),
               ttft = histogram_merge(kept.ttft || excluded.ttft), gap = histogram_merge(kept.gap || excluded.gap)
        $fold$;
BEGIN
    EXECUTE 'WITH gone AS (DELETE FROM timing_part WHERE committed_at < $1 RETURNING *), windows AS ('
            || format(fold, 'timing_folded_window', '10 seconds') || ')' || format(fold, 'timing_folded_hour', '1 hour')
      USING before;
END $$;

SELECT ensure_partitions('request_timing', now(), now()),
       ensure_partitions('request_trace', now(), now()),
       ensure_partitions('spans', now(), now()),
       ensure_partitions('resource_sample', now(), now());
