"""The tables of node.toml and rules.toml as models: what may stand in them, the defaults, and what each key means."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dicomnode.audit_settings import AuditExportSettings
from dicomnode.expressions import LONGEST_CONDITION
from dicomnode.iods import EQUIPMENT_PURPOSES
from dicomnode.logs import LogFormat
from dicomnode.need_settings import NeedTable, RetrieveTable
from dicomnode.peer import AETitle, PeerTable
from dicomnode.rules import Priority
from dicomnode.store_settings import StoreSettings

STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
DRIVER = "postgresql+psycopg://"
PRINTABLE = r"^[ -\[\]-~]*$"
Names = Annotated[tuple[str, ...], Field(strict=False)]
ShortWord = Annotated[str, Field(min_length=1, max_length=16, pattern=PRINTABLE)]
Meaning = Annotated[str, Field(min_length=1, max_length=64, pattern=PRINTABLE)]
Companion = Literal[
    "segmentation", "change_map", "uncertainty_map", "measurement_report", "text_report", "key_images", "banner"
]
PROCESSING_EQUIPMENT = ("109102", "DCM", "Processing Equipment")


class NodeSettings(BaseModel):
    """The `[node]` table of node.toml."""

    model_config = STRICT

    ae_title: AETitle = Field(default="DICOMNODE", description="AE title of the node; peers must call it so.")
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on; 0.0.0.0 listens on every network of the machine.",
    )
    port: int = Field(default=11112, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    data_folder: str = Field(
        default="../var",
        min_length=1,
        description="Folder for images and the SQLite file; relative to the config folder. Holds patient data: give it "
        "a disk of its own and no other reader.",
    )
    database: str = Field(
        default="",
        description=f"Empty: SQLite in data_folder; else {DRIVER}user@host/name. No password here: it comes from the "
        "environment variable DICOMNODE_DATABASE_PASSWORD or from database_password_file.",
    )
    database_password_file: str = Field(
        default="",
        description="File whose first line is the database password; relative to the config folder; mode 0400 or 0600.",
    )
    quiet_seconds: float = Field(
        default=5.0,
        gt=0,
        description="A series whose headers announce no count is whole when nothing came for so many seconds.",
    )
    receivers: int = Field(
        default=1,
        ge=1,
        le=16,
        description="Processes that receive, all at the same port; more than one is worth its memory (100 MB each) "
        "when several scanners send at once and cores are free.",
    )
    maximum_associations: int = Field(
        default=64, ge=1, le=1000, description="Associations open at once, over all receivers; more are rejected."
    )
    maximum_pdu: int = Field(
        default=131072, ge=4096, le=1048576, description="Longest PDU that peers may send us, in bytes (PS3.8 D.1)."
    )
    association_idle_s: float = Field(
        default=60.0, gt=0, description="An association without traffic is ended after this."
    )
    negotiation_s: float = Field(
        default=30.0, gt=0, description="A connection on which no association was asked for is closed after this."
    )
    pdu_stall_s: float = Field(
        default=30.0,
        gt=0,
        description="A peer that sends no byte for so long in the middle of a PDU is aborted (fast path).",
    )
    pdu_limit_s: float = Field(
        default=60.0, gt=0, description="A peer that needs longer for one PDU is aborted (fast path)."
    )
    maximum_instance_bytes: int = Field(
        default=4 << 30,
        ge=1 << 20,
        description="Longest data set that is taken; a longer one is answered 0xA700 and not kept.",
    )
    receive_path: Literal["fast", "plain"] = Field(
        default="fast",
        description="fast: data sets stream from the socket to their file; plain: pynetdicom's own receiving, slower "
        "and with the whole data set in memory.",
    )
    pipeline_limit_s: float = Field(
        default=3600.0,
        gt=0,
        description="A pipeline that runs longer is ended; limit_s of a pipeline's table goes before.",
    )
    crash_attempts: int = Field(
        default=3, ge=1, le=20, description="A job that has taken its worker down so many times is failed."
    )
    retry_first_s: float = Field(
        default=30.0, gt=0, description="Wait before the second try to send or run; doubles each time."
    )
    retry_longest_s: float = Field(default=600.0, gt=0, description="Longest wait between two tries.")
    give_up_after_days: float = Field(
        default=3.0,
        gt=0,
        description="A destination that took nothing for so long: the delivery is failed, never dropped.",
    )
    content_qualification: Literal["PRODUCT", "RESEARCH"] = Field(
        default="RESEARCH",
        description="ContentQualification of derived images (PS3.3 C.12.1); PRODUCT is your responsibility.",
    )
    accept_lossy: bool = Field(
        default=False, description="Whether series that were once compressed lossily may be processed (marked as such)."
    )
    conflict_status: Literal["duplicate", "success"] = Field(
        default="duplicate",
        description="Answer to an instance that is here with other content: duplicate (0x0111) or success (0x0000); "
        "the first copy is kept, the second is never used, and the audit and the job say so.",
    )
    station_name: str = Field(
        default="", max_length=16, pattern=PRINTABLE, description="StationName of what is derived; empty: none."
    )
    unique_device_identifier: str = Field(
        default="",
        max_length=250,
        pattern=PRINTABLE,
        description="UDI of the installed software, written as UDISequence; empty: none.",
    )
    equipment_purpose: Annotated[tuple[ShortWord, ShortWord, Meaning], Field(strict=False)] = Field(
        default=PROCESSING_EQUIPMENT,
        description="Code value, scheme and meaning by which a pipeline is named as contributing equipment; IHE AIR "
        'writes ["Newcode1", "99IHE", "Processing Algorithm"].',
    )
    ct_pixels: Literal["signed-16", "unsigned-12"] = Field(
        default="signed-16",
        description="How derived CT is stored; unsigned-12 is for old receivers and clips at -1024 and 3071 HU.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="What is logged.")
    log_format: LogFormat = Field(default="text", description="text, or json: one JSON object a line.")
    http_host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address of /healthz, /readyz and /metrics; they have no password: keep them off other networks.",
    )
    http_port: int = Field(default=0, ge=0, le=65535, description="Port of these; 0: there are none.")

    @field_validator("database")
    @classmethod
    def _is_known_database(cls, value: str) -> str:
        if not value:
            return value
        if not value.startswith(DRIVER):
            raise ValueError(f"expected nothing (SQLite in data_folder) or {DRIVER}user@host/name")
        if ":" in value.removeprefix(DRIVER).rpartition("@")[0]:
            raise ValueError("a password does not stand in node.toml: use database_password_file or the environment")
        return value

    @field_validator("equipment_purpose")
    @classmethod
    def _is_known_purpose(cls, value: tuple[str, str, str]) -> tuple[str, str, str]:
        if value[:2] not in EQUIPMENT_PURPOSES:
            known = ", ".join(f"{code} {scheme}" for code, scheme in sorted(EQUIPMENT_PURPOSES))
            raise ValueError(f"expected a code of CID 7005 or IHE's Newcode1: {known}")
        return value

    @model_validator(mode="after")
    def _waits_grow(self) -> Self:
        if self.retry_longest_s < self.retry_first_s:
            raise ValueError("retry_longest_s is shorter than retry_first_s")
        return self


class RetentionSettings(BaseModel):
    """The `[retention]` table of node.toml: what leaves our disk, and when nothing more is received."""

    model_config = STRICT

    keep_days: float | None = Field(
        default=None,
        ge=1,
        description="A received series goes, with everything derived from it, so many days after the last thing "
        "happened to it: every job of it delivered, or no rule wanted it. Absent: nothing goes by its age.",
    )
    make_room_gb: float = Field(
        default=0.0,
        ge=0,
        description="While less is free on the disk of data_folder, delivered series go before keep_days, oldest "
        "first, but none that changed within the hour. 0: never.",
    )
    low_watermark_gb: float = Field(
        default=1.0,
        ge=0,
        description="While less is free on the disk of data_folder, new associations are rejected for the time being "
        "(temporary congestion). 0: never.",
    )
    promised: Literal["keep", "remove"] = Field(
        default="keep",
        description="What a peer was told that we keep (it asked for Storage Commitment): keep it always, or remove it "
        "as everything else when its time has come. remove is for scanners whose images a PACS keeps as well.",
    )
    commitment_days: float = Field(
        default=90.0,
        ge=1,
        description="So many days requests for Storage Commitment, ours and those of peers, are remembered once they "
        "are over; those of peers longer, while we hold an instance that was promised. The audit keeps them all.",
    )
    every_s: float = Field(default=600.0, gt=0, description="How often it is looked for what may go.")

    @model_validator(mode="after")
    def _room_is_made_in_time(self) -> Self:
        if 0 < self.make_room_gb <= self.low_watermark_gb:
            raise ValueError("make_room_gb must be more than low_watermark_gb: room is made before receiving stops")
        return self


class TlsSettings(BaseModel):
    """The `[tls]` table of node.toml: who we are to peers that speak TLS, and where they call us."""

    model_config = STRICT

    port: int = Field(
        default=0, ge=0, le=65535, description="Port where peers call over TLS; 2762 is the registered one; 0: none."
    )
    certificate_file: str = Field(
        min_length=1,
        description="Our certificate, for both directions, followed by those between it and the authority (PEM); "
        "relative to the config folder, as the other two.",
    )
    key_file: str = Field(min_length=1, description="Its key (PEM, without password); mode 0400 or 0600.")
    authorities_file: str = Field(
        min_length=1,
        description="Certificates of the authorities that sign those of our peers (PEM). Revocation lists in it are "
        "heeded; when there is one, every authority in use needs one that is not out of date.",
    )
    client_certificates: Literal["required", "none"] = Field(
        default="required",
        description="required: who calls over TLS must show a certificate that one of the authorities signed; "
        "none: not asked for, so that a caller is known by AE title and network only.",
    )
    only: bool = Field(default=False, description="true: the port of [node] is not opened, all peers call over TLS.")

    @model_validator(mode="after")
    def _there_is_a_port(self) -> Self:
        if self.only and not self.port:
            raise ValueError("only = true, but port is 0: nobody could call")
        return self


class WorkerSettings(BaseModel):
    """One `[[workers]]` table of node.toml: one process that runs pipelines."""

    model_config = STRICT

    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda|cuda:[0-9]+)$",
        description="auto, cpu, cuda:0, ...; this version's pipelines compute on the CPU.",
    )


class PipelineTable(BaseModel):
    """One `[pipelines.NAME]` table of node.toml; every key that is not listed here is the pipeline's own."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    limit_s: float | None = Field(
        default=None, gt=0, description="A run longer than this is ended; absent: pipeline_limit_s of [node]."
    )
    also: Annotated[tuple[Companion, ...], Field(strict=False)] = Field(
        default=(), description="What is made beside the derived images and sent with them, in the same study."
    )

    @property
    def settings(self) -> dict[str, Any]:
        """The keys that are the pipeline's own."""
        return dict(self.__pydantic_extra__ or {})


