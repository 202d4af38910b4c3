"""Listeners, connection limits, routes, callers and the admin API. The gateway in pipeline/ gets
each request that is accepted.
"""
