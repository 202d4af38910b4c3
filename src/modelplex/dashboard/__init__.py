"""The operator's page at /_internal/. Loaded when somebody opens it (server/operator_page.py)."""