class RuleTable(BaseModel):
    """One `[[rules]]` table of rules.toml."""

    model_config = STRICT

    name: str = Field(
        min_length=1, max_length=64, description="What audit and job list call the rule; no two share one."
    )
    when: str = Field(
        min_length=1, max_length=LONGEST_CONDITION, description="The condition, in CEL over DICOM keywords."
    )
    run: str = Field(description='The pipeline to run; "" holds the series back: no later rule sees it.')
    send_to: Names = Field(default=(), description="Names of the peers that get what the pipeline derives.")
    priority: Priority = Field(default="routine", description="stat before routine before low.")
    stop: bool = Field(default=False, description="true: when this rule is met, later rules are not asked.")
    mixed: Literal["refuse", "split"] = Field(
        default="refuse",
        description="A series that holds several stacks (echoes, kernels, orientations ...): refuse it, or split it "
        "and derive a series of each.",
    )
    uneven: Literal["refuse", "split"] = Field(
        default="refuse",
        description="A stack with gaps, for a pipeline that needs an even one: refuse it, or derive each even part.",
    )
    after: str = Field(
        default="",
        description="Name of an earlier rule: this one is for what that one derives, not for what is received; `when` "
        "is asked of the derived series.",
    )
    from_peers: Names = Field(
        default=(), alias="from", description="Names of the peers whose series the rule is for; empty: any."
    )
    needs: Names = Field(
        default=(),
        description="Names of [needs.NAME] tables: series that the pipeline reads beside its source. "
        "The job waits until they are here.",
    )


