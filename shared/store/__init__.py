"""The one home of SQL: migrations, what the collector writes, and the named queries others read with."""
