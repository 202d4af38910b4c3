"""I/O in. Above it only the command line; below it the gateway, which it hands each request as a
bare ASGI call.

address.py      where to listen, as values: a host and port, or a socket file
socket_file.py  the life of a socket file: claimed, published, removed
connection.py   one connection: HTTP/1.1 by uvicorn and httptools, and the limits that hold on it
serve.py        all listeners of a process: start, drain, stop
"""
