"""The command `dicomnode conformance`: the conformance statement of the product, or of one configured node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dicomnode.cli_options import console
from dicomnode.config import load_config


def conformance(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Folder with node.toml and rules.toml: state that node's own values."),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write it to CONFORMANCE.md in this folder instead of printing it.")
    ] = False,
) -> None:
    """Give the DICOM conformance statement (PS3.2), made from what the node runs by.

    [dim]dicomnode conformance --config /etc/dicomnode > CONFORMANCE-node1.md
    dicomnode conformance --write[/dim]
    """
    from dicomnode.conformance.statement import FILE, statement

    text = statement(None if config is None else load_config(config, relative_to=config))
    if write:
        Path(FILE).write_text(text, encoding="utf-8")
        console.print(f"{FILE}: {len(text.splitlines())} lines", soft_wrap=True)
    else:
        print(text, end="")
