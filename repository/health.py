"""How a worker is, and how that is told to people and to Prometheus (text format 0.0.4)."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from repository.connection import Shared
from settings.workers import Report, WorkerState

MAX_STALENESS: Final = timedelta(minutes=1)  # of what is shown, before somebody should look at it

_METRICS: Final = {
    "ready_answers_total": ("counter", "Searches answered with an answer that was ready."),
    "read_messages_total": ("counter", "Messages that were read and worked on."),
    "records_total": ("counter", "Records written to the journal."),
    "refused_connections_total": ("counter", "Connections for which there was no room, or no journal."),
    "failed_handshakes_total": ("counter", "TLS handshakes that failed."),
    "tls_expiry_timestamp_seconds": ("gauge", "When the certificate for TLS ends."),
    "connections": ("gauge", "Open connections."),
    "cache_answers": ("gauge", "Ready answers."),
    "cache_bytes": ("gauge", "Memory of the ready answers, without values of the publication."),
    "entries": ("gauge", "Entries of the publication in force."),
    "next_update_timestamp_seconds": ("gauge", "When the first list in force is out of date."),
    "publication_refused": ("gauge", "Is what is published damaged, so that an older publication is served?"),
    "staleness_seconds": ("gauge", "Since all changes were last known to be heard of."),
    "database_up": ("gauge", "Can the database be reached?"),
    "journal_up": ("gauge", "Can the journal be written?"),
    "worker_up": ("gauge", "Does the worker answer?"),
    "worker_starts_total": ("counter", "How often the worker was started."),
}


def report(shared: Shared, now: datetime, *, is_database_away: bool, confirmed_at: datetime | None) -> Report:
    """What a worker says of itself, as JSON can say it; all changes until `confirmed_at` are in its directory."""
    directory = shared.service.directory
    is_recording, next_update = shared.turns.is_recording, directory.next_update
    alarms = {
        "database_away": is_database_away,
        "database_behind": not is_database_away and (confirmed_at is None or now - confirmed_at > MAX_STALENESS),
        "nothing_loaded": not directory.dit.is_loaded,
        "publication_refused": directory.is_refused,
        "publication_out_of_date": next_update is not None and next_update <= now,
        "journal_failed": not is_recording,
        "tls_reload_refused": shared.is_tls_refused,
    }
    caches = [directory.answers(may_read_restricted=each) for each in (False, True)]
    samples: dict[str, float] = {
        "ready_answers_total": shared.ready_answers,
        "read_messages_total": shared.read_messages,
        "records_total": shared.turns.records,
        "refused_connections_total": shared.refused_connections,
        "failed_handshakes_total": shared.failed_handshakes,
        "tls_expiry_timestamp_seconds": shared.tls.ends_at.timestamp(),
        "connections": len(shared.connections),
        "cache_answers": sum(map(len, caches)),
        "cache_bytes": sum(cache.size_bytes for cache in caches),
        "entries": len(directory.dit.entries),
        "publication_refused": int(directory.is_refused),
        "database_up": int(not is_database_away),
        "journal_up": int(is_recording),
    }
    if next_update is not None:
        samples["next_update_timestamp_seconds"] = next_update.timestamp()
    if confirmed_at is not None:
        samples["staleness_seconds"] = (now - confirmed_at).total_seconds()
    return {
        "ready": directory.dit.is_loaded and is_recording,
        "alarms": [name for name, holds in alarms.items() if holds],
        "samples": samples,
    }


def alarms(workers: Iterable[WorkerState]) -> list[str]:
    """What is wrong with one worker or another."""
    names = {name for each in workers for name in (["worker_down"] if each.report is None else each.report["alarms"])}
    return sorted(names)


def is_ready(workers: Iterable[WorkerState]) -> bool:
    """Whether every worker would answer a search now: out of a publication, and with a journal to record it."""
    return all(each.report is not None and each.report["ready"] for each in workers)


def exposition(workers: Mapping[int, WorkerState]) -> str:
    """The numbers of all workers, for Prometheus."""
    samples = {number: _samples(each) for number, each in workers.items()}
    lines = []
    for name, (kind, what) in _METRICS.items():
        lines += [f"# HELP prefca_repository_{name} {what}", f"# TYPE prefca_repository_{name} {kind}"]
        for number, its in samples.items():
            if name in its:
                lines.append(f'prefca_repository_{name}{{worker="{number}"}} {its[name]}')
    return "\n".join(lines) + "\n"


def _samples(worker: WorkerState) -> Mapping[str, Any]:
    told = {} if worker.report is None else worker.report["samples"]
    return {**told, "worker_up": int(worker.report is not None), "worker_starts_total": worker.starts}
