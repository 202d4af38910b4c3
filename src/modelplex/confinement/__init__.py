"""What a gateway gives up once it has started: files, programs, listeners and system calls that it
does not need. See docs/why/isolation.md, "The gateway itself".
"""
