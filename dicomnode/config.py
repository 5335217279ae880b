"""The TOML folder as one frozen config; each fault names file, key and what was expected."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, SecretStr, ValidationError

from dicomnode.audit_settings import AuditExportSettings, AuditReceiver, read_audit_export
from dicomnode.config_faults import Location, TomlFile, did_you_mean, faults_of, joined
from dicomnode.config_reference import schemas
from dicomnode.errors import ConfigFault
from dicomnode.expressions import ConditionFault
from dicomnode.need_settings import NeedTable, RetrieveTable, fetching_faults
from dicomnode.peer import Peer, PeerTable
from dicomnode.rules import Rule
from dicomnode.settings import (
    DRIVER,
    NodeFile,
    NodeSettings,
    PipelineTable,
    RetentionSettings,
    RulesFile,
    RuleTable,
    TlsSettings,
    WorkerSettings,
)
from dicomnode.store_settings import StoreSettings, read_bucket
from dicomnode.tls import Tls
from dicomnode.tls_config import peers_over_tls, read_tls
from inference.errors import SettingsInvalid, WeightsInvalid
from inference.pipeline import Card, build_pipeline, pipeline_names
from storage.object_store import Bucket

IN_FORCE = "config-in-force"
PASSWORD_VARIABLE = "DICOMNODE_DATABASE_PASSWORD"


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """A pipeline as configured: its own settings, its time limit, and what it says of itself with these settings."""

    settings: Mapping[str, Any]
    limit_s: float
    card: Card
    also: tuple[str, ...] = ()
    """What is made beside the derived images."""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything the admin has decided."""

    folder: Path
    data_folder: Path
    node: NodeSettings
    peers: Mapping[str, Peer]
    workers: tuple[WorkerSettings, ...]
    pipelines: Mapping[str, PipelineSettings]
    """Those that have a table or that a rule runs."""
    rules: tuple[Rule, ...]
    needs: Mapping[str, NeedTable] = field(default_factory=dict)
    """What rules need beside their own series, by name."""
    retrieve: tuple[RetrieveTable, ...] = ()
    """What peers are asked for from time to time."""
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    tls: Tls | None = None
    """Who we are to peers that speak TLS; None: nobody does."""
    audit_export: AuditReceiver | None = None
    """Who receives the audit as messages; None: nobody."""
    store: StoreSettings = field(default_factory=StoreSettings)
    bucket: Bucket | None = None
    """Where instances lie; None: in data_folder."""
    warnings: tuple[str, ...] = ()
    """What may be meant but is unusual; `dicomnode check` shows it."""
    database_password: SecretStr | None = field(default=None, repr=False)
    texts: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """File name -> what it said when it was read."""

    @property
    def database_url(self) -> str:
        """Where the tables are, for SQLAlchemy, with the password: never to be logged."""
        if not self.node.database:
            return f"sqlite:///{self.data_folder / 'node.sqlite'}"
        if self.database_password is None:
            return self.node.database
        user, _, place = self.node.database.removeprefix(DRIVER).rpartition("@")
        return f"{DRIVER}{user}:{quote(self.database_password.get_secret_value(), safe='')}@{place}"

    @property
    def engine_database_url(self) -> str:
        """Where the engine keeps its runs: a file of its own beside the tables, or the same PostgreSQL database."""
        return self.database_url if self.node.database else f"sqlite:///{self.data_folder / 'engine.sqlite'}"

    def limit_s(self, pipeline: str) -> float:
        """Seconds after which a run of the pipeline is ended."""
        known = self.pipelines.get(pipeline)
        return self.node.pipeline_limit_s if known is None else known.limit_s

    @staticmethod
    def schemas() -> dict[str, dict[str, Any]]:
        """File name -> JSON schema, for completion in editors."""
        return schemas()


