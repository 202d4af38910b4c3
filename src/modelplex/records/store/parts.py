"""A request body as content-addressed parts, and back to exactly its bytes. Pure.

An agent sends its whole conversation with every request. A body is cut into its system prompt, its
tools and its messages, so that each is stored once; what is between them is stored with the call.
Cuts are by position, so that joining gives back the original bytes whatever the body holds.

Clients mark the end of what a provider shall cache with `cache_control`, and move the mark with
every request. It is taken out of a part and stored with the call, as the same message would be
another part otherwise.

Conversations form a tree: the hash of a node is that of the node before and of the message. A
conversation is also known by its turns, for which a text is the same in either of its two forms, as
a string or as a list of one block: some clients write the last message in another form than the
others.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Final

import msgspec

HASH_BYTES: Final = 20
"""Of SHA-256. Two contents with one hash cannot be found even on purpose (2^80 attempts)."""
LEAST_PART: Final = 256
"""Bytes. A smaller value outside of the conversation costs less beside the call."""
WHOLE_BODY: Final = 1024
"""Bytes of a body that is stored with its call, without parts."""
LEAST_COMPRESSED: Final = 1_100
"""Bytes. Smaller contents save too little for what compressing costs."""
SMALL: Final = 8192
"""Bytes up to which a small window is used: clearing a large one takes longer than compressing."""
PROBE: Final = 24
"""Bytes by which a value is looked for."""
LEVEL: Final = 1
"""Of zlib: docs/decisions/0019-records-in-a-store.md has the measurements."""

_MARK = re.compile(rb',\s*"cache_control"\s*:\s*\{[^{}]*\}|"cache_control"\s*:\s*\{[^{}]*\}\s*,')
_ONE_TEXT = re.compile(
    rb'("content"\s*:\s*)\[\s*\{\s*"type"\s*:\s*"text"\s*,\s*"text"\s*:\s*("(?:[^"\\]|\\.)*+")\s*\}\s*\]'
)
_INSTRUCTION = re.compile(rb'"role"\s*:\s*"(?:system|developer)"')

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Part(msgspec.Struct, frozen=True):
    """A piece of a body. `cuts` are the marks that were taken out of `content`: where, and what."""

    hash: bytes
    content: bytes
    cuts: tuple[tuple[int, bytes], ...] = ()


class SplitBody(msgspec.Struct, frozen=True):
    """`literals` has one entry more than there are parts: the bytes before, between and after them.
    The conversation's messages are the parts from `first` on, one for each of `nodes`, which are
    hashes of the conversation so far; `turns` are the same but for the form of texts. `context` is
    the hash of the system prompt.

    For the next body of the conversation: the member `list_name` has the messages, `ends` are the
    positions after each of them, and `instructions` the hashes of the system prompt before them.
    """

    literals: tuple[bytes, ...]
    parts: tuple[Part, ...] = ()
    first: int = 0
    nodes: tuple[bytes, ...] = ()
    turns: tuple[bytes, ...] = ()
    context: bytes | None = None
    list_name: str = ""
    ends: tuple[int, ...] = ()
    instructions: tuple[bytes, ...] = ()

    @property
    def messages(self) -> tuple[Part, ...]:
        return self.parts[self.first : self.first + len(self.nodes)]


class StoredBody(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What a call keeps of its request: literals, the hashes of parts before and after the
    conversation, its last node and number of messages, and cuts by the number of the part.
    """

    literals: tuple[bytes, ...]
    before: tuple[bytes, ...] = ()
    after: tuple[bytes, ...] = ()
    node: bytes = b""
    count: int = 0
    cuts: dict[int, tuple[tuple[int, bytes], ...]] = {}


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(StoredBody).decode


def hash_of(content: bytes) -> bytes:
    return sha256(content).digest()[:HASH_BYTES]


def split_body(body: bytes, *, conversation: Sequence[str], seed: bytes = b"") -> SplitBody:
    """`conversation` are the members that hold the conversation: the list of messages first, then
    those of the system prompt. `seed` separates the conversations of different owners. A body that
    is no JSON object is one literal.
    """
    try:
        return _Cutter(body, seed, conversation).cut(_members(body))
    except _NOT_SPLIT:
        return SplitBody((body,))


