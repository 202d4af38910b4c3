"""The vocabulary: what is asked (request), what is answered (events), errors, and callers. Imports
nothing of ours.
"""
