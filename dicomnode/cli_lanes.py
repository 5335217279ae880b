"""The command `dicomnode lanes`: how each destination is served, and the probe that an administrator asks for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from dicomnode.answers import plain
from dicomnode.bell import DISPATCH_ROOM, Bell
from dicomnode.cli_options import CONFIG, ConfigOption, JsonOption, console, opened_database, print_json
from dicomnode.config import load_config
from dicomnode.errors import NodeFault

if TYPE_CHECKING:
    from storage.lanes import LaneState


def lanes(
    probe: Annotated[
        str, typer.Option(help="Ask this destination now whether it is there again; else its own time is kept.")
    ] = "",
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show the destinations for which something waits or went wrong, which of them are broken, and why.

    [dim]dicomnode lanes
    dicomnode lanes --probe pacs[/dim]
    """
    from storage import lanes as lane_store

    with opened_database(config) as database:
        if probe:
            with database.begin() as connection:
                if not lane_store.probe_at_once(connection, [probe], datetime.now(UTC)):
                    raise NodeFault(f"the lane to {probe} is not broken; see `dicomnode jobs` and `dicomnode echo`")
            Bell(load_config(config).data_folder).ring(DISPATCH_ROOM)
        with database.read() as connection:
            found = lane_store.lane_states(connection)
    if as_json:
        print_json([lane_as_json(one) for one in found])
        return
    table = Table("to", "lane", "waiting", "committing", "rejected", "abandoned", "fails since", "next try", "reason")
    for one in found:
        counts = (str(number) for number in (one.waiting, one.committing, one.rejected, one.abandoned))
        state = "whole" if one.broken_since is None else "[red]broken[/red]"
        table.add_row(
            one.destination, state, *counts, _moment(one.failing_since), _moment(one.next_try_at), plain(one.reason)
        )
    console.print(table if found else "nothing waits, and no lane is broken")


def lane_as_json(one: LaneState) -> dict[str, object]:
    """The lane for a script."""
    return {
        "destination": one.destination,
        "broken": one.broken_since is not None,
        "waiting": one.waiting,
        "committing": one.committing,
        "rejected": one.rejected,
        "abandoned": one.abandoned,
        "broken_since": one.broken_since,
        "failing_since": one.failing_since,
        "next_try_at": one.next_try_at,
        "reason": one.reason,
    }


def _moment(at: datetime | None) -> str:
    return "" if at is None else at.astimezone().strftime("%m-%d %H:%M:%S")
