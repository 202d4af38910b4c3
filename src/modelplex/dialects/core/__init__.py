"""What the dialects share: JSON, framing, bounds, tool names. Pure."""
