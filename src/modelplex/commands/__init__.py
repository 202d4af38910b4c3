"""The commands that read the record: runs, show, usage, tail, export; and stop."""
