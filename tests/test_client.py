"""`import modelplex.client`, and SDKs with `unix:` base URLs against a running gateway."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
from google import genai

from modelplex import client
from tests.gateways import WAIT_S, gateway, one
from tests.processes import served, until
from tests.upstreams import chunk, provider, stall, stream

DEMO = '[[providers]]\nname = "demo"\ntype = "demo"\n'
HELLO: Any = [{"role": "user", "content": "Hello"}]
LIBRARIES = (httpx2, httpx)


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    assert client.install() == ("httpx2", "httpx")
    yield
    client.uninstall()


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[str]:
    """The path of a socket that nobody accepts connections on."""
    path = str(tmp_path / "m.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        yield path


# --- reading the URL


@pytest.mark.parametrize(
    ("written", "target"),
    [
        ("SOCK/chat/completions", "/models/v1/chat/completions"),
        ("SOCK/SOCK/chat/completions", "/models/v1/chat/completions"),
        ("SOCK/models/v1/SOCK/models/v1/chat/completions", "/models/v1/chat/completions"),
        ("SOCK/v1/SOCK/v1/messages?beta=true", "/v1/messages?beta=true"),
        ("SOCK/models", "/models/v1/models"),
        ("SOCK/models/demo", "/models/v1/models/demo"),
        ("SOCK/models/v1", "/models/v1/models/v1"),
        ("SOCK/models/openai%2Fm", "/models/v1/models/openai%2Fm"),
        ("SOCK/models/v1/models", "/models/v1/models"),
        ("SOCK/v1/messages", "/v1/messages"),
        ("SOCK/v1beta/models/m:generateContent", "/v1beta/models/m:generateContent"),
        ("SOCK/api/chat", "/api/chat"),
        ("SOCK/mcp/v1", "/mcp/v1"),
        ("SOCK/health?detail", "/health?detail"),
        ("SOCK", "/models/v1/"),
        ("SOCK/", "/models/v1/"),
    ],
)
def test_the_rest_after_the_socket_is_the_path(written: str, target: str, listening: str) -> None:
    path = written.replace("/SOCK", listening).replace("SOCK", listening)
    assert client.parse_path(path) == (listening, target)


def test_the_first_part_that_is_a_socket_is_the_socket_and_escapes_are_decoded(tmp_path: Path) -> None:
    folder = tmp_path / "a b%41"
    folder.mkdir()
    path = str(folder / "ü.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        for library in LIBRARIES:
            written = library.URL("unix:" + path.replace("%", "%25")).raw_path.decode()
            assert client.parse_path(f"{written}/v1/models") == (path, "/v1/models")
            assert client.parse_path(f"{written}{written}/models") == (path, "/models/v1/models")


def test_a_path_without_a_socket_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert client.parse_path(f"{tmp_path}/file/chat/completions") is None
    assert client.parse_path(f"{tmp_path}/absent/chat/completions") is None
    assert client.parse_path("/a%00b/chat") is None


# --- the SDKs


async def test_the_openai_client_works_over_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with gateway(DEMO, folder=tmp_path) as gw:

        def run(base: str) -> None:
            with openai.OpenAI(base_url=base, api_key="unused") as sdk:
                whole = sdk.chat.completions.create(model="demo", messages=HELLO)
                assert "Hello" in str(whole.choices[0].message.content)
                chunks = list(sdk.chat.completions.create(model="demo", messages=HELLO, stream=True))
                assert "Hello" in "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
                assert "Hello" in sdk.responses.create(model="demo", input="Hello").output_text
                events = list(sdk.responses.create(model="demo", input="Hello", stream=True))
                assert events[-1].type == "response.completed"
                assert "demo" in [each.id for each in sdk.models.list()]
                assert sdk.models.retrieve("demo").id == "demo"
                assert sdk.embeddings.create(model="demo-embed", input="Hello").data

        for tail in ("", "/", "/models/v1", "/v1/"):
            await asyncio.to_thread(run, f"unix:{gw.socket}{tail}")
        await asyncio.to_thread(run, f"unix://{gw.socket}")
        await asyncio.to_thread(run, "unix:m.sock")
        await asyncio.to_thread(run, "unix:./m.sock/v1")


async def test_the_async_openai_client_works_over_a_socket(tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as gw:
        async with openai.AsyncOpenAI(base_url=f"unix:{gw.socket}", api_key="unused") as sdk:
            whole = await sdk.chat.completions.create(model="demo", messages=HELLO)
            assert "Hello" in str(whole.choices[0].message.content)
            chunks = await sdk.chat.completions.create(model="demo", messages=HELLO, stream=True)
            said = [c.choices[0].delta.content or "" async for c in chunks if c.choices]
            assert "Hello" in "".join(said)
            assert "Hello" in (await sdk.responses.create(model="demo", input="Hello")).output_text
            assert "demo" in [each.id async for each in sdk.models.list()]
            many = [sdk.chat.completions.create(model="demo", messages=HELLO) for _ in range(30)]
            assert len(await asyncio.gather(*many)) == 30


async def test_the_anthropic_client_works_over_a_socket(tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as gw:
        base = f"unix:{gw.socket}"

        def run() -> None:
            with anthropic.Anthropic(base_url=base, api_key="unused") as sdk:
                whole = sdk.messages.create(model="demo", max_tokens=100, messages=HELLO)
                assert "Hello" in str(whole.content)
                with sdk.messages.stream(model="demo", max_tokens=100, messages=HELLO) as told:
                    assert "Hello" in told.get_final_text()
                assert sdk.messages.count_tokens(model="demo", messages=HELLO).input_tokens > 0

        await asyncio.to_thread(run)
        async with anthropic.AsyncAnthropic(base_url=base, api_key="unused") as sdk:
            async with sdk.messages.stream(model="demo", max_tokens=100, messages=HELLO) as told:
                assert "Hello" in await told.get_final_text()


async def test_the_google_client_works_over_a_socket(tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as gw:

        def run() -> str | None:
            options = genai.types.HttpOptions(base_url=f"unix:{gw.socket}")
            with genai.Client(api_key="unused", http_options=options) as sdk:
                return sdk.models.generate_content(model="demo", contents="Hello").text

        assert "Hello" in (await asyncio.to_thread(run) or "")


async def test_a_client_without_a_base_url_works_over_a_socket(tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as gw:
        url = f"unix:{gw.socket}/models"
        assert (await asyncio.to_thread(httpx2.get, url)).json()["object"] == "list"
        async with httpx2.AsyncClient() as http:
            assert (await http.get(url)).json()["object"] == "list"
            with pytest.raises(httpx2.UnsupportedProtocol):
                await http.get(str(tmp_path / "absent/models"))
        with pytest.raises(httpx.UnsupportedProtocol):
            await asyncio.to_thread(httpx.get, url)


@pytest.mark.parametrize("library", LIBRARIES)
async def test_both_http_libraries_have_the_scheme(library: ModuleType, tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as gw:
        base = f"unix:{gw.socket}"

        def run() -> None:
            with library.Client(base_url=base) as http:
                assert http.get("models").json()["object"] == "list"
                with openai.OpenAI(base_url=base, api_key="unused", http_client=http) as sdk:
                    chunks = list(sdk.chat.completions.create(model="demo", messages=HELLO, stream=True))
                    assert len(chunks) > 1

        await asyncio.to_thread(run)
        async with library.AsyncClient(base_url=base) as http:
            assert (await http.get("models")).json()["object"] == "list"


async def test_transports_with_uds_and_plain_http_still_work(tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as gw:
        for patched in (True, False):
            if not patched:
                client.uninstall()
            transport = httpx2.AsyncHTTPTransport(uds=gw.socket)
            async with openai.AsyncOpenAI(
                base_url="http://localhost/models/v1",
                api_key="unused",
                http_client=openai.DefaultAsyncHttpxClient(transport=transport),
            ) as sdk:
                assert (await sdk.chat.completions.create(model="demo", messages=HELLO)).choices
            async with openai.AsyncOpenAI(base_url=f"{gw.base}/v1", api_key="unused") as sdk:
                assert (await sdk.chat.completions.create(model="demo", messages=HELLO)).choices


# --- what must not change


async def test_the_callers_request_is_not_changed(tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as gw:
        seen: list[str] = []

        async def hook(response: httpx2.Response) -> None:
            seen.append(str(response.request.url))

        hooks: Any = {"response": [hook]}
        async with httpx2.AsyncClient(base_url=f"unix:{gw.socket}", event_hooks=hooks) as http:
            asked = http.build_request("GET", "models", headers={"x-mine": "1"})
            before = (str(asked.url), list(asked.headers.raw))
            response = await http.send(asked)
        assert response.status_code == 200
        assert (str(asked.url), list(asked.headers.raw)) == before
        assert response.request is asked
        assert seen == [before[0]]


async def test_proxies_of_the_environment_are_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with gateway(DEMO, folder=tmp_path) as gw:
        async with openai.AsyncOpenAI(base_url=f"unix:{gw.socket}", api_key="unused", max_retries=0) as sdk:
            assert (await sdk.chat.completions.create(model="demo", messages=HELLO)).choices


async def test_one_connection_is_kept_alive_and_closed_with_its_client(tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as gw:
        http = openai.DefaultAsyncHttpxClient()
        async with openai.AsyncOpenAI(
            base_url=f"unix:{gw.socket}", api_key="unused", http_client=http
        ) as sdk:
            for _ in range(3):
                await sdk.models.list()
            transport = http._transport
            (kept,) = vars(transport)["_modelplex_sockets"].values()
            assert len(kept._pool.connections) == 1
        assert "_modelplex_sockets" not in vars(transport)
        assert not kept._pool.connections


async def test_the_callers_timeout_applies(tmp_path: Path) -> None:
    async with provider(stall) as up, gateway(one(up.url), folder=tmp_path) as gw:
        base = f"unix:{gw.socket}"
        async with openai.AsyncOpenAI(base_url=base, api_key="unused", max_retries=0, timeout=0.3) as sdk:
            with pytest.raises(openai.APITimeoutError):
                await sdk.chat.completions.create(model="m", messages=HELLO)


def test_a_second_import_changes_nothing_and_uninstalling_restores() -> None:
    ours = httpx2.HTTPTransport.handle_request
    assert client.install() == ("httpx2", "httpx")
    assert httpx2.HTTPTransport.handle_request is ours
    client.uninstall()
    client.uninstall()
    for library in LIBRARIES:
        for kind, names in (
            (library.HTTPTransport, ("handle_request", "close", "__exit__")),
            (library.AsyncHTTPTransport, ("handle_async_request", "aclose", "__aexit__")),
        ):
            assert all(getattr(kind, name).__module__.startswith(library.__name__) for name in names)
            assert all(not hasattr(getattr(kind, name), "__wrapped__") for name in names)
    with openai.OpenAI(base_url="unix:/nowhere", api_key="unused", max_retries=0) as sdk:
        with pytest.raises(openai.APIConnectionError) as caught:
            sdk.models.list()
    assert isinstance(caught.value.__cause__, httpx2.UnsupportedProtocol)


async def test_a_second_copy_of_the_file_is_harmless(tmp_path: Path) -> None:
    file = tmp_path / "copied.py"
    shutil.copy(str(client.__file__), file)
    spec = importlib.util.spec_from_file_location("copied", file)
    assert spec is not None
    assert spec.loader is not None
    copied = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copied)
    try:
        async with gateway(DEMO, folder=tmp_path) as gw:
            async with openai.AsyncOpenAI(base_url=f"unix:{gw.socket}", api_key="unused") as sdk:
                assert (await sdk.chat.completions.create(model="demo", messages=HELLO)).choices
    finally:
        copied.uninstall()
    assert hasattr(httpx2.HTTPTransport.handle_request, "__wrapped__"), "the first copy is still installed"


# --- no gateway


@pytest.mark.parametrize("library", LIBRARIES)
async def test_the_error_for_a_missing_socket_names_it_and_the_likely_reason(
    library: ModuleType, tmp_path: Path
) -> None:
    url = f"unix:{tmp_path}/gone.sock"
    told = f"{tmp_path}/gone.sock.*is a socket: the gateway may not be running"
    with library.Client(base_url=url) as http, pytest.raises(library.ConnectError, match=told):
        http.get("models")
    async with library.AsyncClient(base_url=url) as http:
        with pytest.raises(library.ConnectError, match=told):
            await http.get("models")
    with openai.OpenAI(base_url=url, api_key="unused", max_retries=0) as sdk:
        with pytest.raises(openai.APIConnectionError) as caught:
            sdk.models.list()
    assert "the gateway may not be running" in str(caught.value.__cause__)


# httpcore does not close a socket that could not connect.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("library", LIBRARIES)
async def test_the_error_for_a_dead_socket_names_it_and_the_likely_reason(
    library: ModuleType, tmp_path: Path
) -> None:
    path = str(tmp_path / "m.sock")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    told = f"connecting to {path} failed .*: the gateway may not be running"
    with library.Client(base_url=f"unix:{path}") as http, pytest.raises(library.ConnectError, match=told):
        http.get("models")
    async with library.AsyncClient(base_url=f"unix:{path}") as http:
        with pytest.raises(library.ConnectError, match=told):
            await http.get("models")


def test_two_slashes_are_an_error_that_says_so() -> None:
    with httpx2.Client(base_url="unix://tmp/m.sock") as http:
        with pytest.raises(httpx2.ConnectError, match="has no host: write unix:/path"):
            http.get("models")


async def test_a_client_survives_a_restart_of_the_gateway(tmp_path: Path) -> None:
    path = f"unix:{tmp_path / 'm.sock'}"
    async with openai.AsyncOpenAI(base_url=path, api_key="unused", max_retries=0) as sdk:
        for _ in range(2):
            async with gateway(DEMO, folder=tmp_path):
                assert (await sdk.chat.completions.create(model="demo", messages=HELLO)).choices
            with pytest.raises(openai.APIConnectionError):
                await sdk.models.list()


# --- streams, loops and threads


async def test_closing_a_stream_early_ends_the_call(tmp_path: Path) -> None:
    script = stream(chunk({"content": "a"}), end=False, then=stall)
    async with provider(script, script) as up, gateway(one(up.url), folder=tmp_path) as gw:
        base = f"unix:{gw.socket}"

        def left() -> None:
            with openai.OpenAI(base_url=base, api_key="unused", max_retries=0) as sdk:
                with sdk.chat.completions.create(model="m", messages=HELLO, stream=True) as told:
                    assert next(iter(told)).choices

        await asyncio.wait_for(asyncio.to_thread(left), WAIT_S)
        assert (await gw.record(1)).endpoint == "chat/completions"
        async with openai.AsyncOpenAI(base_url=base, api_key="unused", max_retries=0) as sdk:
            async with await sdk.chat.completions.create(model="m", messages=HELLO, stream=True) as told:
                assert (await anext(told)).choices
            assert (await gw.record(2)).endpoint == "chat/completions"


async def test_event_loops_in_threads_each_use_a_client(tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as gw:

        async def ask() -> int:
            async with openai.AsyncOpenAI(base_url=f"unix:{gw.socket}", api_key="unused") as sdk:
                asked = [sdk.chat.completions.create(model="demo", messages=HELLO) for _ in range(5)]
                return len(await asyncio.gather(*asked))

        def in_a_loop() -> list[int]:
            return [asyncio.run(ask()), asyncio.run(ask())]

        assert await asyncio.gather(*(asyncio.to_thread(in_a_loop) for _ in range(3))) == [[5, 5]] * 3


async def test_threads_share_a_client(tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as gw:
        with openai.OpenAI(base_url=f"unix:{gw.socket}", api_key="unused") as sdk:
            together = threading.Barrier(4)

            def ask() -> int:
                together.wait(WAIT_S)
                return len(list(sdk.chat.completions.create(model="demo", messages=HELLO, stream=True)))

            counts = await asyncio.gather(*(asyncio.to_thread(ask) for _ in range(4)))
            assert min(counts) > 1


# --- the import itself


def python(code: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments, "-W", "error", "-c", code]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=WAIT_S, check=False)


def test_the_import_loads_no_module_of_the_gateway() -> None:
    code = (
        "import sys, modelplex.client; gone = {'msgspec', 'uvicorn', 'uvloop'} & set(sys.modules);"
        "ours = sorted(n for n in sys.modules if n.startswith('modelplex'));"
        "assert not gone and ours == ['modelplex', 'modelplex.client'], (gone, ours)"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_without_an_http_library_the_file_does_nothing(tmp_path: Path) -> None:
    shutil.copy(str(client.__file__), tmp_path / "alone.py")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import alone; assert alone.install() == ()"
    done = python(code, "-I", "-S")
    assert done.returncode == 0, done.stderr


def test_the_module_prints_the_path_of_the_file_for_node() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "modelplex.client"],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
    )
    assert done.stdout == f"{client.NODE}\n"
    assert Path(client.NODE).is_file()


async def test_a_three_line_agent_works(tmp_path: Path) -> None:
    code = (
        "import modelplex.client, openai, sys\n"
        "with openai.OpenAI(base_url=f'unix:{sys.argv[1]}', api_key='unused') as sdk:\n"
        "    print(sdk.responses.create(model='demo', input='Hello').output_text)\n"
    )
    async with served(DEMO, folder=tmp_path) as gw:
        command = [sys.executable, "-W", "error", "-c", code, gw.socket]
        agent = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        out, _ = await asyncio.wait_for(agent.communicate(), WAIT_S)
        await until(lambda: agent.returncode is not None, what="the end")
    assert b"Hello" in out
