"""Credentials that are read, computed or fetched while the gateway runs, and may expire.

source.py      Expiring and Refreshed: one value that is fetched before it is needed
key_file.py    a key in a file
key_command.py a key that a command prints
token_request.py  requests to token endpoints
oauth.py       tokens of an OAuth 2 client
entra.py       tokens of Microsoft Entra ID
google.py      tokens of Google Cloud
aws.py         access keys of AWS, by the default chain; aws_sts.py roles, aws_machine.py machines
signers.py     what authenticates a request with them
provider_signers.py  the signers of a configured provider
"""
