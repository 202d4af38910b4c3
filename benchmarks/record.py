"""What recording costs: gateways that record nothing, metadata, and everything, in one run.

CPU time is that of the whole process, with the thread that splits, compresses and writes: while
there is load, and with the rows that are made after it (docs/decisions/0040-put-off.md).
"""

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.bodies import MODEL
from benchmarks.gateways import CONFIG, MODELPLEX, NO_RECORD, Server
from benchmarks.machine import BUILD, free_port

CONTENTS = ("off", "metadata", "full")
KINDS = ("500 B", "40 KB", "stream")
RECORD = """
[record]
content = "{content}"
store = "{store}"
"""


def servers(upstream: int) -> list[Server]:
    return [_server(upstream, content) for content in CONTENTS]


def _server(upstream: int, content: str) -> Server:
    name, http = f"record-{content}", f"127.0.0.1:{free_port()}"
    store = BUILD / f"{name}.sqlite"
    for file in BUILD.glob(f"{store.name}*"):
        file.unlink()
    config = CONFIG.replace(NO_RECORD, "").format(port=upstream, model=MODEL, open=BUILD / f"{name}.sock")
    (BUILD / f"{name}.toml").write_text(config + RECORD.format(content=content, store=store))
    return Server(
        name=name,
        command=[str(MODELPLEX), "--config", f"{name}.toml", "--http", http],
        health=f"http://{http}/health",
        addresses={f"modelplex, {content}": http},
    )


def table(figures: Mapping[tuple[str, str], Sequence[float]]) -> str:
    """Medians, and what each content adds to none. `figures` has those of each round by measure and
    target.
    """
    names = [f"modelplex, {content}" for content in CONTENTS]
    lines = [f"| recorded | {' | '.join(CONTENTS)} |", f"|---|{'---:|' * len(names)}"]
    for measure in dict.fromkeys(measure for measure, _ in figures):
        medians = [statistics.median(figures[measure, name]) for name in names]
        cells = [f"{medians[0]:.1f}", *(f"{each:.1f} ({each / medians[0] - 1:+.0%})" for each in medians[1:])]
        lines.append(f"| {measure} | {' | '.join(cells)} |")
    return "\n".join(lines)
