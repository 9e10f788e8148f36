"""When a pair has to be renewed: the four cases of the rule (R-4-9-1), told as alarms until it is done."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509

from issuer.alarm import Alarm
from issuer.profiles.authority import Authority, Kind
from issuer.records.rows import Generation
from issuer.rules.cross_case import Case, Trigger, in_force, renewed, superseded
from issuer.rules.cross_pair import end_of
from pkix.policy import leads_to

RENEW_BEFORE: Final = timedelta(days=183)  # both CAs examine, approve and test anew
TELL_AFTER: Final = timedelta(days=30)  # a pair that has ended is forgotten then


def alarms(cases: Mapping[int, Case], authority: Authority, active: Generation | None, now: datetime) -> list[Alarm]:
    """What has to be done about cross certificates.

    cross_certificate_ending      one of a pair ends within half a year, or has ended
    cross_certificate_changed     one of a pair no longer says what this CA's name, key and policy are
    cross_certificate_superseded  a pair was replaced, but our certificate of the old one is not revoked (R-4-10-1)
    """
    found = []
    being_replaced = renewed(cases)  # perhaps by a pair whose day has not come
    for case in (each for each in in_force(cases, now) if each.case_id not in being_replaced):
        for trigger, text in _triggers(case, authority, active, now):
            name = "cross_certificate_changed" if trigger in _CHANGES else "cross_certificate_ending"
            advice = f"renew it: `prefca cross receive --renews {case.case_id} --because {trigger}`"
            found.append(Alarm(name, f"case {case.case_id}: {text}; {advice}"))
    replaced = (cases[number] for number in sorted(superseded(cases, now)))
    for case in replaced:
        if case.is_mutual and case.ours is not None and end_of(case.ours) >= now:
            advice = f"`prefca cross revoke {case.case_id} --reason superseded`"
            text = f"case {case.case_id} was renewed; revoke its certificate: {advice}"
            found.append(Alarm("cross_certificate_superseded", text))
    return found


_CHANGES: Final = frozenset({Trigger.THEIRS_CHANGES, Trigger.OURS_CHANGES})


def _triggers(
    case: Case, authority: Authority, active: Generation | None, now: datetime
) -> Iterator[tuple[Trigger, str]]:
    if case.theirs is None or case.ours is None:
        return
    ends = {Trigger.THEIRS_ENDS: end_of(case.theirs), Trigger.OURS_ENDS: end_of(case.ours)}
    if max(ends.values()) < now - TELL_AFTER:
        return
    for trigger, end in ends.items():
        if end - now < RENEW_BEFORE:
            yield trigger, f"{_WHOSE[trigger]} ends at {end:%Y-%m-%dT%H:%M:%SZ}"
    if active is None:
        return
    own = x509.load_der_x509_certificate(active.certificate)
    theirs, ours = map(x509.load_der_x509_certificate, (case.theirs, case.ours))
    policy = authority.policy(Kind.CROSS)
    if theirs.public_key() != own.public_key() or theirs.subject != own.subject or not leads_to(theirs, policy):
        yield (
            Trigger.THEIRS_CHANGES,
            f"{_WHOSE[Trigger.THEIRS_CHANGES]} is not of this CA's present name, key and policy",
        )
    if not _is_signed_by_key_of(ours, own):
        yield Trigger.OURS_CHANGES, f"{_WHOSE[Trigger.OURS_CHANGES]} is signed by an earlier key of this CA"


_WHOSE: Final = {
    Trigger.THEIRS_ENDS: "the certificate that the other CA issued to us",
    Trigger.THEIRS_CHANGES: "the certificate that the other CA issued to us",
    Trigger.OURS_ENDS: "our certificate for the other CA",
    Trigger.OURS_CHANGES: "our certificate for the other CA",
}


def _is_signed_by_key_of(certificate: x509.Certificate, own: x509.Certificate) -> bool:
    named = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    return named == own.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
