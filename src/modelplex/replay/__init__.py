"""Recorded runs as a source of answers: what was recorded, and which answer a request gets."""
