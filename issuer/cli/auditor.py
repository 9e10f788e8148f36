"""What shows or deletes records of the audit log is for the internal auditor alone (R-4-11-5-2)."""

from issuer.archive.desk import Desk
from issuer.cli.root import now
from issuer.errors import RecordedRefusalError, RefusedError
from issuer.installation import account
from settings.load import Settings


async def require_auditor(settings: Settings, desk: Desk, command: str) -> None:
    """Raises RefusedError for everybody else, and records that somebody tried."""
    auditor = settings.journal.auditor
    if auditor is None:
        raise RefusedError("nobody is the internal auditor here; set `journal.auditor` to the name of his account")
    if account() != auditor:
        async with desk.operations.transaction():
            await desk.operations.record_failure(f"audit_{command}", now(), "not by the auditor")
        raise RecordedRefusalError(
            f"the audit log is for the internal auditor; log in as {auditor}, or leave it to him"
        )
