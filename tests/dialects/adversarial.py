"""Bodies that a client may legally send and that cost as much as a body of their size can: one
family for each list or text that a reader, writer or policy walks over.

A family is a function of `n`: about `n` entries of one kind. What reads it may do work that grows
with `n`, and never with its square.
"""

from __future__ import annotations

from collections.abc import Callable

Family = Callable[[int], bytes]
USER = b'{"role":"user","content":"x"}'


def _list(n: int, entry: Callable[[int], bytes]) -> bytes:
    return b"[" + b",".join(entry(i) for i in range(n)) + b"]"


def _pairs(n: int, *entries: Callable[[int], bytes]) -> bytes:
    return b"[" + b",".join(entry(i) for i in range(n) for entry in entries) + b"]"


def _members(n: int) -> bytes:
    """At most as many as a top level may have."""
    return b",".join(b'"m%d":%d' % (i, i) for i in range(min(n, 900)))


# --- OpenAI chat completions


def _chat(messages: bytes, rest: bytes = b"") -> bytes:
    return b'{"model":"m","messages":' + messages + rest + b"}"


def _chat_call(i: int) -> bytes:
    return b'{"id":"c%d","type":"function","function":{"name":"f","arguments":"{}"}}' % i


def _chat_calls(i: int) -> bytes:
    return b'{"role":"assistant","content":null,"tool_calls":[' + _chat_call(i) + b"]}"


def _chat_result(i: int) -> bytes:
    return b'{"role":"tool","tool_call_id":"c%d","content":"ok"}' % i


def _one(calls: Callable[[int], bytes], results: Callable[[int], bytes], n: int) -> bytes:
    """One turn of many calls, and their results in the opposite order."""
    made = b'{"role":"assistant","content":null,"tool_calls":' + _list(n, calls) + b"}"
    given = b",".join(results(i) for i in reversed(range(n)))
    return b"[" + USER + b"," + made + b"," + given + b"]"


def _detail(i: int, index: int) -> bytes:
    return b'{"type":"reasoning.text","text":"t%d","signature":"s","index":%d}' % (i, index)


def _reasoning(n: int, index: Callable[[int], int]) -> bytes:
    details = _list(n, lambda i: _detail(i, index(i)))
    return (
        b"["
        + USER
        + b',{"role":"assistant","content":"y","reasoning_details":'
        + details
        + b"},"
        + USER
        + b"]"
    )


