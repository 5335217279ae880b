"""The document of the audit's messages is what the table says, and cannot be stale."""

from __future__ import annotations

from pathlib import Path

from dicomnode.audit_document import audit_document
from dicomnode.audit_events import EVENTS

ROOT = Path(__file__).parents[2]
HOW = """python -c "from pathlib import Path; from dicomnode.config_reference import rewrite; rewrite(Path('.'))" """


def test_the_document_is_current() -> None:
    assert (ROOT / "docs" / "AUDIT.md").read_text(encoding="utf-8") == audit_document(), f"run {HOW}"


def test_every_event_has_its_row_with_its_code() -> None:
    lines = audit_document().splitlines()
    for event, kind in EVENTS.items():
        (line,) = [one for one in lines if one.startswith(f"| {event} |")]
        assert f"({kind.event.value}, {kind.event.scheme})" in line and kind.parties.value in line
