"""Limits of agents: rates, budgets, concurrency, and the file that remembers what was spent.

`agent_limits` decides and does no I/O; `budget_store` alone writes the file.
"""
