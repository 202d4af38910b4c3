"""The table of what a tool call costs says whether the aims are met."""

from benchmarks.tools import ADDED, ALONE, CALLS, MEMORY, table


def row(measure: str, **figures: float) -> str:
    return table({(measure, name): figure for name, figure in figures.items()}).splitlines()[-1]


def test_what_is_added_is_held_against_a_limit_and_against_fastmcp() -> None:
    assert row(f"stdio: {ADDED}", FastMCP=2000.0, modelplex=200.0).endswith(
        "| 0.10 of what it adds | at most 2,000: met; at most 0.2 of FastMCP's: met |"
    )
    assert row(f"stdio: {ADDED}", FastMCP=2000.0, modelplex=500.0).endswith(
        "at most 0.2 of FastMCP's: MISSED |"
    )
    assert "at most 2,000: MISSED" in row(f"HTTP: {ADDED}", FastMCP=20000.0, modelplex=2500.0)


def test_without_fastmcp_the_limit_still_holds() -> None:
    assert row(f"HTTP: {ADDED}", modelplex=300.0).endswith("|  | at most 2,000: met |")


def test_calls_are_compared_by_the_cpu_that_they_cost() -> None:
    assert "12.0 times as many" in row(f"stdio: {CALLS}", FastMCP=400.0, modelplex=4800.0)


def test_memory_counts_what_configured_servers_add() -> None:
    figures = {(ALONE, "modelplex"): 45.0, (MEMORY, "modelplex"): 46.5}
    assert table(figures).splitlines()[-1].endswith("| +1.5 MB for the servers | below 5 MB: met |")
    figures[MEMORY, "modelplex"] = 50.0
    assert table(figures).splitlines()[-1].endswith("below 5 MB: MISSED |")
