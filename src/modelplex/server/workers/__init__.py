"""More than one process: a supervisor that holds the listening sockets, and workers that serve."""
