-- The JSON of a record as it was published, digit for digit: jsonb keeps 1e22 and -0.0 as other numbers, and the hash of
-- the record would not match what is read again.
ALTER TABLE scaling_record ALTER COLUMN record TYPE json;
-- A text that jsonb cannot hold would be kept and then fail every query that looks into it.
ALTER TABLE scaling_record ADD CONSTRAINT scaling_record_readable CHECK (record::jsonb IS NOT NULL);
