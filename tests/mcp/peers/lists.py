"""Reads lists with the official Python SDK: one JSON array [revision, method, result] on each line
of the input; prints `ok` or the error for each.
"""

# It runs in an environment of its own, which the checkers of ours do not see.
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false

import json
import sys

from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for
from mcp_types.methods import parse_server_result

for line in sys.stdin:
    revision, method, result = json.loads(line)
    try:
        parse_server_result(method, revision, result)
        for tool in result.get("tools", []):
            # What the SDK's client does when the tool is called.
            if (schema := tool.get("outputSchema")) is not None:
                validator_for(schema).check_schema(schema)
    except (ValueError, SchemaError) as error:
        print(" ".join(str(error).split())[:300])
    else:
        print("ok")
