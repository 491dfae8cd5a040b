"""A run as files for notebooks: what each table holds, where it comes from, how it is written. Needs pyarrow."""