CHAT: dict[str, Family] = {
    "messages": lambda n: _chat(_list(n, lambda _: USER)),
    "system messages": lambda n: _chat(
        b"[" + b'{"role":"system","content":"x"},' * n + USER + b',{"role":"developer","content":"x"}]'
    ),
    "turns": lambda n: _chat(
        b"[" + b",".join([USER, b'{"role":"assistant","content":"y"}'] * n) + b"," + USER + b"]"
    ),
    "tool turns": lambda n: _chat(
        b"[" + USER + b"," + _pairs(n, _chat_calls, _chat_result).strip(b"[") if n else b"[]"
    ),
    "tool turns of one id": lambda n: _chat(
        b"[" + USER + b"," + _pairs(n, lambda _: _chat_calls(1), lambda _: _chat_result(1)).strip(b"[")
    ),
    "calls of one turn": lambda n: _chat(_one(_chat_call, _chat_result, n)),
    "content parts": lambda n: _chat(
        b'[{"role":"user","content":' + _list(n, lambda _: b'{"type":"text","text":"x"}') + b"}]"
    ),
    "images": lambda n: _chat(
        b'[{"role":"user","content":'
        + _list(n, lambda _: b'{"type":"image_url","image_url":{"url":"data:image/png;base64,QUJD"}}')
        + b"}]"
    ),
    "assistant parts": lambda n: _chat(
        b"["
        + USER
        + b',{"role":"assistant","content":'
        + _list(n, lambda _: b'{"type":"text","text":"x"}')
        + b"},"
        + USER
        + b"]"
    ),
    "reasoning details": lambda n: _chat(_reasoning(n, lambda i: i)),
    "reasoning details of one index": lambda n: _chat(_reasoning(n, lambda _: 0)),
    "old calls": lambda n: _chat(
        b"["
        + USER
        + b","
        + _pairs(
            n,
            lambda _: b'{"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{}"}}',
            lambda _: b'{"role":"function","name":"f","content":"ok"}',
        ).strip(b"[")
    ),
    "tools": lambda n: _chat(
        b"[" + USER + b"]",
        b',"tools":'
        + _list(
            n,
            lambda i: b'{"type":"function","function":{"name":"f%d","parameters":{"type":"object"}}}' % i,
        ),
    ),
    "hosted tools": lambda n: _chat(
        b"[" + USER + b"]", b',"tools":' + _list(n, lambda _: b'{"type":"web_search"}')
    ),
    "custom tools": lambda n: _chat(
        b"[" + USER + b"]",
        b',"tools":' + _list(n, lambda i: b'{"type":"custom","custom":{"name":"c%d"}}' % i),
    ),
    "allowed tools": lambda n: _chat(
        b"[" + USER + b"]",
        b',"tools":'
        + _list(n, lambda i: b'{"type":"function","function":{"name":"f%d"}}' % i)
        + b',"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":'
        + _list(n, lambda i: b'{"type":"function","function":{"name":"f%d"}}' % i)
        + b"}}",
    ),
    "unknown members": lambda n: _chat(b"[" + USER + b"]", b"," + _members(n)),
    "unknown members of a message": lambda n: _chat(b'[{"role":"user","content":"x",' + _members(n) + b"}]"),
    "properties": lambda n: _chat(
        b"[" + USER + b"]",
        b',"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{'
        + b",".join(b'"p%d":{"type":["string","null"],"default":null}' % i for i in range(n))
        + b'},"required":'
        + _list(n, lambda i: b'"p%d"' % i)
        + b"}}}]",
    ),
    "properties of an answer": lambda n: _chat(
        b"[" + USER + b"]",
        b',"response_format":{"type":"json_schema","json_schema":{"name":"a","strict":true,"schema":{"type":"object","properties":{'
        + b",".join(b'"p%d":{"$ref":"#/$defs/d%d"}' % (i, i) for i in range(n))
        + b'},"required":'
        + _list(n, lambda i: b'"p%d"' % i)
        + b',"$defs":{'
        + b",".join(b'"d%d":{"type":"string"}' % i for i in range(n))
        + b"}}}}",
    ),
    "stops": lambda n: _chat(b"[" + USER + b"]", b',"stop":' + _list(n, lambda i: b'"s%d"' % i)),
    "empty objects": lambda n: _chat(b"[" + USER + b"]", b',"metadata":' + _list(n, lambda _: b"{}")),
    "a key twice": lambda n: _chat(
        b"[" + USER + b"]", b',"metadata":' + _list(n, lambda _: b"{}")[:-1] + b',{"a":1,"a":2}]'
    ),
    "data parameters": lambda n: _chat(
        b'[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:' + b";a=b" * n + b'"}}]}]'
    ),
    "data words": lambda n: _chat(
        b'[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:' + b"a" * n + b'"}}]}]'
    ),
    "text": lambda n: _chat(b'[{"role":"user","content":"' + b"ab c" * n + b'"}]'),
    "escapes": lambda n: _chat(b'[{"role":"user","content":"' + b"\\u0022\\\\" * n + b'"}]'),
}

# --- OpenAI Responses


def _responses(items: bytes, rest: bytes = b"") -> bytes:
    return b'{"model":"m","store":false,"input":' + items + rest + b"}"


def _item_call(i: int) -> bytes:
    return b'{"type":"function_call","call_id":"c%d","name":"f","arguments":"{}"}' % i