def load_config(
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    relative_to: Path | None = None,
    rules_file: Path | None = None,
) -> Config:
    """The config in a folder; reads files and changes nothing. Raises ConfigFault that names every mistake found.

    relative_to: where relative paths in the files start, when that is another folder (a copy of the files is read).
    The files of [tls] are then not looked at: they were when the node started, and may have become unfit since.
    rules_file: what is read in the place of rules.toml.
    """
    folder = folder.resolve()
    base = folder if relative_to is None else relative_to.resolve()
    node_toml, rules_toml, faults = _read(folder, rules_file)
    tables, rule_tables = _node_file(node_toml, faults), _rules_file(rules_toml, faults)
    if faults or node_toml is None or rules_toml is None or tables is None or rule_tables is None:
        raise joined(faults)
    peers = {name: Peer(name=name, **table.model_dump()) for name, table in tables.peers.items()}
    faults += _shared_ae_titles(node_toml, peers)
    faults += _moves(node_toml, peers)
    pipelines = _pipelines(node_toml, rules_toml, tables, rule_tables, faults)
    rules = _rules(rules_toml, rule_tables, peers, faults)
    faults += fetching_faults(rules_toml, rule_tables, peers, {name: one.card for name, one in pipelines.items()})
    password, warnings = _password(node_toml, tables.node, base, environment, faults)
    tls, tls_warnings = read_tls(node_toml, tables, base, faults, look=relative_to is None)
    faults += peers_over_tls(node_toml, peers, tls)
    audit_export = read_audit_export(node_toml, tables.audit_export, tls, base, faults, look=relative_to is None)
    bucket = read_bucket(node_toml, tables.store, base, environment, faults)
    if faults:
        raise joined(faults)
    data_folder = (base / tables.node.data_folder).resolve()
    return Config(
        folder=folder,
        data_folder=data_folder,
        node=tables.node,
        peers=peers,
        workers=tables.workers,
        pipelines=pipelines,
        rules=rules,
        needs=rule_tables.needs,
        retrieve=rule_tables.retrieve,
        retention=tables.retention,
        audit_export=audit_export,
        store=tables.store,
        bucket=bucket,
        tls=tls,
        warnings=(*warnings, *tls_warnings, *_open_to_others(data_folder), *_unusual(peers, rules)),
        database_password=password,
        texts={file.path.name: file.text for file in (node_toml, rules_toml)},
    )


def keep_in_force(config: Config) -> Path:
    """A folder beside the data with the files as they were read, for the node's other processes.

    So a file that is being edited, or went bad after the start, never keeps a process from starting again.
    """
    kept = config.data_folder / IN_FORCE
    kept.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, text in config.texts.items():
        part = kept / f"{name}.part"
        part.write_text(text, encoding="utf-8")
        part.chmod(0o600)
        part.replace(kept / name)
    return kept


def _read(folder: Path, rules_file: Path | None) -> tuple[TomlFile | None, TomlFile | None, list[ConfigFault]]:
    if not folder.is_dir():
        raise ConfigFault(folder, "", "there is no such config folder; it holds node.toml and rules.toml")
    files: list[TomlFile | None] = []
    faults = []
    for path in (folder / "node.toml", rules_file or folder / "rules.toml"):
        try:
            files.append(TomlFile(path))
        except ConfigFault as fault:
            files.append(None)
            faults.append(fault)
    return files[0], files[1], faults


def _node_file(file: TomlFile | None, faults: list[ConfigFault]) -> NodeFile | None:
    if file is None:
        return None
    try:
        return NodeFile.model_validate(file.tables)
    except ValidationError as error:
        tables: list[tuple[Location, type[BaseModel]]] = [
            ((), NodeFile),
            (("node",), NodeSettings),
            (("peers", "*"), PeerTable),
            (("workers", "*"), WorkerSettings),
            (("retention",), RetentionSettings),
            (("store",), StoreSettings),
            (("tls",), TlsSettings),
            (("audit_export",), AuditExportSettings),
        ]
        faults += faults_of(error, file, tables)
        return None


