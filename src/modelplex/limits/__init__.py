"""What an agent may use: rates, budgets, how much at once, and the file that remembers what was
spent.

Above it stand the listeners and the hub of the tool servers, which ask before a call and tell after
it; below it the vocabulary and the config's types. `limits.py` decides and touches nothing;
`ledger.py` alone knows the file.
"""
