"""The whole statement in the order of PS3.2, for the product or for one configured node."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dicomnode.conformance import beside, codes, images, network, statuses, surroundings
from dicomnode.conformance.tables import table
from dicomnode.uids import IMPLEMENTATION_VERSION_NAME, NODE_VERSION
from inference.pipeline import build_pipeline, pipeline_names

if TYPE_CHECKING:
    from dicomnode.config import Config

FILE = "CONFORMANCE.md"
HOW = "dicomnode conformance --write"


def statement(config: Config | None = None) -> str:
    """The statement of the product, or of the node with that config."""
    return "\n".join((_introduction(config), _networking(config), _objects(), _rest(config))).rstrip() + "\n"


def is_stale(root: Path) -> bool:
    """Whether the statement of the product that lies in a checkout is not what the code says now."""
    path = root / FILE
    return not path.is_file() or path.read_text(encoding="utf-8") != statement()


def _introduction(config: Config | None) -> str:
    whose = "" if config is None else f" of {config.node.ae_title}"
    here = "" if config is None else _this_node(config)
    return f"""# DICOM conformance statement{whose}

Made by `{HOW}` from what the node runs by (presentation contexts, statuses, module tables, configuration model), in
the structure of PS3.2; a test says when it is stale. `dicomnode conformance --config FOLDER` states the values of one
node.

## 1 Overview

dicom-ai-node stands between scanner and PACS: it takes series by C-STORE, sends those that the administrator's rules
want to a pipeline, and stores the result to the PACS as a new derived series of the same study. Everything it holds
can be queried and retrieved. Not a medical device: what is derived is marked RESEARCH unless the administrator says
otherwise.

{here}{network.overview()}
No media application profile is claimed: `dicomnode export` writes Part 10 files to a folder, with a DICOMDIR where
asked.

## 2 Introduction

For administrators and integrators. AE title, association, presentation context and all other terms are those of PS3.2
to PS3.8. Conformance alone does not guarantee that two systems work together; try the connection (`dicomnode echo
PEER`) before use.
"""


def _this_node(config: Config) -> str:
    node = config.node
    ports = [] if config.tls is not None and config.tls.only else [f"{node.host}:{node.port}"]
    ports += [f"{node.host}:{config.tls.port} (TLS)"] if config.tls is not None and config.tls.port else []
    rows = [
        ("AE title", node.ae_title),
        ("listens on", ", ".join(ports)),
        ("version", NODE_VERSION),
        ("Implementation Version Name", IMPLEMENTATION_VERSION_NAME),
        ("ContentQualification of what is derived", node.content_qualification),
    ]
    peers = [
        (
            name,
            peer.ae_title,
            f"{peer.host}:{peer.port}" if peer.reachable else "only calls",
            ", ".join(peer.may) or "nothing",
            "yes" if peer.tls else "no",
            ", ".join(peer.networks) or "anywhere",
        )
        for name, peer in config.peers.items()
    ]
    return (
        table(("this node", ""), rows)
        + "\n"
        + table(("peer", "AE title", "where", "may", "TLS", "calls from"), peers)
        + "\n"
    )


def _networking(config: Config | None) -> str:
    title = "`ae_title` of node.toml" if config is None else f"`{config.node.ae_title}`"
    return f"""## 3 Networking

### 3.1 Implementation model

One application entity, {title}, in every role. Receiving processes accept associations on one port (and one over
TLS); an instance is a durable file before its sender hears success. A series is whole when as many images are here as
its headers announce, or when nothing came for `quiet_seconds`; then every rule is asked, and each that is met makes a
job. What a job derived is sent by a lane of its own for each destination. Peers may query and retrieve everything
that is held; the node queries and retrieves for rules that need more, for `[[retrieve]]` and on command. Commitment
is asked of peers with `commitment = true` after a delivery, and given to those that may store.

### 3.2 AE specification

#### 3.2.1 Association policies

{network.limits(config)}
#### 3.2.2 Association initiation

| activity | when |
| --- | --- |
| Verification | `dicomnode echo PEER`; while a destination cannot be reached |
| Storage | a job is derived; a peer's C-MOVE names the destination |
| Storage Commitment | a delivery to a peer with `commitment = true` is done; a report to a peer that asked for one |
| Query/Retrieve | `dicomnode query`, `dicomnode retrieve`, an input that a rule needs, `[[retrieve]]` |

