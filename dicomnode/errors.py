"""Faults of the node, named by what can be done about them."""

from pathlib import Path


class NodeFault(Exception):
    """A fault raised by the dicomnode package."""


class ConfigFault(NodeFault):
    """The admin's files hold a mistake; they must be edited. Names file, key and what was expected."""

    def __init__(self, file: Path | str, key: str, reason: str) -> None:
        super().__init__(f"{file}: {key}: {reason}" if key else f"{file}: {reason}")
        self.file, self.key, self.reason = str(file), key, reason


class TlsFault(NodeFault):
    """A certificate, key or file of authorities cannot be used; [tls] of node.toml or the file must be corrected."""


class DatasetUnfit(NodeFault):
    """A data set lacks the UIDs we need, or names others than its command; its sender must be corrected."""


class InstanceTooLong(NodeFault):
    """A data set is longer than the node takes; raise maximum_instance_bytes or look at what the sender sends."""


class HeaderUnreadable(NodeFault):
    """A file's header cannot be read; the file goes to quarantine for somebody to look at."""


class SeriesUnusable(NodeFault):
    """A series cannot be one regular volume of known units; it is refused. `reason_code` is stable."""

    def __init__(self, reason_code: str, message: str) -> None:
        super().__init__(message)
        self.reason_code = reason_code


class OutputFault(NodeFault):
    """A result failed the output gate; the job fails and nothing is sent. `rule` is the rule it broke."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(f"{rule}: {message}")
        self.rule = rule


class PeerUnreachable(NodeFault):
    """A peer cannot be reached or asks for time; trying again later helps."""


class NoAssociation(PeerUnreachable):
    """No association could be opened: nothing was sent, and nothing else will reach that peer now."""


class AssociationBroken(PeerUnreachable):
    """An association ended, or was ended for a wrong answer, before it was answered; what waited is sent again."""


class ReceiverAway(NodeFault):
    """The receiver of audit messages is not there or refuses us; they wait and are sent again."""


class PeerRejected(NodeFault):
    """A peer does not take this instance; an operator has to look."""


class NotRequeued(NodeFault):
    """A job is in a state from which it cannot be tried again; look at it first."""
