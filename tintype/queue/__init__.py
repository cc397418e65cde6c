"""The queue: PgQueuer on the same PostgreSQL. A job carries only the generation's id; the row is the truth."""
