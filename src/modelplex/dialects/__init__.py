"""The dialects. Each file is one wire format, both directions, pure: bytes and values in, bytes and
values out.
"""
