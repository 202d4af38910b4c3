"""The peers that other tests lean on are there and work: a failure here explains a
hundred others.
"""

import json
import subprocess
import urllib.request
from typing import Any

import pytest

from tests.peers import node, node_modules

WAIT_S = 30.0


def _post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        url, data=json.dumps(body).encode(), headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=WAIT_S) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


@pytest.mark.real
def test_the_real_model_chats_and_counts_its_tokens(llama: str) -> None:
    answer = _post(
        f"{llama}/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    )
    assert answer["model"] == "gemma-3-270m"
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert 0 < answer["usage"]["completion_tokens"] <= 4


@pytest.mark.real
def test_the_real_model_embeds_each_input(llama: str) -> None:
    answer = _post(f"{llama}/embeddings", {"input": ["a house", "a garden"]})
    lengths = [len(row["embedding"]) for row in answer["data"]]
    assert lengths == [640, 640]


def test_node_finds_the_official_client() -> None:
    script = (
        "import { createRequire } from 'node:module';"
        f"const from = createRequire({json.dumps(f'{node_modules()}/')});"
        "const { OpenAI } = from('openai'); const { Agent } = from('undici');"
        "console.log(typeof OpenAI, typeof Agent);"
    )
    command = [str(node()), "--input-type=module", "--eval", script]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=WAIT_S)
    assert done.stdout.split() == ["function", "function"]