def split_longer(
    body: bytes, known: SplitBody, *, same: int, conversation: Sequence[str], seed: bytes = b""
) -> SplitBody | None:
    """The same for a body that is equal to that of `known` up to the end of its message number
    `same`, from 1 on. Only the rest is read. None where it does not continue as expected.
    """
    rest = body[known.ends[same - 1] :].lstrip()
    if rest.startswith(b","):
        rest = rest[1:]
    elif not rest.startswith(b"]"):
        return None
    cutter = _Cutter(body, seed, conversation)
    cutter.resume(known, same)
    try:
        return cutter.cut(_members(b'{"%b":[%b' % (known.list_name.encode(), rest)))
    except _NOT_SPLIT:
        return None


_NOT_SPLIT: Final = (msgspec.DecodeError, UnicodeError, RecursionError, ValueError)
"""ValueError: a member stands twice, so that values are not in the order of their names."""


class _Cutter:
    """Cuts one body, from its start to its end."""

    def __init__(self, body: bytes, seed: bytes, conversation: Sequence[str]) -> None:
        self._body = body
        self._conversation = conversation
        self._at = 0
        self._node = self._turn = seed
        self._literals: list[bytes] = []
        self._parts: list[Part] = []
        self._nodes: list[bytes] = []
        self._turns: list[bytes] = []
        self._ends: list[int] = []
        self._first = 0
        self._list = ""
        self._context: list[bytes] = []
        self._instructions: tuple[bytes, ...] = ()
        self._known: dict[bytes, Part] = {}

    def resume(self, known: SplitBody, same: int) -> None:
        """Continue after so many messages of another body."""
        count = known.first + same
        self._at = known.ends[same - 1]
        self._literals += known.literals[:count]
        self._parts += known.parts[:count]
        self._nodes += known.nodes[:same]
        self._turns += known.turns[:same]
        self._ends += known.ends[:same]
        self._node, self._turn = known.nodes[same - 1], known.turns[same - 1]
        self._first, self._list = known.first, known.list_name
        self._instructions = known.instructions
        self._context += known.instructions
        self._known = {part.content[:PROBE]: part for part in known.parts[known.first + len(known.nodes) :]}

    def cut(self, members: dict[str, msgspec.Raw]) -> SplitBody:
        values = {name: bytes(raw) for name, raw in members.items()}
        list_name = self._list or next(
            (name for name in self._conversation if values.get(name, b"").startswith(b"[")), ""
        )
        for name, value in values.items():
            if name == list_name:
                if not self._nodes:
                    self._first = len(self._parts)
                    self._list = list_name
                self._cut_messages(value)
            elif len(value) >= LEAST_PART:
                self._cut_member(value, is_context=name in self._conversation)
        self._literals.append(self._body[self._at :])
        context = hash_of(b"".join(self._context)) if self._context else None
        return SplitBody(
            tuple(self._literals),
            tuple(self._parts),
            self._first,
            tuple(self._nodes),
            tuple(self._turns),
            context,
            self._list,
            tuple(self._ends),
            self._instructions,
        )

    def _cut_member(self, value: bytes, *, is_context: bool) -> None:
        """Blocks of a system prompt are parts of their own: some clients change the first of them
        with every request.
        """
        if not is_context:
            self._take(value)
            return
        values = [bytes(each) for each in _elements(value)] if value.startswith(b"[") else [value]
        for each in values:
            if len(each) >= LEAST_PART:
                self._context.append(self._take(each).hash)

    def _cut_messages(self, value: bytes) -> None:
        for raw in _elements(value):
            part = self._take(bytes(raw))
            if not self._nodes and not self._context and _INSTRUCTION.search(part.content[:200]):
                self._context.append(part.hash)
            node, identity = hash_of(self._node + part.hash), _identity(part)
            is_same = identity == part.hash and self._turn == self._node
            self._turn = node if is_same else hash_of(self._turn + identity)
            self._node = node
            self._nodes.append(node)
            self._turns.append(self._turn)
            self._ends.append(self._at)
        self._instructions = tuple(self._context)

    def _take(self, value: bytes) -> Part:
        start = self._find(value)
        self._literals.append(self._body[self._at : start])
        self._at = start + len(value)
        known = self._known.get(value[:PROBE])
        part = known if known is not None and known.content == value else _part(value)
        self._parts.append(part)
        return part

    def _find(self, value: bytes) -> int:
        """Where the value stands. Raises ValueError. Looks for its first bytes only: searching for
        a long one takes several times its length.
        """
        body, start = self._body, self._at + 1
        if body.startswith(value, start):  # after a comma or a bracket
            return start
        start = body.index(value[:PROBE], self._at)
        while not body.startswith(value, start):
            start = body.index(value[:PROBE], start + 1)
        return start


