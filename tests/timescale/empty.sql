-- Drops everything in the schema public that no extension put there, and every job.
DO $$
DECLARE
    line text;
BEGIN
    PERFORM delete_job(job_id) FROM timescaledb_information.jobs WHERE job_id >= 1000;
    FOREACH line IN ARRAY ARRAY(
        SELECT format('DROP MATERIALIZED VIEW IF EXISTS %I.%I CASCADE', view_schema, view_name)
        FROM timescaledb_information.continuous_aggregates
    ) || ARRAY(
        SELECT format('DROP %s IF EXISTS %s CASCADE', kind, c.oid::regclass)
        FROM pg_class c
        JOIN (VALUES ('r', 'TABLE'), ('p', 'TABLE'), ('v', 'VIEW'), ('m', 'MATERIALIZED VIEW'), ('S', 'SEQUENCE'))
            AS k(relkind, kind) ON k.relkind = c.relkind::text
        WHERE c.relnamespace = 'public'::regnamespace
            AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
            AND NOT EXISTS (SELECT FROM timescaledb_information.continuous_aggregates WHERE view_name = c.relname)
    ) || ARRAY(
        SELECT format('DROP ROUTINE IF EXISTS %s CASCADE', p.oid::regprocedure)
        FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace
            AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
    )
    LOOP
        EXECUTE line;
    END LOOP;
END
$$;
