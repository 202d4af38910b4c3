"""What happened: the Record, and one file for each sink that is told of it."""
