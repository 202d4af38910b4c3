"""What happened: the Record of each request, and its sinks."""