def _rules_file(file: TomlFile | None, faults: list[ConfigFault]) -> RulesFile | None:
    if file is None:
        return None
    try:
        return RulesFile.model_validate(file.tables)
    except ValidationError as error:
        tables: list[tuple[Location, type[BaseModel]]] = [
            ((), RulesFile),
            (("rules", "*"), RuleTable),
            (("needs", "*"), NeedTable),
            (("retrieve", "*"), RetrieveTable),
        ]
        faults += faults_of(error, file, tables)
        return None


def _shared_ae_titles(file: TomlFile, peers: Mapping[str, Peer]) -> Iterator[ConfigFault]:
    owners: dict[str, str] = {}
    for name, peer in peers.items():
        if peer.ae_title in owners:
            reason = f"{peer.ae_title} is also the AE title of peer {owners[peer.ae_title]}; a caller must be one peer"
            yield file.fault(("peers", name, "ae_title"), reason)
        owners.setdefault(peer.ae_title, name)


def _moves(file: TomlFile, peers: Mapping[str, Peer]) -> Iterator[ConfigFault]:
    """Where instances may not be moved because nobody could, or because nobody listens there."""
    for name, peer in peers.items():
        if peer.move_to and "retrieve" not in peer.may:
            yield file.fault(("peers", name, "move_to"), 'means nothing without "retrieve" in may')
        for index, wanted in enumerate(peer.move_to):
            if wanted not in peers:
                yield file.fault(("peers", name, "move_to", index), f"no peer {wanted!r}{did_you_mean(wanted, peers)}")
            elif not peers[wanted].reachable:
                yield file.fault(("peers", name, "move_to", index), f"peer {wanted} needs host and port: we call it")


def _pipelines(
    node_toml: TomlFile, rules_toml: TomlFile, tables: NodeFile, rule_tables: RulesFile, faults: list[ConfigFault]
) -> dict[str, PipelineSettings]:
    """Every pipeline with a table or in a rule, built once to see that its settings are understood."""
    known = pipeline_names()
    for name in set(tables.pipelines) - set(known):
        faults.append(node_toml.fault(("pipelines", name), f"there is no such pipeline{did_you_mean(name, known)}"))
    for index, rule in enumerate(rule_tables.rules):
        if rule.run and rule.run not in known:
            reason = f"there is no pipeline {rule.run!r}{did_you_mean(rule.run, known)}"
            faults.append(rules_toml.fault(("rules", index, "run"), reason))
    configured = {}
    wanted = dict.fromkeys([*tables.pipelines, *(rule.run for rule in rule_tables.rules)])
    for name in (name for name in wanted if name in known):
        table = tables.pipelines.get(name, PipelineTable())
        try:
            card = build_pipeline(name, table.settings).card
        except SettingsInvalid as fault:
            faults.append(node_toml.fault(("pipelines", name, fault.key), str(fault)))
        except WeightsInvalid as fault:
            faults.append(node_toml.fault(("pipelines", name), str(fault)))
        else:
            limit_s = tables.node.pipeline_limit_s if table.limit_s is None else table.limit_s
            configured[name] = PipelineSettings(table.settings, limit_s, card, table.also)
    return configured


def _rules(file: TomlFile, tables: RulesFile, peers: Mapping[str, Peer], faults: list[ConfigFault]) -> tuple[Rule, ...]:
    rules: list[Rule] = []
    names: set[str] = set()
    for index, table in enumerate(tables.rules):
        if table.name in names:
            faults.append(file.fault(("rules", index, "name"), f"another rule is called {table.name!r} already"))
        names.add(table.name)
        followed = any(later.after == table.name for later in tables.rules[index + 1 :])
        faults += _destinations(file, index, table, peers, followed=followed)
        faults += _chain(file, index, tables)
        try:
            rules.append(Rule(**table.model_dump()))
        except ConditionFault as fault:
            faults.append(file.fault(("rules", index, "when"), f"in rule {table.name!r}: {fault}"))
    return tuple(rules)


