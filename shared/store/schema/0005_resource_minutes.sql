-- What each instance told of each metric within a minute ("at": its begin): so many values, their sum, the most, when that
-- was, and the least. Committed with the samples it counts, the same on both sides, so that days are read at once.
CREATE TABLE resource_minute (
    environment text NOT NULL,
    service     text NOT NULL,
    system      text NOT NULL,
    instance    text NOT NULL,
    metric      text NOT NULL,
    at          timestamptz NOT NULL,
    n           integer NOT NULL,
    total       double precision NOT NULL,
    most        double precision NOT NULL,
    most_at     timestamptz NOT NULL,
    least       double precision NOT NULL,
    PRIMARY KEY (environment, service, instance, metric, at)
) WITH (fillfactor = 70);
CREATE INDEX resource_minute_by_time ON resource_minute (environment, at);
