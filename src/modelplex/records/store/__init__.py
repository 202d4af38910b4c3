"""The store of records: what every call was, in SQLite or PostgreSQL, to be read after a run."""
