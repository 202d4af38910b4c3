"""Limits that hold over several gateways, which Redis or Valkey counts. `messages` and `leases` are
pure; `step.lua` decides within the engine; `engine` alone imports its client.
"""
