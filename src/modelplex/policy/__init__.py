"""The sealed policy: pure rules about what may leave in the body of a request. `judge` returns
Allow, Amend or Refuse.
"""
