"""Requests, events, errors and callers. Imports nothing else of Modelplex."""
