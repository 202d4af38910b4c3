"""Tool servers: many behind one endpoint, for callers that have no network, in both eras of the
protocol.
"""
