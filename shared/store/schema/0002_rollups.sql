-- A histogram in the store: bigint[], an element for each bucket of shared/histogram.py that occurs, as
-- bucket * 2^40 + count, so that elements sort by bucket and several histograms of one thing may be concatenated.

CREATE FUNCTION histogram_bucket(element bigint) RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (element >> 40)::integer;

CREATE FUNCTION histogram_count(element bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN element & 1099511627775;

-- Each bucket once, ascending, with the sum of its counts.
CREATE FUNCTION histogram_merge(elements bigint[]) RETURNS bigint[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT coalesce(array_agg((bucket << 40) + n ORDER BY bucket), '{}')
              FROM (SELECT element >> 40 AS bucket, sum(element & 1099511627775)::bigint AS n
                      FROM unnest(elements) AS element GROUP BY 1) AS counted);

CREATE AGGREGATE histogram_sum(bigint[]) (
    SFUNC = array_cat, STYPE = bigint[], INITCOND = '{}',
    FINALFUNC = histogram_merge, COMBINEFUNC = array_cat, PARALLEL = SAFE
);

-- Nearest rank, as percentile_disc: the value of the bucket that holds the q-th of all; NULL of an empty histogram.
CREATE FUNCTION histogram_percentile_us(elements bigint[], q double precision) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT histogram_value_us(histogram_bucket(element))
              FROM (SELECT element, sum(histogram_count(element)) OVER (ORDER BY element) AS upto,
                           sum(histogram_count(element)) OVER () AS total
                      FROM unnest(histogram_merge(elements)) AS element) AS ranked
             WHERE upto >= greatest(1, ceil(q * total::double precision - 1e-9))
             ORDER BY element LIMIT 1);

-- What was committed of a producer, since frames are forgotten past the age of TIMINGS.
ALTER TABLE producer ADD COLUMN frames bigint NOT NULL DEFAULT 0, ADD COLUMN events bigint NOT NULL DEFAULT 0;
UPDATE producer SET frames = known.frames, events = known.events
  FROM (SELECT producer_id, count(*) AS frames, sum(events) AS events FROM frames GROUP BY 1) AS known
 WHERE known.producer_id = producer.producer_id;
CREATE INDEX frames_by_age ON frames USING brin (committed_at);

-- What one commit added to ten seconds ("at": their start) of a series; committed with the rows it counts. Ramp-up and
-- cancelled requests are counted apart. errors: as a histogram, the ErrorKind in place of the bucket. streams: answers with
-- tokens; stream_us: from their first token to their end; ttft and gap: their time to it, and their longest gap.
CREATE TABLE timing_part (
    committed_at    timestamptz NOT NULL DEFAULT now(),
    series_id       integer NOT NULL,
    at              timestamptz NOT NULL,
    ramp_up         boolean NOT NULL,
    cancelled       boolean NOT NULL,
    n               bigint NOT NULL,
    failed          bigint NOT NULL,
    service_sum_us  bigint NOT NULL,
    response_sum_us bigint NOT NULL,
    service_max_us  bigint NOT NULL,
    response_max_us bigint NOT NULL,
    bytes_in        bigint NOT NULL,
    bytes_out       bigint NOT NULL,
    streams         bigint NOT NULL DEFAULT 0,
    tokens          bigint NOT NULL DEFAULT 0,
    stream_us       bigint NOT NULL DEFAULT 0,
    errors          bigint[] NOT NULL,
    service         bigint[] NOT NULL,
    response        bigint[] NOT NULL,
    ttft            bigint[] NOT NULL DEFAULT '{}',
    gap             bigint[] NOT NULL DEFAULT '{}'
);

-- What earlier versions stored is rolled up once.
INSERT INTO timing_part
SELECT now(), series_id, at, flags <> 0, error = 11, sum(n), sum(failed), sum(service_sum_us), sum(response_sum_us),
       max(service_max_us), max(response_max_us), sum(bytes_in), sum(bytes_out), 0, 0, 0,
       coalesce(array_agg((error::bigint << 40) + n) FILTER (WHERE error <> 0), '{}'),
       array_agg((service_bucket::bigint << 40) + n), array_agg((response_bucket::bigint << 40) + n), '{}',
       '{}'
  FROM (SELECT series_id, date_bin('10 seconds', at, timestamptz '2000-01-01 00:00:00+00') AS at, flags & 2 AS flags,
               error, service_bucket, response_bucket, count(*) AS n,
               count(*) FILTER (WHERE error NOT IN (0, 11) OR check_result = 2) AS failed,
               sum(service_us)::bigint AS service_sum_us, sum(service_us + dispatch_us)::bigint AS response_sum_us,
               max(service_us) AS service_max_us, max(service_us + dispatch_us) AS response_max_us,
               sum(bytes_in)::bigint AS bytes_in, sum(bytes_out)::bigint AS bytes_out
          FROM request_timing GROUP BY 1, 2, 3, 4, 5, 6) AS counted
 GROUP BY series_id, 3, 4, 5;

-- Runs that others are compared with, by name ("main", "release-3"): the newest of a name counts.
CREATE TABLE baseline (
    environment text NOT NULL,
    name        text NOT NULL,
    run         text NOT NULL,
    set_at      timestamptz NOT NULL DEFAULT now(),
    set_by      text NOT NULL DEFAULT '',
    PRIMARY KEY (environment, name, set_at)
);
