"""The command `dicomnode audit`: what happened, whether the chain is whole, and its messages in a file."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from dicomnode.answers import details_in_lines, entry_as_json, plain
from dicomnode.cli_options import CONFIG, ConfigOption, JsonOption, console, opened_database, print_json
from dicomnode.errors import NodeFault

if TYPE_CHECKING:
    from storage.audit_spool import Waiting
    from storage.database import Database

PORTION = 500
MOMENTS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]


def audit(
    what: Annotated[str, typer.Argument(help="A Series Instance UID, or the word verify or export.")] = "",
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
    limit: Annotated[int, typer.Option(help="How many of the newest rows, where no series is named.")] = 50,
    begin: Annotated[
        datetime | None,
        typer.Option("--from", formats=MOMENTS, help="export: rows from then on (local time); absent: from the first."),
    ] = None,
    end: Annotated[
        datetime | None,
        typer.Option("--to", formats=MOMENTS, help="export: rows before then (local time); absent: up to now."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="export: the file to write.")] = None,
) -> None:
    """Show what happened, to one series or at all; `audit verify` checks the whole hash chain.

    `audit export` writes audit messages of PS3.15 A.5 to a file, one syslog message of RFC 5424 a line.

    [dim]dicomnode audit 1.2.840.113619.2.55
    dicomnode audit verify
    dicomnode audit export --from 2026-01-01 --to 2026-02-01 --output january.log[/dim]
    """
    from storage import audit as record

    if what == "export":
        _export(config, begin, end, output, as_json=as_json)
        return
    if begin is not None or end is not None or output is not None:
        raise NodeFault("--from, --to and --output are for `dicomnode audit export`")
    with opened_database(config) as database, database.read() as connection:
        if what == "verify":
            rows, head = record.verify(connection), record.head(connection)
            if as_json:
                print_json({"rows": rows, "head": head, "whole": True})
            else:
                console.print(f"{rows} rows, the chain is whole; head {head}")
            return
        entries = record.entries(connection, series_instance_uid=what or None, limit=None if what else limit)
    if as_json:
        print_json([entry_as_json(one) for one in entries])
        return
    table = Table("when", "event", "job", "peer", "details", show_lines=True)
    for one in entries:
        when = one.at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(when, one.event, str(one.job_id or ""), one.peer, plain(details_in_lines(one.details)))
    console.print(table if entries else f"nothing is recorded{f' of series {what}' if what else ''}")


def _export(config: Path, begin: datetime | None, end: datetime | None, output: Path | None, *, as_json: bool) -> None:
    from rich.progress import Progress

    from dicomnode.audit_export import messages_of, reporter_of
    from dicomnode.config import load_config
    from storage import audit as record

    if output is None:
        raise NodeFault("where to? give --output FILE")
    if output.exists():
        raise NodeFault(f"{output} is there already; give another name, or remove it first")
    since = None if begin is None else begin.astimezone(UTC)
    until = datetime.now(UTC) if end is None else end.astimezone(UTC)
    settings = load_config(config, relative_to=config)
    receiver = None if settings.audit_export is None else settings.audit_export.settings
    errors = Console(stderr=True)
    part = output.with_name(f".{output.name}.part")
    written = 0
    with opened_database(config) as database:
        reporter = reporter_of(settings, receiver, database.deployment_uuid())
        named = receiver is not None and receiver.patient_id
        try:
            with (
                os.fdopen(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file,
                Progress(console=errors, transient=True, disable=not errors.is_terminal) as bar,
            ):
                task = bar.add_task("writing", total=None)
                for rows in _portions(database, since, until, with_patient=named):
                    for message in messages_of(rows, reporter, receiver):
                        file.write(message + b"\n")
                    written += len(rows)
                    bar.update(task, completed=written)
                file.flush()
                os.fsync(file.fileno())
            details = {
                "user": f"{getpass.getuser()}@{socket.gethostname()}",
                "rows": written,
                "from": "" if since is None else since.isoformat(),
                "until": until.isoformat(),
            }
            with database.begin() as connection:  # before the file can be seen under its name
                record.append(connection, "audit exported", details=details)
            part.replace(output)
        finally:
            part.unlink(missing_ok=True)
    if as_json:
        print_json({"file": str(output), "rows": written})
    else:
        console.print(f"{output}: {written} messages")


def _portions(
    database: Database, begin: datetime | None, end: datetime, *, with_patient: bool
) -> Iterator[list[Waiting]]:
    from storage import audit_spool

    seq = 0
    while True:
        with database.read() as connection:
            rows = audit_spool.rows_after(
                connection, seq, limit=PORTION, begin=begin, end=end, with_patient=with_patient
            )
        if not rows:
            return
        yield rows
        seq = rows[-1].entry.seq