def _item_result(i: int) -> bytes:
    return b'{"type":"function_call_output","call_id":"c%d","output":"ok"}' % i


def _answer_item(i: int, rest: bytes = b"") -> bytes:
    return (
        b'{"type":"message","role":"assistant","id":"m%d","content":[{"type":"output_text","text":"y"}]%s}'
        % (i, rest)
    )


RESPONSES: dict[str, Family] = {
    "messages": lambda n: _responses(_list(n, lambda _: USER)),
    "system messages": lambda n: _responses(b"[" + b'{"role":"system","content":"x"},' * n + USER + b"]"),
    "tool turns": lambda n: _responses(b"[" + USER + b"," + _pairs(n, _item_call, _item_result)[1:]),
    "calls of one turn": lambda n: _responses(
        b"["
        + USER
        + b","
        + _list(n, _item_call)[1:-1]
        + b","
        + b",".join(_item_result(i) for i in reversed(range(n)))
        + b"]"
    ),
    "answers": lambda n: _responses(b"[" + USER + b"," + _list(n, _answer_item)[1:-1] + b"," + USER + b"]"),
    "answers behind a call": lambda n: _responses(
        b"["
        + USER
        + b","
        + _item_call(0)
        + b","
        + _list(n, lambda i: _answer_item(i, b',"x%d":1' % i))[1:-1]
        + b","
        + _item_result(0)
        + b"]"
    ),
    "reasoning": lambda n: _responses(
        b"["
        + USER
        + b","
        + _list(
            n, lambda i: b'{"type":"reasoning","id":"r%d","summary":[{"type":"summary_text","text":"t"}]}' % i
        )[1:-1]
        + b","
        + _item_call(0)
        + b","
        + _item_result(0)
        + b"]"
    ),
    "content parts": lambda n: _responses(
        b'[{"role":"user","content":' + _list(n, lambda _: b'{"type":"input_text","text":"x"}') + b"}]"
    ),
    "unknown items": lambda n: _responses(b"[" + USER + b"," + _list(n, lambda _: b'{"type":"x"}')[1:]),
    "references": lambda n: _responses(
        b"[" + USER + b"," + _list(n, lambda i: b'{"type":"item_reference","id":"i%d"}' % i)[1:]
    ),
    "tools": lambda n: _responses(
        b'"x"',
        b',"tools":' + _list(n, lambda i: b'{"type":"function","name":"f%d","parameters":{}}' % i),
    ),
    "hosted tools": lambda n: _responses(b'"x"', b',"tools":' + _list(n, lambda _: b'{"type":"web_search"}')),
    "custom tools": lambda n: _responses(
        b'"x"', b',"tools":' + _list(n, lambda i: b'{"type":"custom","name":"c%d"}' % i)
    ),
    "namespaces": lambda n: _responses(
        b'"x"',
        b',"tools":'
        + _list(
            n,
            lambda i: (
                b'{"type":"namespace","name":"n%d","tools":[{"type":"function","name":"f","parameters":{}}]}'
                % i
            ),
        ),
    ),
    "allowed tools": lambda n: _responses(
        b'"x"',
        b',"tools":'
        + _list(n, lambda i: b'{"type":"function","name":"f%d","parameters":{}}' % i)
        + b',"tool_choice":{"type":"allowed_tools","mode":"auto","tools":'
        + _list(n, lambda i: b'{"type":"function","name":"f%d"}' % i)
        + b"}",
    ),
    "include": lambda n: _responses(b'"x"', b',"include":' + _list(n, lambda i: b'"i%d"' % i)),
    "unknown members": lambda n: _responses(b'"x"', b"," + _members(n)),
}

# --- Anthropic Messages


def _anthropic(messages: bytes, rest: bytes = b"") -> bytes:
    return b'{"model":"m","max_tokens":9,"messages":' + messages + rest + b"}"


