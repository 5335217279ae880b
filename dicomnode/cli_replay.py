"""The command `dicomnode replay`: what new rules would change, before they are activated."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group
from rich.table import Table

from dicomnode.answers import plain, terms_in_lines, verdict_as_json
from dicomnode.cli_options import CONFIG, ConfigOption, JsonOption, console, opened_database
from dicomnode.config import IN_FORCE, Config, load_config
from dicomnode.errors import ConfigFault

if TYPE_CHECKING:
    from dicomnode.replay import Because, Replayed, Totals

CHANGES = 2
"""Exit code where something changes, or where that cannot be said; 1 is a fault, 0 that nothing changes."""


def replay(
    rules: Annotated[Path, typer.Argument(help="The new rules: a file such as rules.toml.")],
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Only series to which something came since then."),
    ] = None,
    peer: Annotated[list[str] | None, typer.Option(help="Only series of this peer; may be given again.")] = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
    limit: Annotated[int, typer.Option(min=1, help="How many kinds of change the table shows.")] = 20,
) -> None:
    """Ask new rules of everything that was received, and show which series would go elsewhere and why. Changes nothing.

    They are compared with the rules in force (those a running node has read; else those of the config folder) on the
    headers in the catalogue; new series, also those that are not whole yet. Exit code 0: nothing changes; 2: something
    changes, or it cannot be said for some series; 1: a fault, such as a mistake in the new rules.

    [dim]dicomnode replay rules.new.toml
    dicomnode replay rules.new.toml --since 2024-05-01 --peer scanner --json | jq .changed[/dim]
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from dicomnode.replay import Totals
    from dicomnode.replay import replay as replay_rules
    from storage.received import Choice, count_received

    new = load_config(config, relative_to=config, rules_file=rules)
    unknown = sorted(set(peer or ()) - set(new.peers))
    if unknown:
        raise ConfigFault(new.folder / "node.toml", f"peers.{unknown[0]}", f"there are {', '.join(new.peers)}")
    now_rules, in_force = rules_in_force(config, new)
    moment = since.astimezone() if since is not None else None
    choice, totals = Choice(moment, frozenset(peer or ())), Totals()
    errors = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with opened_database(config) as database:
        with database.read() as connection:
            count = count_received(connection, choice)
        with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
            found = replay_rules(database, choice, in_force=in_force, new=new, totals=totals, now=datetime.now(UTC))
            writer = _JsonWriter(str(now_rules), str(rules)) if as_json else None
            for one in bar.track(found, total=count, description="asking the new rules"):
                if writer is not None and one.changes:
                    writer.add(one)
    if writer is not None:
        writer.end(totals)
    else:
        console.print(f"compared with the rules in {now_rules}", soft_wrap=True)
        console.print(shown_totals(totals, limit))
    sys.exit(CHANGES if totals.anything else 0)


def rules_in_force(folder: Path, new: Config) -> tuple[Path, Config]:
    """The rules of a running node as it read them, else those of the config folder; and with them the config."""
    kept = new.data_folder / IN_FORCE / "rules.toml"
    path = kept if kept.is_file() else folder / "rules.toml"
    return path, load_config(folder, relative_to=folder, rules_file=path)


class _JsonWriter:
    """One JSON object, whose changed series are written as they are found: there may be very many."""

    def __init__(self, compared_with: str, rules: str) -> None:
        print(f'{{"compared_with": {json.dumps(compared_with)}, "rules": {json.dumps(rules)}, "changes": [', end="")
        self._comma = ""

    def add(self, one: Replayed) -> None:
        """A series that changes."""
        print(f"{self._comma}\n{json.dumps(replayed_as_json(one), default=str)}", end="")
        self._comma = ","

    def end(self, totals: Totals) -> None:
        """What the whole comes to."""
        print(f"\n], {json.dumps(totals_as_json(totals))[1:]}")


def replayed_as_json(one: Replayed) -> dict[str, Any]:
    """A series with what changes for it, for a script."""
    return {
        "series_instance_uid": one.series.series_instance_uid,
        "study_instance_uid": one.series.study_instance_uid,
        "peer": one.series.peer,
        "last_received_at": one.series.last_received_at.isoformat(),
        "whole": one.series.closed_at is not None,
        "changes": [
            {"what": change.kind, "pipelines": list(map(str, change.path)), "details": list(change.details)}
            for change in one.changes
        ],
        "because": [
            {
                "rule": because.rule,
                "after": list(map(str, because.before)),
                "now": because.now and verdict_as_json(because.now),
                "new": because.then and verdict_as_json(because.then),
            }
            for because in one.because
        ],
    }


def totals_as_json(totals: Totals) -> dict[str, Any]:
    """The counts, for a script."""
    return {
        "series": totals.series,
        "changed": totals.changed,
        "cannot_be_said": totals.uncertain,
        "same_way_by_other_rules": totals.otherwise,
        "flows": [
            {"pipelines": what, "to": to, "series_now": totals.now[what, to], "series_new": totals.then[what, to]}
            for what, to in sorted({*totals.now, *totals.then})
        ],
    }


def shown_totals(totals: Totals, limit: int) -> Group:
    """Counts, what goes where now and by the new rules, and every kind of change with an example."""
    unchanged = totals.series - totals.changed - totals.uncertain
    counts = f"{totals.series} series: {totals.changed} change, {unchanged} do not"
    if totals.otherwise:
        counts += f" ({totals.otherwise} of them go the same way by another rule)"
    if totals.uncertain:
        counts += f"; of {totals.uncertain} it cannot be said"
    flows = Table("work", "to", "series now", "by the new rules", "more or fewer")
    for what, to in sorted({*totals.now, *totals.then}):
        now, then = totals.now[what, to], totals.then[what, to]
        flows.add_row(
            plain(what), to or "the next pipeline", str(now), str(then), f"{then - now:+d}" if then != now else ""
        )
    kinds = Table("series", "what changes", "why (of one of them)", "for example", show_lines=True)
    groups = sorted(totals.groups.values(), key=lambda one: -one.count)
    for group in groups[:limit]:
        one = group.example
        changes, because = "\n".join(map(str, one.changes)), "\n".join(map(_in_lines, one.because))
        kinds.add_row(str(group.count), plain(changes), plain(because), one.series.series_instance_uid)
    left = len(groups) - limit
    more = (
        [f"and {left} more kinds of change; --limit {len(groups)} shows them, --json every series"] if left > 0 else []
    )
    return Group(counts, *([flows] if flows.row_count else []), *([kinds] if groups else []), *more)


def _in_lines(because: Because) -> str:
    """The rule's two verdicts, term by term."""
    lines = [f"rule {because.rule!r}"]
    for side, verdict in (("now", because.now), ("new", because.then)):
        if verdict is None:
            lines.append(f"  {side}: there is no such rule")
            continue
        lines.append(f"  {side}: {verdict.reason}")
        lines += [f"    {line}" for line in terms_in_lines(verdict)]
    return "\n".join(lines)
