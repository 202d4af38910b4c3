"""Toolkits for Python in front of the gateway: `toolkit.py NAME BASE MODEL FILE` streams one task
with one tool.
"""

# It runs in an environment of its own, which the checkers of ours do not see.
# mypy: disable-error-code="import-not-found,attr-defined"
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

import asyncio
import sys
from pathlib import Path
from typing import Any

NAME, BASE, MODEL, FILE = sys.argv[1:]
PROMPT = "Write the marker."


def write_marker(text: str) -> str:
    """Writes a text into the marker file."""
    with Path(FILE).open("a") as file:
        file.write(text)
    return f"wrote {len(text)} characters"


async def openai_agents() -> None:
    from agents import Agent, Runner, function_tool, set_tracing_disabled

    set_tracing_disabled(disabled=True)
    agent = Agent(name="a", instructions="Be brief.", model=MODEL, tools=[function_tool(write_marker)])
    running = Runner.run_streamed(agent, PROMPT)
    async for event in running.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            print(event.data.delta, end="")
    print()
    print(running.final_output)


async def pydantic_ai() -> None:
    from pydantic_ai import Agent, PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.anthropic import AnthropicProvider
    from pydantic_ai.providers.openai import OpenAIProvider

    model: Any = {
        "pydantic-ai-chat": lambda: OpenAIChatModel(
            MODEL, provider=OpenAIProvider(base_url=BASE, api_key="unused")
        ),
        "pydantic-ai-responses": lambda: OpenAIResponsesModel(
            MODEL, provider=OpenAIProvider(base_url=BASE, api_key="unused")
        ),
        "pydantic-ai-anthropic": lambda: AnthropicModel(
            MODEL, provider=AnthropicProvider(base_url=BASE, api_key="unused")
        ),
    }[NAME]()
    agent = Agent(model, tools=[write_marker])
    # Not run_stream, which takes the first text for the last, also where calls follow it.
    async with agent.run_stream_events(PROMPT) as events:
        async for event in events:
            if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
                print(event.part.content, end="")
            if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                print(event.delta.content_delta, end="")
    print()


async def langchain() -> None:
    from langchain.agents import create_agent

    if NAME == "langchain-openai":
        from langchain_openai import ChatOpenAI

        model: Any = ChatOpenAI(
            model=MODEL, base_url=BASE, api_key="unused", max_retries=0, stream_usage=True
        )
    else:
        from langchain_anthropic import ChatAnthropic

        model = ChatAnthropic(model=MODEL, base_url=BASE, api_key="unused", max_retries=0)
    agent = create_agent(model, tools=[write_marker])
    asked = {"messages": [{"role": "user", "content": PROMPT}]}
    async for piece, _ in agent.astream(asked, stream_mode="messages"):
        if piece.type == "AIMessageChunk":
            print(piece.text, end="")
    print()


async def ollama() -> None:
    from ollama import AsyncClient

    client = AsyncClient()  # where it is, OLLAMA_HOST says
    messages: list[Any] = [{"role": "user", "content": PROMPT}]
    called: list[Any] = [None]
    while called:
        called, text = [], ""
        async for piece in await client.chat(MODEL, messages, tools=[write_marker], stream=True):
            called += piece.message.tool_calls or []
            text += piece.message.content or ""
            print(piece.message.content or "", end="")
        messages.append({"role": "assistant", "content": text, "tool_calls": called})
        for call in called:
            result = write_marker(**call.function.arguments)
            messages.append({"role": "tool", "content": result, "tool_name": call.function.name})
    print()


async def agno() -> None:
    from agno.agent import Agent
    from agno.models.openai import OpenAILike

    agent = Agent(
        model=OpenAILike(id=MODEL, base_url=BASE, api_key="unused"), tools=[write_marker], telemetry=False
    )
    async for event in agent.arun(PROMPT, stream=True):
        print(getattr(event, "content", None) or "", end="")
    print()


async def strands() -> None:
    from strands import Agent, tool
    from strands.models.openai import OpenAIModel

    model = OpenAIModel(client_args={"base_url": BASE, "api_key": "unused"}, model_id=MODEL)
    agent = Agent(model=model, tools=[tool(write_marker)], callback_handler=None)
    async for event in agent.stream_async(PROMPT):
        print(event.get("data", ""), end="")
    print()


async def claude_agent() -> None:
    from claude_agent_sdk import AssistantMessage, ClaudeAgentOptions, TextBlock, query

    options = ClaudeAgentOptions(allowed_tools=["Bash"], model=MODEL)
    async for message in query(prompt=PROMPT, options=options):
        if isinstance(message, AssistantMessage):
            print(*(block.text for block in message.content if isinstance(block, TextBlock)), sep="", end="")
    print()


RUNS = {
    "agno": agno,
    "strands": strands,
    "claude-agent-sdk": claude_agent,
    "ollama": ollama,
    "openai-agents": openai_agents,
    "pydantic-ai": pydantic_ai,
    "langchain": langchain,
}
asyncio.run(next(run for name, run in RUNS.items() if NAME.startswith(name))())
