"""docs/AUDIT.md: which message of PS3.15 A.5 tells of which event, made from the table that writes the messages."""

from __future__ import annotations

from dicomnode.audit_events import EVENTS, Kind
from dicomnode.syslog import LONGEST

_HEAD = """# The audit as messages

With `[audit_export]` in node.toml every row of the audit leaves as one audit message (PS3.15 A.5, schema A.5.1)
in one syslog message (RFC 5424) over TLS (RFC 5425, PS3.15 A.6), TCP (RFC 6587, octet counting) or UDP (RFC
5426, PS3.15 A.7). `dicomnode audit export` writes the same messages to a file. Made from
`dicomnode/audit_events.py` by `rewrite` of `dicomnode/config_reference.py`.

- **Header.** Facility 10; severity 5, or 4 where the outcome is not 0. MSGID `DICOM+RFC3881`. `[meta
  sequenceId]` is the number of the row: a message that comes twice bears it twice, and a number that is missing
  is a row that is missing.
- **Length.** At most {longest} bytes over TLS and TCP, {shortest} over UDP where it can be so short. Our own
  details are left out first; then all studies but one and the keys of a query, and words are cut after 64
  characters. An ID is whole or not there. The row's number and hash are always there.
- **Event.** `EventTypeCode` ends with our own word for the event, in the coding scheme `99DCMNODE`. An event
  for which A.5.3 has no message has it as `EventID` too.
- **Participants.** `UserID` of the node is its AE title, of a peer its name in node.toml, of a person
  `login@host`. AE titles stand in `AlternativeUserID`.
- **Study.** By Study Instance UID with the series as a detail, or by Series Instance UID where the study is not
  known.
- **Patient.** Not named, although A.5.3 wants it, unless `patient_id = true`: then by Patient ID while an
  instance of the series is held. Never by name.
- **Query.** The query's data set holds its level, the UIDs and the keys that were asked; the values of other
  keys are left empty.
- **The row.** The last object is the row itself: its number (after `#`), its hash in our chain, and its
  details. Who keeps the messages can later show whether the node's audit is still whole.
- **Outages.** Over TLS and TCP a batch of at most 200 rows has arrived when the receiver has ended its
  connection in order; else all of it is sent again, in smaller batches after each fault. Nothing is lost; a fault
  makes at most one batch come twice. A frame that is not whole is to be thrown away: it comes again. A receiver
  must end its side when we have ended ours, within 20 s. Over UDP nobody knows.

| event | EventID | EventTypeCode | action | outcome | who takes part |
| --- | --- | --- | --- | --- | --- |
"""
_FOOT = """
The outcome is 4 instead of 0 where a status or a count of the row says that not everything succeeded. The last
series of a study that is removed is told as DICOM Study Deleted (110105). Not told, because the node has no
such event: User Authentication, Network Entry, Import, Order, Patient and Procedure Record. Reading the audit
on the node's own command line is not told either, but for `dicomnode audit export`.
"""


def audit_document() -> str:
    """The document as it should stand."""
    rows = "".join(f"{_row(event, kind)}\n" for event, kind in EVENTS.items())
    return _HEAD.format(longest=LONGEST["tls"], shortest=LONGEST["udp"]) + rows + _FOOT


def _row(event: str, kind: Kind) -> str:
    name = f"{kind.event.meaning} ({kind.event.value}, {kind.event.scheme})"
    types = ", ".join(f"{code.meaning} ({code.value})" for code in kind.types)
    return f"| {event} | {name} | {types} | {kind.action} | {kind.outcome} | {kind.parties.value} |"
