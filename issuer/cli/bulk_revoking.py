"""`prefca revoke --file`: the revocations that a municipality's notices ask for."""

from pathlib import Path
from typing import BinaryIO, Final

import click

from issuer.cli.notice_files import (
    Task,
    count_lines,
    first_certificate,
    lines,
    print_done,
    results_beside,
    work_through,
)
from issuer.cli.results import Done, Written, open_results, written
from issuer.cli.root import now, run, settings_of
from issuer.installation import opened
from issuer.residents.bulk_revocation import RevokedFor, revoke_lines
from settings.load import Settings


def _outcome(revoked: RevokedFor) -> Written:
    return written(
        revoked.line,
        revoked.notice_number,
        "revoked_before" if revoked.again else "revoked",
        serial=f"{revoked.serial:016X}",
        reason=revoked.status.reason.label,
        revoked_at=f"{revoked.status.at:%Y-%m-%dT%H:%M:%SZ}",
    )


TASK: Final = Task("revoking", "revoked", _outcome)


def revoke_file(context: click.Context, notices: BinaryIO, results: Path | None, *, as_json: bool) -> None:
    """Revoke what the lines of a file ask for; the context ends with the exit status."""
    results = results or results_beside(notices)
    done = run(_revoke(settings_of(context), notices, results))
    print_done(context, TASK, done, results, as_json=as_json)


async def _revoke(settings: Settings, notices: BinaryIO, file: Path) -> Done:
    async with opened(settings) as installation:
        ca = await first_certificate(installation)
        with open_results(file, notices, TASK.doing, ca) as results:
            total, after = count_lines(notices), results.done.line
            batches = revoke_lines(installation, lines(notices, after), now, after=after)
            await work_through(TASK, results, total, batches)
            return results.done