Proposed presentation contexts:

{network.requestor_contexts()}
What is stored in a transfer syntax that the peer takes is sent byte for byte. What is recoded is decoded again and
compared with what was stored, bit for bit, before it leaves; where no accepted syntax is exact the instance is
rejected, never sent. Bit-packed and float pixels, reports and presentation states are sent uncompressed only.

Answers to C-STORE (PS3.4 Table B.2-1), and what follows:

{statuses.store_answered()}
#### 3.2.3 Association acceptance

{network.rejections()}
Accepted presentation contexts:

{network.acceptor_contexts()}
Extended negotiation: of query/retrieve, combined date-time matching, empty value matching and multiple value matching
are agreed where the caller proposes them (PS3.4 C.5.1.1); relational queries, fuzzy matching and timezone adjustment
are not. SOP class common extended, user identity and asynchronous operations are not negotiated.

**Storage** as provider is level 2 (full): every data set is kept byte for byte, unknown and private attributes too.
Answers:

{statuses.store_answers()}
**Query/Retrieve.** Hierarchical; one answer for each entity of the level. Matching of single values, wildcards,
ranges, lists of UIDs, universal and sequence-less keys as PS3.4 C.2.2.2 has them.

{network.query_keys()}
C-FIND answers:

{statuses.answers(statuses.FIND_ANSWERS)}
C-MOVE and C-GET answers:

{statuses.answers(statuses.RETRIEVE_ANSWERS)}
**Storage Commitment** (Push Model). A request is kept in the database before it is answered; the report comes on a
new association to the peer, or on the peer's own where the node cannot call it, and is repeated until it is
acknowledged. Answers to N-ACTION and N-EVENT-REPORT:

{statuses.answers(statuses.COMMITMENT_ANSWERS)}
Failure reasons in our reports:

{statuses.answers(statuses.COMMITMENT_FAILURES)}
### 3.3 Network interfaces

DICOM upper layer over TCP/IP (PS3.8), IPv4 and IPv6, with and without TLS.
"""


def _objects() -> str:
    cards = [build_pipeline(name, {}).card for name in pipeline_names()]
    rows = [
        (card.name, card.modality, card.result_modality, card.token, "yes" if card.synthetic else "no", card.purpose)
        for card in cards
    ]
    return f"""## 4 Created objects

### 4.1 Derived images

Single-frame CT, PET and MR images of the source's study and frame of reference, one for each source image or frame,
as a new series. The same work on the same sources gives the same UIDs, and the same bytes on the same kind of
processor with the same number of threads: a network's sums round differently on others, by 1 HU in a few voxels.
`dicomnode verify` asks these rules of any folder.

{table(("pipeline", "of", "makes", "ImageType token", "SyntheticData", "what"), rows)}
As input, single-frame and Enhanced or Legacy Converted multi-frame CT, PET and MR are understood; dynamic and gated
PET frame by frame. Read exactly: Implicit, Explicit, Big Endian and Deflated, RLE, JPEG Lossless (.57, .70), JPEG-LS,
JPEG 2000, HTJ2K, signed and unsigned. Kept, but refused as a source of processing: JPEG 2000 Part 2 (.92, .93) and
12-bit JPEG Extended (.51), which no permitted decoder reads, and what came in a lossy syntax without saying so in
LossyImageCompression. Refused, with a code and what to do ([docs/REASONS.md](docs/REASONS.md)): mixed stacks and gaps
unless the rule splits them, gantry tilt for pipelines that look across slices, colour, lossy sources unless the
administrator allows them, quality control images, metal artifact reduction of what was reduced already, and whatever
a node of this kind has derived, but for a rule that follows another.

{images.image_sections()}
### 4.2 Objects beside a derived series

{beside.beside_sections()}
### 4.3 Coded terminology

{codes.code_sections()}"""


def _rest(config: Config | None) -> str:
    return f"""## 5 Character sets

{surroundings.character_sets()}
## 6 Security

{surroundings.security(config)}
## 7 Private attributes, classes and transfer syntaxes

No private SOP class and no private transfer syntax. The only private attributes written are those of 4.1, beside the
modules.

## 8 Configuration

What each key means: [docs/CONFIG.md](docs/CONFIG.md).

{surroundings.parameters(config)}"""