def _use(i: int) -> bytes:
    return b'{"type":"tool_use","id":"c%d","name":"f","input":{}}' % i


def _given(i: int) -> bytes:
    return b'{"type":"tool_result","tool_use_id":"c%d","content":"ok"}' % i


def _says(role: bytes, content: bytes) -> bytes:
    return b'{"role":"' + role + b'","content":' + content + b"}"


ANTHROPIC: dict[str, Family] = {
    "messages": lambda n: _anthropic(_list(n, lambda _: USER)),
    "turns": lambda n: _anthropic(
        b"[" + b",".join([USER, b'{"role":"assistant","content":"y"}'] * n) + b"," + USER + b"]"
    ),
    "system": lambda n: _anthropic(
        b"[" + USER + b"]", b',"system":' + _list(n, lambda _: b'{"type":"text","text":"x"}')
    ),
    "system messages": lambda n: _anthropic(
        b"[" + USER + b"," + _list(n, lambda _: b'{"role":"system","content":"x"}')[1:-1] + b"," + USER + b"]"
    ),
    "tool turns": lambda n: _anthropic(
        b"["
        + USER
        + b","
        + _pairs(
            n,
            lambda i: _says(b"assistant", b"[" + _use(i) + b"]"),
            lambda i: _says(b"user", b"[" + _given(i) + b"]"),
        )[1:]
    ),
    "calls of one turn": lambda n: _anthropic(
        b"["
        + USER
        + b","
        + _says(b"assistant", _list(n, _use))
        + b","
        + _says(b"user", b"[" + b",".join(_given(i) for i in reversed(range(n))) + b"]")
        + b"]"
    ),
    "content blocks": lambda n: _anthropic(
        b"[" + _says(b"user", _list(n, lambda _: b'{"type":"text","text":"x"}')) + b"]"
    ),
    "images": lambda n: _anthropic(
        b"["
        + _says(
            b"user",
            _list(
                n,
                lambda _: (
                    b'{"type":"image","source":{"type":"base64","media_type":"image/png","data":"QUJD"}}'
                ),
            ),
        )
        + b"]"
    ),
    "thinking": lambda n: _anthropic(
        b"["
        + USER
        + b","
        + _says(
            b"assistant",
            _list(n, lambda _: b'{"type":"thinking","thinking":"t","signature":"s"}')[:-1]
            + b',{"type":"text","text":"y"}]',
        )
        + b","
        + USER
        + b"]"
    ),
    "thinking at the end": lambda n: _anthropic(
        b"["
        + USER
        + b","
        + _says(b"assistant", _list(n, lambda _: b'{"type":"thinking","thinking":"t","signature":"s"}'))
        + b","
        + USER
        + b"]"
    ),
    "documents": lambda n: _anthropic(
        b"["
        + _says(
            b"user",
            _list(
                n,
                lambda _: (
                    b'{"type":"document","source":{"type":"content","content":[{"type":"text","text":"x"}]}}'
                ),
            ),
        )
        + b"]"
    ),
    "search results": lambda n: _anthropic(
        b"["
        + _says(
            b"user",
            _list(
                n,
                lambda _: (
                    b'{"type":"search_result","source":"s","title":"t","content":[{"type":"text","text":"x"}]}'
                ),
            ),
        )
        + b"]"
    ),
    "breakpoints": lambda n: _anthropic(
        b"["
        + _says(
            b"user",
            _list(n, lambda _: b'{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}'),
        )
        + b"]"
    ),
    "tools": lambda n: _anthropic(
        b"[" + USER + b"]",
        b',"tools":' + _list(n, lambda i: b'{"name":"f%d","input_schema":{"type":"object"}}' % i),
    ),
    "hosted tools": lambda n: _anthropic(
        b"[" + USER + b"]",
        b',"tools":' + _list(n, lambda i: b'{"type":"web_search_20250305","name":"w%d"}' % i),
    ),
    "stop sequences": lambda n: _anthropic(
        b"[" + USER + b"]", b',"stop_sequences":' + _list(n, lambda i: b'"s%d"' % i)
    ),
    "unknown members": lambda n: _anthropic(b"[" + USER + b"]", b"," + _members(n)),
}

