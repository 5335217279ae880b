"""The command `dicomnode promises`: what peers asked us to keep, and whether they were told that we do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from dicomnode.answers import plain
from dicomnode.cli_options import CONFIG, ConfigOption, JsonOption, console, opened_database, print_json

if TYPE_CHECKING:
    from storage.promises import Promise


def promises(
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
    limit: Annotated[int, typer.Option(help="How many, newest first.")] = 50,
) -> None:
    """Show what peers asked us to keep (Storage Commitment), what they were told, and which reports still wait.

    [dim]dicomnode promises
    dicomnode promises --json | jq '.[] | select(.state != "reported")'[/dim]
    """
    from storage import promises as promise_store

    with opened_database(config) as database, database.read() as connection:
        found = [
            (one, len(promise_store.promised(connection, one.id)), len(promise_store.failures(connection, one.id)))
            for one in promise_store.list_promises(connection, limit)
        ]
    if as_json:
        print_json([promise_as_json(one, instances, failed) for one, instances, failed in found])
        return
    table = Table("peer", "asked", "instances", "not kept", "report", "tries", "transaction", "reason")
    for one, instances, failed in found:
        when = one.asked_at.astimezone().strftime("%m-%d %H:%M:%S")
        counts = str(instances), str(failed) if failed else ""
        table.add_row(one.peer, when, *counts, one.state, str(one.attempts), one.transaction_uid, plain(one.reason))
    console.print(table if found else "no peer has asked us to keep anything")


def promise_as_json(one: Promise, instances: int, failed: int) -> dict[str, object]:
    """The request for a script; failed: instances that could not be committed to when it was last looked."""
    return {
        "peer": one.peer,
        "transaction_uid": one.transaction_uid,
        "state": one.state,
        "instances": instances,
        "failed": failed,
        "tries": one.attempts,
        "asked_at": one.asked_at,
        "next_try_at": one.next_try_at,
        "reported_at": one.reported_at,
        "reason": one.reason or None,
    }