def _part(value: bytes) -> Part:
    if b'"cache_control"' not in value:
        return Part(hash_of(value), value)
    cuts: list[tuple[int, bytes]] = []
    rest: list[bytes] = []
    end = size = 0
    for found in _MARK.finditer(value):
        rest.append(value[end : found.start()])
        size += found.start() - end
        cuts.append((size, found[0]))
        end = found.end()
    content = b"".join([*rest, value[end:]])
    return Part(hash_of(content), content, tuple(cuts))


def _identity(part: Part) -> bytes:
    """The hash of a message, alike for both forms of a text."""
    head = part.content[:100]
    if b'"content"' not in head or b'"text"' not in head:
        return part.hash
    plain = _ONE_TEXT.sub(rb"\1\2", part.content, count=1)
    return part.hash if plain == part.content else hash_of(plain)


def restored(content: bytes, cuts: Iterable[tuple[int, bytes]]) -> bytes:
    """The content with the marks at their places."""
    pieces: list[bytes] = []
    at = 0
    for position, text in cuts:
        pieces += (content[at:position], text)
        at = position
    return b"".join([*pieces, content[at:]])


# --- stored form ----------------------------------------------------------------------------------


def stored_body(split: SplitBody) -> bytes:
    after = split.first + len(split.nodes)
    stored = StoredBody(
        split.literals,
        before=tuple(part.hash for part in split.parts[: split.first]),
        after=tuple(part.hash for part in split.parts[after:]),
        node=split.nodes[-1] if split.nodes else b"",
        count=len(split.nodes),
        cuts={number: part.cuts for number, part in enumerate(split.parts) if part.cuts},
    )
    return pack(_encode(stored))


def read_stored(data: bytes) -> StoredBody:
    return _decode(unpack(data))


def parts_of(stored: StoredBody, messages: Sequence[bytes]) -> list[bytes]:
    """The hashes of all parts in their order. `messages` has those of the nodes, first to last."""
    return [*stored.before, *messages, *stored.after]


def join_body(stored: StoredBody, parts: Sequence[bytes], load: Callable[[bytes], bytes]) -> bytes:
    """The body's bytes. `load` returns the content of a part by its hash."""
    pieces = [stored.literals[0]]
    for number, (hash_, literal) in enumerate(zip(parts, stored.literals[1:], strict=True)):
        pieces += (restored(load(hash_), stored.cuts.get(number, ())), literal)
    return b"".join(pieces)


# --- compression ----------------------------------------------------------------------------------

RAW: Final = 0
ZLIB: Final = 1


def compress(content: bytes) -> tuple[int, bytes]:
    """An encoding and the bytes, whichever is shorter."""
    if len(content) < LEAST_COMPRESSED:
        return RAW, content
    if len(content) <= SMALL:
        packer = zlib.compressobj(LEVEL, zlib.DEFLATED, 13, 5)
        small = packer.compress(content) + packer.flush()
    else:
        small = zlib.compress(content, LEVEL)
    return (ZLIB, small) if len(small) < len(content) else (RAW, content)


def decompress(encoding: int, content: bytes) -> bytes:
    return zlib.decompress(content) if encoding == ZLIB else content


def pack(content: bytes) -> bytes:
    """The content with its encoding in the first byte."""
    encoding, small = compress(content)
    return bytes([encoding]) + small


def unpack(data: bytes) -> bytes:
    return decompress(data[0], data[1:])
