"""Limits of agents: rates, budgets and concurrency, and the file of what was spent. `agent_limits`
decides and does no I/O; `budget_store` writes the file.
"""
