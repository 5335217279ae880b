"""The config in words: what `dicomnode check` shows of it."""

from __future__ import annotations

from dicomnode.audit_settings import audit_export_in_words
from dicomnode.config import Config
from dicomnode.settings import RetentionSettings
from dicomnode.store_settings import store_in_words
from dicomnode.tls_config import tls_in_words


def retention_in_words(settings: RetentionSettings) -> str:
    """What leaves the disk, and when nothing is received."""
    aged = (
        "nothing goes by age"
        if settings.keep_days is None
        else f"what is done with goes in {settings.keep_days:g} days"
    )
    room = f"; delivered series go below {settings.make_room_gb:g} GB free" if settings.make_room_gb else ""
    stop = f"; nothing is received below {settings.low_watermark_gb:g} GB free" if settings.low_watermark_gb else ""
    return f"{aged}{room}{stop}"


def _ports(config: Config) -> str:
    node, tls = config.node, config.tls
    plain = [] if tls is not None and tls.only else [f"{node.host}:{node.port}"]
    secure = [f"{node.host}:{tls.port} over TLS"] if tls is not None and tls.port else []
    return " and ".join([*plain, *secure])


def describe(config: Config) -> list[tuple[str, str]]:
    """The config in words, a line each: what, and what it means."""
    node = config.node
    lines = [
        ("node", f"{node.ae_title} listens on {_ports(config)}; a series is whole after {node.quiet_seconds:g} s"),
        ("database", node.database or f"SQLite in {config.data_folder}"),
        ("store", store_in_words(config.store)),
        ("retention", retention_in_words(config.retention)),
    ]
    if config.tls is not None:
        lines.append(("tls", tls_in_words(config.tls)))
    if config.audit_export is not None:
        lines.append(("audit export", audit_export_in_words(config.audit_export.settings)))
    if node.http_port:
        lines.append(("monitor", f"http://{node.http_host}:{node.http_port}: /healthz, /readyz, /metrics"))
    for name, peer in config.peers.items():
        where = f"at {peer.host}:{peer.port}" if peer.reachable else "only calls us"
        where += " over TLS" if peer.tls else ""
        origin = f" from {', '.join(peer.networks)}" if peer.networks else ""
        lines.append((f"peer {name}", f"{peer.ae_title} {where}; may {', '.join(peer.may) or 'nothing'}{origin}"))
    lines += [(f"worker {index}", worker.device) for index, worker in enumerate(config.workers, 1)]
    for name, pipeline in config.pipelines.items():
        card = pipeline.card
        kind = "baseline" if card.baseline else "learned"
        beside = f"; beside it {', '.join(pipeline.also)}" if pipeline.also else ""
        what = f"{card.purpose} ({kind}, version {card.version}, ended after {pipeline.limit_s:g} s){beside}"
        lines.append((f"pipeline {name}", what))
    for number, rule in enumerate(config.rules, 1):
        origin = f"from {' or '.join(rule.from_peers)}, " if rule.from_peers else ""
        origin += f"after {rule.after!r}, " if rule.after else ""
        then = f"run {rule.run}, send to {' and '.join(rule.send_to)}, {rule.priority}"
        last = "; then no later rule" if rule.stop and not rule.holds else ""
        then += f"; it reads {', '.join(rule.needs)} beside the series" if rule.needs else ""
        doing = "hold the series back: no later rule sees it" if rule.holds else then + last
        lines.append((f"rule {number} {rule.name}", f"{origin}when {rule.when}: {doing}"))
    for name, need in config.needs.items():
        asked = f"asked of {', then '.join(need.from_peers)}" if need.from_peers else "waited for"
        where = "of the same study" if need.of == "study" else "of an earlier study of the patient"
        lines.append((f"need {name}", f"a {need.modality} {where}, {asked}; refused after {need.limit_s:g} s"))
    for one in config.retrieve:
        kinds = " or ".join(one.modality) or "all"
        what = f"{kinds} series of {one.days} days back, asked of {one.from_peer} every {one.every_minutes:g} minutes"
        lines.append((f"retrieve {one.name}", what))
    return lines + [("warning", warning) for warning in config.warnings]
