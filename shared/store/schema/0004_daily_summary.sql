-- What a canary run did on one day (of the validator's time zone), as JSON: revision 0 while the day goes on, 1 once it is
-- over, one more for each time that late data changed it. "events": how many stored events it counts.
CREATE TABLE daily_summary (
    environment text NOT NULL,
    run         text NOT NULL,
    day         date NOT NULL,
    canary      text NOT NULL,
    revision    integer NOT NULL,
    complete    boolean NOT NULL,
    events      bigint NOT NULL,
    written_at  timestamptz NOT NULL DEFAULT now(),
    body        jsonb NOT NULL,
    PRIMARY KEY (run, day)
);
CREATE INDEX daily_summary_by_day ON daily_summary (environment, day DESC);
