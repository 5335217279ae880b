"""What an administrator types, answered in this process: as `python -m dicomnode` would, without its imports."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

from dicomnode.cli import main


def dicomnode(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command's exit code and what it printed; a fault that would end it with a trace rises here."""
    said, complained = io.StringIO(), io.StringIO()
    words, before, code = ["dicomnode", *map(str, arguments)], sys.argv, 0
    try:
        sys.argv = words
        with redirect_stdout(said), redirect_stderr(complained):
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv = before
    return subprocess.CompletedProcess(words, code, said.getvalue(), complained.getvalue())