# --- Gemini


def _gemini(contents: bytes, rest: bytes = b"") -> bytes:
    return b'{"contents":' + contents + rest + b"}"


def _content(role: bytes, parts: bytes) -> bytes:
    return b'{"role":"' + role + b'","parts":' + parts + b"}"


SAID = _content(b"user", b'[{"text":"x"}]')


def _gemini_call(i: int) -> bytes:
    return b'{"functionCall":{"id":"c%d","name":"f%d","args":{}}}' % (i, i)


def _gemini_result(i: int) -> bytes:
    return b'{"functionResponse":{"id":"c%d","name":"f%d","response":{"output":"ok"}}}' % (i, i)


def _unnamed_result(i: int) -> bytes:
    return b'{"functionResponse":{"name":"f%d","response":{"output":"ok"}}}' % i


GEMINI: dict[str, Family] = {
    "contents": lambda n: _gemini(_list(n, lambda _: SAID)),
    "turns": lambda n: _gemini(
        b"[" + b",".join([SAID, _content(b"model", b'[{"text":"y"}]')] * n) + b"," + SAID + b"]"
    ),
    "pieces of an answer": lambda n: _gemini(
        b"[" + SAID + b"," + _content(b"model", _list(n, lambda _: b'{"text":"y"}')) + b"," + SAID + b"]"
    ),
    "contents of an answer": lambda n: _gemini(
        b"["
        + SAID
        + b","
        + _list(n, lambda _: _content(b"model", b'[{"text":"y"}]'))[1:-1]
        + b","
        + SAID
        + b"]"
    ),
    "pieces of a thought": lambda n: _gemini(
        b"["
        + SAID
        + b","
        + _content(b"model", _list(n, lambda _: b'{"text":"y","thought":true}'))
        + b","
        + SAID
        + b"]"
    ),
    "signatures": lambda n: _gemini(
        b"["
        + SAID
        + b","
        + _content(b"model", _list(n, lambda _: b'{"text":"y","thoughtSignature":"QUJD"}'))
        + b","
        + SAID
        + b"]"
    ),
    "bare signatures": lambda n: _gemini(
        b"["
        + SAID
        + b","
        + _content(
            b"model", b'[{"text":"y"},' + _list(n, lambda _: b'{"text":"","thoughtSignature":"QUJD"}')[1:]
        )
        + b","
        + SAID
        + b"]"
    ),
    "tool turns": lambda n: _gemini(
        b"["
        + SAID
        + b","
        + _pairs(
            n,
            lambda i: _content(b"model", b"[" + _gemini_call(i) + b"]"),
            lambda i: _content(b"user", b"[" + _gemini_result(i) + b"]"),
        )[1:]
    ),
    "calls of one turn": lambda n: _gemini(
        b"["
        + SAID
        + b","
        + _content(b"model", _list(n, _gemini_call))
        + b","
        + _content(b"user", b"[" + b",".join(_gemini_result(i) for i in reversed(range(n))) + b"]")
        + b"]"
    ),
    "results by name": lambda n: _gemini(
        b"["
        + SAID
        + b","
        + _content(b"model", _list(n, lambda i: b'{"functionCall":{"name":"f%d"}}' % i))
        + b","
        + _content(b"user", b"[" + b",".join(_unnamed_result(i) for i in reversed(range(n))) + b"]")
        + b"]"
    ),
    "results in contents": lambda n: _gemini(
        b"["
        + SAID
        + b","
        + _content(b"model", _list(n, _gemini_call))
        + b","
        + _list(n, lambda i: _content(b"user", b"[" + _gemini_result(i) + b"]"))[1:]
    ),
    "parts": lambda n: _gemini(b"[" + _content(b"user", _list(n, lambda _: b'{"text":"x"}')) + b"]"),
    "images": lambda n: _gemini(
        b"["
        + _content(b"user", _list(n, lambda _: b'{"inlineData":{"mimeType":"image/png","data":"QUJD"}}'))
        + b"]"
    ),
    "tools": lambda n: _gemini(
        b"[" + SAID + b"]",
        b',"tools":[{"functionDeclarations":'
        + _list(n, lambda i: b'{"name":"f%d","parameters":{"type":"OBJECT"}}' % i)
        + b"}]",
    ),
    "hosted tools": lambda n: _gemini(
        b"[" + SAID + b"]", b',"tools":' + _list(n, lambda _: b'{"googleSearch":{}}')
    ),
    "properties": lambda n: _gemini(
        b"[" + SAID + b"]",
        b',"tools":[{"functionDeclarations":[{"name":"f","parameters":{"type":"OBJECT","properties":{'
        + b",".join(b'"p%d":{"type":"STRING","nullable":true}' % i for i in range(n))
        + b"}}}]}]",
    ),
    "allowed names": lambda n: _gemini(
        b"[" + SAID + b"]",
        b',"tools":[{"functionDeclarations":'
        + _list(n, lambda i: b'{"name":"f%d"}' % i)
        + b'}],"toolConfig":{"functionCallingConfig":{"mode":"ANY","allowedFunctionNames":'
        + _list(n, lambda i: b'"f%d"' % i)
        + b"}}",
    ),
    "unknown members": lambda n: _gemini(b"[" + SAID + b"]", b"," + _members(n)),
}