class NodeFile(BaseModel):
    """node.toml as a whole."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, title="node.toml")

    node: NodeSettings = Field(default_factory=lambda: NodeSettings(), description="What the node is.")
    peers: dict[Annotated[str, Field(pattern=NAME)], PeerTable] = Field(
        default_factory=dict, description="Remote application entities; only they may call, and only they are sent to."
    )
    workers: Annotated[tuple[WorkerSettings, ...], Field(strict=False)] = Field(
        default=(WorkerSettings(),),
        description="One process per table; none given: one on the best device. `workers = []` above all tables: none "
        "here, `dicomnode workers` on other machines does the work.",
    )
    pipelines: dict[str, PipelineTable] = Field(default_factory=dict, description="Settings of pipelines, by name.")
    tls: TlsSettings | None = Field(default=None, description="Certificates and the TLS port; absent: no TLS.")
    store: StoreSettings = Field(default_factory=lambda: StoreSettings(), description="Where instances lie.")
    audit_export: AuditExportSettings | None = Field(
        default=None, description="Who receives the audit as messages of PS3.15 A.5; absent: nobody."
    )
    retention: RetentionSettings = Field(
        default_factory=lambda: RetentionSettings(), description="What leaves our disk, and when nothing is received."
    )


class RulesFile(BaseModel):
    """rules.toml as a whole."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, title="rules.toml")

    rules: Annotated[tuple[RuleTable, ...], Field(strict=False)] = Field(
        default=(), description="In their order; every rule that is met makes a job."
    )
    needs: dict[Annotated[str, Field(pattern=NAME)], NeedTable] = Field(
        default_factory=dict, description="Series that rules need beside their own, by the pipeline's name for them."
    )
    retrieve: Annotated[tuple[RetrieveTable, ...], Field(strict=False)] = Field(
        default=(), description="What peers are asked for from time to time."
    )
