"""What the node speaks on the network: services, presentation contexts, association policies, limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.conformance.tables import name_of, table, uid_rows
from dicomnode.contexts import (
    ACCEPTED_STORAGE,
    LOSSLESS_OF,
    STORAGE_COMMITMENT,
    UNCOMPRESSED,
    VERIFICATION,
    WITH_PIXELS,
    accepted_contexts,
    commitment_context,
    wanted_syntaxes,
)
from dicomnode.iods import SOP_CLASS_OF
from dicomnode.late_database import LateDatabase
from dicomnode.query_retrieve_scp import SERVICES
from dicomnode.question import STUDY_ROOT_FIND, STUDY_ROOT_GET, STUDY_ROOT_MOVE
from dicomnode.receive import PERMANENT, TRANSIENT
from dicomnode.receiver import services
from dicomnode.service import Means
from dicomnode.uids import IMPLEMENTATION_CLASS_UID

if TYPE_CHECKING:
    from dicomnode.config import Config
    from storage.instance_files import InstanceFiles

REJECTIONS: Sequence[tuple[tuple[int, int, int], str]] = (
    ((*PERMANENT, 0x07), "called AE title not recognised: it is not the node's"),
    (
        (*PERMANENT, 0x03),
        "calling AE title not recognised: no peer of node.toml, or not from one of its networks, or without TLS where "
        "it must, or with a certificate that bears none of its `certificate_names`",
    ),
    ((*TRANSIENT, 0x01), "temporary congestion: the disk is below `low_watermark_gb`"),
    ((*TRANSIENT, 0x02), "local limit exceeded: `maximum_associations` are open"),
)
"""Result, source and diagnostic (PS3.8 9.3.4), and when."""


def node_services() -> list[Any]:
    """The presentation contexts of every service that answers beside C-ECHO and C-STORE, as a receiver has them."""
    nothing = Means(
        config=lambda: cast("Config", None),  # nobody is asked anything: only what they accept
        database=LateDatabase(lambda: ""),
        files=cast("InstanceFiles", None),
        happened=lambda event, peer, details: None,
    )
    return [context for service in services(nothing) for context in service.contexts()]


def overview() -> str:
    """The table of network services (PS3.2 A.1)."""
    accepted = {str(one.abstract_syntax) for one in (*accepted_contexts(), *node_services())}
    asked = [uid for models in SERVICES.values() for uid in models]
    requested = {VERIFICATION, STORAGE_COMMITMENT, *sent_classes(), *requested_queries()}
    retrieved = set(ACCEPTED_STORAGE) if accepted & {*SERVICES["C_MOVE"], *SERVICES["C_GET"]} else set()
    every = dict.fromkeys([VERIFICATION, *sent_classes(), *ACCEPTED_STORAGE, *sorted(asked), STORAGE_COMMITMENT])
    rows = [
        (
            name,
            uid,
            "yes" if uid in requested else "when retrieved" if uid in retrieved else "no",
            "yes" if uid in accepted else "no",
        )
        for name, uid in uid_rows(every)
    ]
    return table(("SOP class", "UID", "user (SCU)", "provider (SCP)"), rows)


def requested_queries() -> tuple[str, ...]:
    """The information models that the node asks peers in."""
    return STUDY_ROOT_FIND, STUDY_ROOT_MOVE, STUDY_ROOT_GET


def sent_classes() -> list[str]:
    """The classes that the node makes and sends: derived images, and what stands beside them."""
    from dicomnode.companions.harmonise import MODALITY_OF

    return [*SOP_CLASS_OF.values(), *map(str, MODALITY_OF)]


def acceptor_contexts() -> str:
    """Every presentation context that is accepted, with its roles; sets of transfer syntaxes are told once."""
    contexts = [*accepted_contexts(), *node_services()]
    sets = dict.fromkeys(tuple(map(str, one.transfer_syntax or ())) for one in contexts)
    names = {syntaxes: chr(ord("A") + number) for number, syntaxes in enumerate(sets)}
    told = [(names[syntaxes], name_of(uid), uid) for syntaxes in sets for uid in syntaxes]
    rows = [
        (
            name_of(str(one.abstract_syntax)),
            str(one.abstract_syntax),
            names[tuple(map(str, one.transfer_syntax or ()))],
            "SCP, SCU by role selection" if one.scu_role and one.scp_role else "SCP",
        )
        for one in contexts
    ]
    return (
        table(("set", "transfer syntax", "UID"), told)
        + "\nOf what a caller proposes, the first transfer syntax that is in the set is accepted.\n\n"
        + table(("abstract syntax", "UID", "set", "role"), rows)
    )


def requestor_contexts() -> str:
    """Every presentation context that is proposed."""
    of_commitment = commitment_context()
    plain = [name_of(uid) for uid in UNCOMPRESSED]
    rows = [(name_of(VERIFICATION), "SCU", name_of("1.2.840.10008.1.2"))]
    for uid in sent_classes():
        ways = wanted_syntaxes(str(ExplicitVRLittleEndian), compressible=uid in WITH_PIXELS)
        rows.append((name_of(uid), "SCU", ", ".join(map(name_of, ways))))
    rows += [(name_of(uid), "SCU", ", ".join(plain)) for uid in requested_queries()]
    rows.append((name_of(str(of_commitment.abstract_syntax)), "SCU; SCP to report", ", ".join(plain)))
    words = (
        "A transfer syntax is proposed in a presentation context of its own. Instances that peers retrieve by C-MOVE "
        "are proposed as stored, then as above, in whatever class they are; what C-GET brings is proposed with the "
        "SCP role. A peer's `compression` puts one of these first: "
        + ", ".join(f"`{word}` {name_of(uid)}" for word, uid in LOSSLESS_OF.items())
        + ".\n"
    )
    return table(("abstract syntax", "role", "transfer syntaxes, the most wanted first"), rows) + "\n" + words


def rejections() -> str:
    """When an association is rejected."""
    rows = [(" / ".join(map(str, codes)), words) for codes, words in REJECTIONS]
    return table(("result / source / diagnostic", "when"), rows)


def limits(config: Config | None) -> str:
    """The association's figures, as configured or by default."""
    from dicomnode.settings import NodeSettings

    node = NodeSettings() if config is None else config.node
    rows = [
        ("application context name", "1.2.840.10008.3.1.1.1"),
        ("Implementation Class UID", IMPLEMENTATION_CLASS_UID),
        ("Implementation Version Name", "DCMNODE_ and the version's first two numbers"),
        ("associations accepted at once (`maximum_associations`)", f"{node.maximum_associations}"),
        ("associations opened at once to a peer (`associations`)", "1 by default, at most 8"),
        ("asynchronous operations window", "not negotiated: one operation at a time"),
        ("longest PDU received (`maximum_pdu`)", f"{node.maximum_pdu} bytes"),
        ("longest data set received (`maximum_instance_bytes`)", f"{node.maximum_instance_bytes} bytes"),
        ("wait for an association request (`negotiation_s`)", f"{node.negotiation_s:g} s"),
        ("idle association is ended after (`association_idle_s`)", f"{node.association_idle_s:g} s"),
        ("silence within a PDU (`pdu_stall_s`)", f"{node.pdu_stall_s:g} s"),
        ("whole PDU (`pdu_limit_s`)", f"{node.pdu_limit_s:g} s"),
        ("wait before the second try to send (`retry_first_s`)", f"{node.retry_first_s:g} s"),
        ("longest wait between tries (`retry_longest_s`)", f"{node.retry_longest_s:g} s"),
        ("a delivery fails after (`give_up_after_days`)", f"{node.give_up_after_days:g} days"),
    ]
    return table(("what", "value" if config is not None else "value, by default"), rows)


def query_keys() -> str:
    """The keys of C-FIND by level."""
    from dicomnode.query_levels import COUNTS, OF_PATIENT_LEVEL, OF_SERIES_LEVEL, OF_STUDY_LEVEL, UNIQUE, Level

    keys = {Level.PATIENT: OF_PATIENT_LEVEL, Level.STUDY: OF_STUDY_LEVEL, Level.SERIES: OF_SERIES_LEVEL}
    rows = [(str(level), UNIQUE[level], ", ".join(sorted(found - {UNIQUE[level]}))) for level, found in keys.items()]
    rows.append((str(Level.IMAGE), UNIQUE[Level.IMAGE], "every attribute of the image's header of the first level"))
    told = ", ".join(sorted(COUNTS))
    return table(("level", "unique key", "optional keys"), rows) + f"\nTold, and never matched: {told}.\n"
