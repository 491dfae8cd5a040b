-- The store of Tidegate. Times are timestamptz, durations integer microseconds, latencies also as the bucket of
-- shared/histogram.py, computed once at ingest. Large tables are range-partitioned by day on "at"; partitions are
-- made ahead by ensure_partitions(). Names are kept once, in series and producer.

CREATE FUNCTION histogram_value_us(bucket integer) RETURNS double precision
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN power(1.02::double precision, bucket) * (2 * 1.02 / (1 + 1.02));

CREATE TABLE run (
    run          text PRIMARY KEY,
    environment  text NOT NULL,
    phase        text NOT NULL,
    generation   integer NOT NULL,
    suite        text,
    requested_by text NOT NULL DEFAULT '',
    requested_at timestamptz NOT NULL,
    started_at   timestamptz,
    ended_at     timestamptz,
    reason       text NOT NULL DEFAULT '',
    desired      jsonb NOT NULL,
    state        jsonb
);
CREATE INDEX run_by_time ON run (environment, requested_at DESC);

-- One line of results: everything that is the same for all requests of one action of one run.
CREATE TABLE series (
    series_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run       text NOT NULL,
    system    text NOT NULL,
    scenario  text NOT NULL,
    action    text NOT NULL,
    kind      smallint NOT NULL,
    UNIQUE (run, system, scenario, action, kind)
);

-- One worker in one epoch against one system, with the last frame that was committed of it.
CREATE TABLE producer (
    producer_id  integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run          text NOT NULL,
    worker       text NOT NULL,
    epoch        bigint NOT NULL,
    system       text NOT NULL,
    last_seq     bigint NOT NULL DEFAULT 0,
    final        boolean NOT NULL DEFAULT false,
    last_emitted timestamptz,
    UNIQUE (run, worker, epoch, system)
);

-- Cumulative counts of what a producer sent per action, from its latest committed frame.
CREATE TABLE sent_counter (
    producer_id integer NOT NULL REFERENCES producer,
    series_id   integer NOT NULL REFERENCES series,
    seq         bigint NOT NULL,
    sent        bigint NOT NULL,
    in_flight   integer NOT NULL,
    waiting     integer NOT NULL,
    PRIMARY KEY (producer_id, series_id)
);

-- Identity of every committed frame; a conflict here is a redelivery. Pruned past the age of TIMINGS.
CREATE TABLE frames (
    producer_id  integer NOT NULL,
    seq          bigint NOT NULL,
    events       integer NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (producer_id, seq)
);

CREATE TABLE request_timing (
    at              timestamptz NOT NULL,  -- done
    series_id       integer NOT NULL,
    producer_id     integer NOT NULL,
    user_no         integer NOT NULL,
    dispatch_us     bigint NOT NULL,       -- sent - intended
    service_us      bigint NOT NULL,       -- done - sent
    ttfb_us         bigint NOT NULL,
    connect_us      bigint NOT NULL,
    ttft_us         bigint NOT NULL,
    gap_us          bigint NOT NULL,
    bytes_in        bigint NOT NULL,
    bytes_out       bigint NOT NULL,
    tokens          integer NOT NULL,
    status          smallint NOT NULL,
    error           smallint NOT NULL,     -- shared.contracts.timing.ErrorKind
    check_result    smallint NOT NULL,     -- shared.contracts.timing.Check
    attempt         smallint NOT NULL,
    flags           smallint NOT NULL,     -- shared.contracts.timing.EventFlag
    service_bucket  smallint NOT NULL,
    response_bucket smallint NOT NULL,     -- of dispatch_us + service_us
    trace_id        uuid NOT NULL
) PARTITION BY RANGE (at);
CREATE INDEX request_timing_by_series ON request_timing (series_id, at);

CREATE TABLE spans (
    at             timestamptz NOT NULL,   -- start
    trace_id       uuid NOT NULL,
    span_id        bytea NOT NULL,
    parent_span_id bytea,
    service        text NOT NULL,
    name           text NOT NULL,
    kind           smallint NOT NULL,
    duration_us    bigint NOT NULL,
    status         smallint NOT NULL,
    attributes     jsonb NOT NULL DEFAULT '{}'
) PARTITION BY RANGE (at);
CREATE INDEX spans_by_trace ON spans (trace_id);

CREATE TABLE resource_sample (
    at          timestamptz NOT NULL,
    environment text NOT NULL,
    service     text NOT NULL,
    system      text NOT NULL,
    instance    text NOT NULL,
    ready       boolean NOT NULL,
    values      jsonb NOT NULL
) PARTITION BY RANGE (at);
CREATE INDEX resource_sample_by_service ON resource_sample (service, at);

-- Every revision of every breach; the state of an episode is its highest revision.
CREATE TABLE breach_revision (
    breach      text NOT NULL,
    revision    integer NOT NULL,
    at          timestamptz NOT NULL,
    environment text NOT NULL,
    run         text NOT NULL,
    system      text NOT NULL,
    metric      text NOT NULL,
    series      text NOT NULL,
    status      text NOT NULL,
    level       text NOT NULL,
    event       jsonb NOT NULL,
    PRIMARY KEY (breach, revision)
);
CREATE INDEX breach_revision_by_run ON breach_revision (run, at);
CREATE INDEX breach_revision_by_time ON breach_revision (environment, at DESC);

CREATE TABLE scaling_record (
    environment text NOT NULL,
    service     text NOT NULL,
    sequence    bigint NOT NULL,
    kind        text NOT NULL,
    decision    text NOT NULL,
    at          timestamptz NOT NULL,
    hash        text NOT NULL,
    record      jsonb NOT NULL,
    PRIMARY KEY (environment, service, sequence)
);
CREATE INDEX scaling_record_by_time ON scaling_record (environment, at DESC);

-- The report of a run, rewritten with a higher revision when late data changes it.
CREATE TABLE report (
    run        text NOT NULL,
    revision   integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    body       jsonb NOT NULL,
    PRIMARY KEY (run, revision)
);

-- Makes the daily partitions of a table from one day back to days_ahead ahead of a moment; returns how many are new.
CREATE FUNCTION ensure_partitions(parent regclass, around timestamptz, days_ahead integer) RETURNS integer
    LANGUAGE plpgsql AS $$
DECLARE
    day     timestamptz := date_trunc('day', around, 'UTC') - interval '1 day';
    name    text;
    created integer := 0;
BEGIN
    WHILE day <= around + make_interval(days => days_ahead) LOOP
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

SELECT ensure_partitions('request_timing', now(), 2),
       ensure_partitions('spans', now(), 2),
       ensure_partitions('resource_sample', now(), 2);
