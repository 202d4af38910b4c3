"""The telemetry that agents send by OTLP over HTTP: stamped with their name, kept, relayed."""
