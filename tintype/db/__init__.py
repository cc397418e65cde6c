"""PostgreSQL: the embedded server, sessions, migrations, notifications."""
