"""An agent for these examples: OpenAI's client as it is. It tells what network it sees, streams an
answer, and asks eight times at once.

It takes OPENAI_BASE_URL and OPENAI_API_KEY from the environment, and the model from MODEL.
"""

import os
import socket
import threading
from pathlib import Path

from openai import OpenAI

interfaces = [line.split(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]]
print("interfaces:", *interfaces)
try:
    socket.create_connection(("192.0.2.1", 443), timeout=5).close()
    print("the network: reached")
except OSError as error:
    print("the network:", error.strerror)

client = OpenAI()
model = os.environ.get("MODEL", "demo")


def ask(text: str, said: list[str]) -> None:
    """Appends each piece of the answer as it arrives."""
    stream = client.chat.completions.create(
        model=model, max_tokens=64, messages=[{"role": "user", "content": text}], stream=True
    )
    said.extend(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


first: list[str] = []
ask("Hello from a machine without a network", first)
print(f"streamed in {len(first)} pieces:", "".join(first))

answers: list[list[str]] = [[] for _ in range(8)]
threads = [threading.Thread(target=ask, args=(f"number {n}", said)) for n, said in enumerate(answers)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("answered at once:", sum(bool(said) for said in answers))
client.close()
