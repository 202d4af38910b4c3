"""What may leave through a provider: pure rules over a request's body. judge(body, facts) -> Allow
| Amend | Refuse.
"""