def _chain(file: TomlFile, index: int, tables: RulesFile) -> Iterator[ConfigFault]:
    """A rule follows an earlier one that derives something: so no chain is a circle."""
    table, earlier = tables.rules[index], tables.rules[:index]
    if not table.after:
        return
    before = next((one for one in earlier if one.name == table.after), None)
    if before is None:
        known = did_you_mean(table.after, [one.name for one in earlier])
        yield file.fault(("rules", index, "after"), f"there is no earlier rule {table.after!r}{known}")
    elif not before.run:
        yield file.fault(("rules", index, "after"), f"rule {table.after!r} holds series back and derives nothing")
    if table.from_peers:
        yield file.fault(("rules", index, "from"), "a rule that follows another is not for received series")


def _destinations(
    file: TomlFile, index: int, table: RuleTable, peers: Mapping[str, Peer], *, followed: bool
) -> Iterator[ConfigFault]:
    for key, names in (("send_to", table.send_to), ("from", table.from_peers)):
        for name in names:
            if name not in peers:
                reason = f"there is no peer {name!r} in node.toml{did_you_mean(name, peers)}"
                yield file.fault(("rules", index, key), reason)
        if len(set(names)) < len(names):
            yield file.fault(("rules", index, key), "names a peer twice")
    for name in table.send_to:
        if name in peers and not peers[name].reachable:
            reason = f"nothing can be sent to {name!r}: give it host and port in node.toml"
            yield file.fault(("rules", index, "send_to"), reason)
    if table.run and not table.send_to and not followed:
        reason = "must name at least one peer, or a later rule must follow it: what is derived would go nowhere"
        yield file.fault(("rules", index, "send_to"), reason)
    if table.send_to and not table.run:
        yield file.fault(("rules", index, "send_to"), 'a rule that holds (run = "") sends nothing; leave send_to out')


def _password(
    file: TomlFile,
    node: NodeSettings,
    folder: Path,
    environment: Mapping[str, str] | None,
    faults: list[ConfigFault],
) -> tuple[SecretStr | None, list[str]]:
    """The database password from its file or else from the environment, and warnings about the file's mode."""
    given = (os.environ if environment is None else environment).get(PASSWORD_VARIABLE)
    warnings: list[str] = []
    if node.database_password_file:
        path, location = folder / node.database_password_file, ("node", "database_password_file")
        try:
            mode, given = path.stat().st_mode, path.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
        except (OSError, UnicodeDecodeError) as fault:
            faults.append(file.fault(location, f"{path} cannot be read: {fault}"))
            return None, warnings
        if mode & 0o027:
            faults.append(file.fault(location, f"{path} is open to others (mode {mode & 0o777:04o}); chmod 0400 it"))
        elif mode & 0o040:
            warnings.append(f"{path} can be read by its group (mode {mode & 0o777:04o}); chmod 0400 it")
        if not given:
            faults.append(file.fault(location, f"{path} is empty; its first line is the password"))
    if given and node.database and "@" not in node.database:
        faults.append(
            file.fault(("node", "database"), f"a password is given but no user: write {DRIVER}user@host/name")
        )
    return (SecretStr(given) if given and node.database else None), warnings


def _open_to_others(data_folder: Path) -> Iterator[str]:
    if data_folder.exists() and (mode := data_folder.stat().st_mode & 0o777) & 0o077:
        yield f"{data_folder} is open to others (mode {mode:04o}), and it holds patient data; chmod 0700 it"


def _unusual(peers: Mapping[str, Peer], rules: tuple[Rule, ...]) -> Iterator[str]:
    if not any("store" in peer.may for peer in peers.values()):
        yield 'no peer may "store": nothing can be received'
    if not rules:
        yield "there are no rules: series are received and nothing is done with them"
    for rule in rules:
        for name in rule.from_peers:
            if "store" not in peers[name].may:
                yield f'rule {rule.name!r} is for series from {name}, which may not "store"'