# --- Ollama


def _ollama_call(i: int) -> bytes:
    return b'{"id":"c%d","function":{"name":"f%d","arguments":{}}}' % (i, i)


def _ollama_calls(i: int) -> bytes:
    return b'{"role":"assistant","content":"","tool_calls":[' + _ollama_call(i) + b"]}"


def _ollama_result(i: int) -> bytes:
    return b'{"role":"tool","tool_name":"f%d","tool_call_id":"c%d","content":"ok"}' % (i, i)


OLLAMA: dict[str, Family] = {
    "messages": lambda n: _chat(_list(n, lambda _: USER)),
    "system messages": lambda n: _chat(b"[" + b'{"role":"system","content":"x"},' * n + USER + b"]"),
    "tool turns": lambda n: _chat(b"[" + USER + b"," + _pairs(n, _ollama_calls, _ollama_result)[1:]),
    "calls of one turn": lambda n: _chat(_one(_ollama_call, _ollama_result, n)),
    "results by name": lambda n: _chat(
        _one(
            lambda i: b'{"function":{"name":"f%d","arguments":{}}}' % i,
            lambda i: b'{"role":"tool","tool_name":"f%d","content":"ok"}' % i,
            n,
        )
    ),
    "images": lambda n: _chat(
        b'[{"role":"user","content":"x","images":' + _list(n, lambda _: b'"iVBORw0KGgo="') + b"}]"
    ),
    "tools": lambda n: _chat(
        b"[" + USER + b"]",
        b',"tools":'
        + _list(
            n, lambda i: b'{"type":"function","function":{"name":"f%d","parameters":{"type":"object"}}}' % i
        ),
    ),
    "options": lambda n: _chat(b"[" + USER + b"]", b',"options":{' + _members(n) + b"}"),
    "stops": lambda n: _chat(
        b"[" + USER + b"]", b',"options":{"stop":' + _list(n, lambda i: b'"s%d"' % i) + b"}"
    ),
}

FAMILIES: dict[str, dict[str, Family]] = {
    "openai_chat": CHAT,
    "openai_responses": RESPONSES,
    "anthropic_messages": ANTHROPIC,
    "gemini": GEMINI,
    "ollama": OLLAMA,
}
"""By the dialect of the client."""
