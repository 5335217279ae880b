"""What the commands share: their options, the console, JSON for scripts and the opened database."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from dicomnode.config import load_config

if TYPE_CHECKING:
    from storage.database import Database

console = Console(width=None if sys.stdout.isatty() else 160)
CONFIG = Path("config")
ConfigOption = Annotated[
    Path,
    typer.Option("--config", "-c", help="Folder with node.toml and rules.toml.", envvar="DICOMNODE_CONFIG"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script instead of a table.")]


@contextmanager
def opened_database(folder: Path) -> Iterator[Database]:
    """The database of a node that has run, as it is."""
    from dicomnode.stores import Stores

    opened = Stores.look(load_config(folder, relative_to=folder))
    try:
        yield opened
    finally:
        opened.close()


def print_json(value: Any) -> None:
    """The value on standard output, for a script."""
    print(json.dumps(value, indent=2, default=str))
