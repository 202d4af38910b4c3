"""A program with no network but the gateway: `modelplex run`, and the bridge that it is reached by.
Above it the command line, below it the system.
"""
