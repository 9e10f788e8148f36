"""Whatever breaks its profile is refused, before it is signed or after."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID

from issuer.profiles.authority import Kind
from issuer.profiles.crl import NEXT_CRL_PUBLISH, ListOrder, certificate_list
from issuer.profiles.lint import (
    Covered,
    LintError,
    ListRecord,
    check_certificate,
    check_link,
    check_list,
    check_order,
    check_signature,
)
from issuer.profiles.municipality import municipality
from issuer.profiles.profile import (
    MAX_SERIAL,
    MIN_SERIAL,
    CrossSubject,
    Issuer,
    certificate_validation_server,
    cross,
    key_usage,
    link,
    ocsp_delegate,
    resident,
    self_signed,
)
from issuer.signing.certification import certify, certify_self
from pkix import der
from pkix.distribution import Scope, issuing_distribution_point
from pkix.names import name
from pkix.revocation import CRLReason, Revoked, revoked_entry
from pkix.signing import signed, tbs_certificate
from pkix.software import SoftwareSigner
from pkix.validity import UpdateWindow, Validity
from tests.support.bridge import BRIDGE_NAME
from tests.support.ca import NOW, notice, rsa_key, software_ca

CA = software_ca()
END = CA.issuer.certificate.not_valid_after_utc
NEXT = software_ca(founded=NOW + timedelta(days=1000), key="next")
OTHER_NAME = name(("C", "JP"), ("O", "Somebody else"))
DAY = timedelta(days=1)
Builder = x509.CertificateBuilder
Extension = tuple[x509.ExtensionType, bool]  # its value, whether it is critical


def cross_subject(**changes: object) -> CrossSubject:
    """The bridge, or another one."""
    key = rsa_key("bridge").public_key()
    return CrossSubject(**{"name": BRIDGE_NAME, "key": key, "key_identifier": b"k" * 20, "policy": "1.2.3"} | changes)  # type: ignore[arg-type] # its fields


CROSS_SUBJECT = cross_subject()


def builder_of(kind: Kind, issuer: Issuer = CA.issuer) -> Builder:
    match kind:
        case Kind.RESIDENT:
            return resident(issuer, notice(), MIN_SERIAL, 1, NOW)
        case Kind.OCSP:
            return ocsp_delegate(issuer, rsa_key("ocsp").public_key(), MIN_SERIAL, NOW)
        case Kind.LINK:
            return link(issuer, NEXT.issuer.certificate, MIN_SERIAL, Validity(NOW, END))
        case Kind.CVS:
            return certificate_validation_server(issuer, rsa_key("ocsp").public_key(), MIN_SERIAL, NOW)
        case Kind.CROSS:
            return cross(issuer, CROSS_SUBJECT, MIN_SERIAL, NOW)
        case _:
            return self_signed(issuer.authority, CA.signer.public_key, MIN_SERIAL, NOW)


def check(builder: Builder, kind: Kind, issuer: Issuer = CA.issuer) -> None:
    octets = signed(tbs_certificate(builder), CA.signer.public_key, b"\x00")
    check_certificate(octets, kind, None if kind is Kind.SELF_SIGNED else issuer)


def changed(builder: Builder, **changes: object) -> Builder:
    """A builder with private fields of pyca's builder replaced: it refuses most wrong values itself."""
    copy = Builder.__new__(Builder)
    copy.__dict__ = builder.__dict__ | {f"_{field}": value for field, value in changes.items()}
    return copy


def without_first_extension(builder: Builder) -> Builder:
    return changed(builder, extensions=builder._extensions[1:])


def with_swapped_extensions(builder: Builder) -> Builder:
    first, second, *rest = builder._extensions
    return changed(builder, extensions=[second, first, *rest])


def with_other_criticality(builder: Builder) -> Builder:
    first, *rest = builder._extensions
    return changed(builder, extensions=[x509.Extension(first.oid, not first.critical, first.value), *rest])


def with_one_more_extension(builder: Builder) -> Builder:
    return builder.add_extension(x509.PrecertPoison(), critical=True)


LINTED = [Kind.RESIDENT, Kind.OCSP, Kind.LINK, Kind.SELF_SIGNED, Kind.CVS, Kind.CROSS]


@pytest.mark.req("R-7-1-1", "R-7-1-3")
@pytest.mark.parametrize("kind", LINTED)
def test_what_the_profiles_make_is_accepted(kind: Kind) -> None:
    """The rules refuse nothing that is right."""
    check(builder_of(kind), kind)


@pytest.mark.req("R-7-1-1", "R-7-1-3", "R-4-2-2-1")
@pytest.mark.parametrize("kind", LINTED)
@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda b: changed(b, serial_number=MIN_SERIAL - 1), "serial number"),
        (lambda b: changed(b, serial_number=MAX_SERIAL + 1), "serial number"),
        (lambda b: changed(b, serial_number=1), "serial number"),
        (lambda b: changed(b, not_valid_after=b._not_valid_before), "ends before it begins"),
        (lambda b: changed(b, not_valid_after=b._not_valid_before - DAY), "ends before it begins"),
        (without_first_extension, "extensions"),
        (with_swapped_extensions, "extensions"),
        (with_other_criticality, "extensions"),
        (with_one_more_extension, "extensions"),
        (lambda b: changed(b, issuer_name=OTHER_NAME), "another issuer"),
    ],
    ids=[
        "serial number below 8 octets",
        "serial number of 8 octets and a sign",
        "serial number 1",
        "ends when it begins",
        "ends before it begins",
        "an extension is missing",
        "extensions in another order",
        "another criticality",
        "an extension too many",
        "another issuer",
    ],
)
def test_a_certificate_that_breaks_its_profile_is_refused(
    kind: Kind, change: Callable[[Builder], Builder], finding: str
) -> None:
    """One thing is wrong, and the finding names it."""
    with pytest.raises(LintError, match=finding):
        check(change(builder_of(kind)), kind)


@pytest.mark.parametrize("kind", [Kind.RESIDENT, Kind.OCSP, Kind.CVS, Kind.CROSS])
@pytest.mark.parametrize(
    "founded",
    [NOW.replace(year=2017) - DAY, NOW + timedelta(seconds=1)],
    ids=["ends after its issuer", "begins before its issuer"],
)
def test_a_certificate_may_not_outlive_its_issuer(kind: Kind, founded: datetime) -> None:
    """The CA's own certificate ends a day earlier, or begins a second later."""
    issuer = software_ca(founded=founded).issuer
    with pytest.raises(LintError, match="outlives"):
        check(builder_of(kind, issuer), kind, issuer)


NEXT_CERTIFICATE = NEXT.issuer.certificate


@pytest.mark.req("R-7-1-4", "R-4-13-2")
@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda b: b, None),
        (lambda b: changed(b, public_key=rsa_key("another").public_key()), "another key"),
        (lambda b: changed(b, subject_name=OTHER_NAME), "another name"),
        (lambda b: changed(b, not_valid_after=END.replace(tzinfo=None) - DAY), "ends on another day"),
        (lambda b: changed(b, not_valid_after=END.replace(tzinfo=None) + DAY), "ends on another day"),
        (
            lambda b: changed(
                b,
                extensions=[
                    *b._extensions[:-1],
                    x509.Extension(ExtensionOID.SUBJECT_KEY_IDENTIFIER, False, x509.SubjectKeyIdentifier(b"x")),
                ],
            ),
            "another SubjectKeyIdentifier",
        ),
    ],
    ids=["as it should be", "another key", "another name", "too short", "too long", "another identifier"],
)
def test_a_link_certificate_joins_two_keys_of_the_ca(change: Callable[[Builder], Builder], finding: str | None) -> None:
    """It has the key and the name of one of them, and ends with the older one."""
    octets = signed(tbs_certificate(change(builder_of(Kind.LINK))), CA.signer.public_key, b"\x00")
    if finding is None:
        check_link(octets, NEXT_CERTIFICATE, CA.issuer.certificate)
        return
    with pytest.raises(LintError, match=finding):
        check_link(octets, NEXT_CERTIFICATE, CA.issuer.certificate)


@pytest.mark.req("R-7-1-4")
def test_only_a_link_certificate_may_begin_before_its_issuer() -> None:
    """OldWithNew does: the old key was made before the new one."""
    old_with_new = link(NEXT.issuer, CA.issuer.certificate, MIN_SERIAL, Validity(NOW, END))
    check(old_with_new, Kind.LINK, NEXT.issuer)


def with_value(builder: Builder, value: x509.ExtensionType) -> Builder:
    """Another value of an extension that the profile has."""
    kept = [x509.Extension(e.oid, e.critical, value if e.oid == value.oid else e.value) for e in builder._extensions]
    return changed(builder, extensions=kept)


@pytest.mark.req("R-7-1-2", "R-1-2-1")
@pytest.mark.parametrize(
    ("builder", "finding"),
    [
        (cross(CA.issuer, cross_subject(name=CA.issuer.certificate.subject), MIN_SERIAL, NOW), "names its issuer"),
        (cross(CA.issuer, cross_subject(key=CA.signer.public_key), MIN_SERIAL, NOW), "its issuer's key"),
        (with_value(builder_of(Kind.CROSS), x509.BasicConstraints(ca=False, path_length=None)), "not for any CA"),
        (with_value(builder_of(Kind.CROSS), x509.BasicConstraints(ca=True, path_length=0)), "not for any CA"),
        (with_value(builder_of(Kind.CROSS), key_usage(key_cert_sign=True)), "other uses"),
        (
            with_value(
                builder_of(Kind.CROSS),
                x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), None)]),
            ),
            "another policy",
        ),
    ],
    ids=["our name", "our key", "no CA", "a path length", "no lists", "another policy"],
)
def test_a_cross_certificate_that_breaks_paths_is_refused(builder: Builder, finding: str) -> None:
    """It is for another CA, without limits that a bridge cannot keep, under our policy."""
    with pytest.raises(LintError, match=finding):
        check(builder, Kind.CROSS)


@pytest.mark.req("R-7-1-2")
def test_a_bridge_may_use_our_policy() -> None:
    """Then nothing is mapped."""
    builder = cross(CA.issuer, cross_subject(policy=None), MIN_SERIAL, NOW)
    check(builder, Kind.CROSS)
    assert ExtensionOID.POLICY_MAPPINGS not in [each.oid for each in builder._extensions]


def test_nothing_that_breaks_its_profile_reaches_the_key() -> None:
    """The check comes before the signature: a key that would tell is not asked."""

    class Untouchable:
        public_key = CA.signer.public_key

        def sign_digest(self, digest: bytes) -> bytes:
            raise AssertionError("the key was asked to sign")

    with pytest.raises(LintError, match="serial number"):
        certify(replace(CA, signer=Untouchable()), changed(builder_of(Kind.RESIDENT), serial_number=1), Kind.RESIDENT)
    with pytest.raises(LintError, match="another issuer"):
        certify_self(Untouchable(), changed(builder_of(Kind.SELF_SIGNED), issuer_name=OTHER_NAME))


def test_a_signature_by_another_key_is_refused() -> None:
    """A token that signs with another key than its certificate says is found out before anything leaves."""

    class Wrong:
        public_key = CA.signer.public_key

        def sign_digest(self, digest: bytes) -> bytes:
            return SoftwareSigner(rsa_key("another ca")).sign_digest(digest)

    with pytest.raises(LintError, match="does not verify"):
        certify(replace(CA, signer=Wrong()), builder_of(Kind.RESIDENT), Kind.RESIDENT)
    with pytest.raises(LintError, match="does not verify"):
        check_signature(certificate_list(CA.issuer, ORDER, Wrong()), CA.signer.public_key)


def idp(point: x509.Name, scope: Scope = Scope.USER) -> bytes:
    return issuing_distribution_point(point, scope).public_bytes()


WINDOW = UpdateWindow.starting(NOW, period=DAY, validity=3 * DAY)
IDP = issuing_distribution_point(CA.issuer.authority.name, Scope.CA)
ORDER = ListOrder(IDP.public_bytes(), 7, WINDOW, ())


def later(**changes: timedelta) -> UpdateWindow:
    return replace(WINDOW, **{field: getattr(WINDOW, field) + by for field, by in changes.items()})


@pytest.mark.req("R-7-2-1")
def test_a_list_made_to_order_is_accepted() -> None:
    """The rules refuse nothing that is right."""
    octets = certificate_list(CA.issuer, ORDER, CA.signer)
    check_signature(octets, CA.signer.public_key)
    check_list(octets, ORDER, CA.issuer)


@pytest.mark.req("R-7-2-1")
@pytest.mark.parametrize(
    ("made", "finding"),
    [
        (replace(ORDER, window=later(this_update=DAY)), "thisUpdate"),
        (replace(ORDER, window=later(next_update=DAY)), "nextUpdate"),
        (replace(ORDER, crl_number=6), "CRLNumber"),
        (
            replace(ORDER, idp=issuing_distribution_point(CA.issuer.authority.name, Scope.USER).public_bytes()),
            "IssuingDistributionPoint",
        ),
        (
            replace(ORDER, idp=issuing_distribution_point(OTHER_NAME, Scope.CA).public_bytes()),
            "IssuingDistributionPoint",
        ),
    ],
    ids=["another thisUpdate", "another nextUpdate", "another number", "another scope", "another point"],
)
def test_a_list_that_was_not_ordered_so_is_refused(made: ListOrder, finding: str) -> None:
    """One thing differs from the order, and the finding names it."""
    with pytest.raises(LintError, match=finding):
        check_list(certificate_list(CA.issuer, made, CA.signer), ORDER, CA.issuer)


def test_a_list_of_another_issuer_is_refused() -> None:
    """The Governor of one prefecture does not publish the lists of another."""
    toyama = software_ca("Toyama-ken")
    with pytest.raises(LintError, match="another issuer"):
        check_list(certificate_list(toyama.issuer, ORDER, toyama.signer), ORDER, CA.issuer)


@pytest.mark.parametrize(
    "change",
    [
        lambda extensions: extensions[1:],
        lambda extensions: extensions[:1] + extensions[2:],
        lambda extensions: extensions[:2] + extensions[3:],
        lambda extensions: extensions[:3],
        lambda extensions: extensions[::-1],
        lambda extensions: [(value, False) for value, _ in extensions],
    ],
    ids=["no key identifier", "no number", "no distribution point", "no next publish", "another order", "not critical"],
)
def test_a_list_with_other_extensions_is_refused(change: Callable[[list[Extension]], list[Extension]]) -> None:
    """All four must be there, in their order, and the distribution point critical."""
    extensions: list[Extension] = [
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(CA.signer.public_key), False),
        (x509.CRLNumber(7), False),
        (IDP, True),
        (x509.UnrecognizedExtension(NEXT_CRL_PUBLISH, der.time(WINDOW.next_publish)), False),
    ]
    check_list(by_pyca(extensions), ORDER, CA.issuer)
    with pytest.raises(LintError, match="extensions"):
        check_list(by_pyca(change(extensions)), ORDER, CA.issuer)


def by_pyca(extensions: list[Extension]) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(CA.issuer.certificate.subject)
        .last_update(WINDOW.this_update)
        .next_update(WINDOW.next_update)
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    return builder.sign(rsa_key("ca"), hashes.SHA256()).public_bytes(Encoding.DER)


# ---------------------------------------------------------------- lists that are about to be signed

KIYOSE = CA.issuer.authority.distribution_point(municipality("132217"))
CHIYODA = CA.issuer.authority.distribution_point(municipality("131016"))
SERIAL = MIN_SERIAL + 5
OTHER_REASON = revoked_entry(SERIAL, Revoked(NOW, CRLReason.KEY_COMPROMISE))
ENTRIES = tuple(revoked_entry(SERIAL - n, Revoked(NOW, CRLReason.SUPERSEDED)) for n in (2, 1, 0))
RESIDENT = signed(tbs_certificate(resident(CA.issuer, notice(), SERIAL, 1, NOW)), CA.signer.public_key, b"\x00")
COVERED = Covered(NOW - DAY, NOW - DAY)
LIST = ListOrder(idp(KIYOSE), 7, WINDOW, (ENTRIES[0] + ENTRIES[1], ENTRIES[2]))
RECORD = ListRecord(3, RESIDENT, 6, COVERED, None, None)
EMPTY = ListRecord(0, None, 0, None, None, None)
SECOND = timedelta(seconds=1)


def certificate_of(kind: Kind) -> bytes:
    """With the serial number of the last entry."""
    builder = changed(builder_of(kind), serial_number=SERIAL)
    return signed(tbs_certificate(builder), CA.signer.public_key, b"\x00")


@pytest.mark.req("R-4-4-4-4-2", "R-7-2-1")
@pytest.mark.parametrize(
    ("order", "record"),
    [
        (LIST, RECORD),
        (replace(LIST, entries=()), EMPTY),
        (LIST, replace(RECORD, number_before=0, published=None)),
        (LIST, replace(RECORD, published=Covered(NOW, NOW))),
        (LIST, replace(RECORD, left_out_expiry=NOW - DAY - SECOND, left_out_received=NOW - DAY)),
        (replace(LIST, idp=idp(CA.issuer.authority.name)), replace(RECORD, certificate=certificate_of(Kind.OCSP))),
        (
            replace(LIST, idp=idp(CA.issuer.authority.name, Scope.CA)),
            replace(RECORD, certificate=certificate_of(Kind.SELF_SIGNED)),
        ),
    ],
    ids=["the next one", "empty", "the first one", "within a second", "entries that may go", "of operations", "an ARL"],
)
def test_a_list_in_order_may_be_signed(order: ListOrder, record: ListRecord) -> None:
    """The rules refuse nothing that is right."""
    check_order(order, record)


@pytest.mark.req("R-4-4-4-4-2", "R-7-2-1", "R-4-4-4-2-2")
@pytest.mark.parametrize(
    ("order", "record", "finding"),
    [
        (replace(LIST, entries=(ENTRIES[0][:27], *ENTRIES[1:])), RECORD, "at octet 0 stands no entry"),
        (replace(LIST, entries=(ENTRIES[0] + ENTRIES[2], ENTRIES[1])), RECORD, f"{SERIAL - 1:016X} is not above"),
        (replace(LIST, entries=ENTRIES[1:]), RECORD, "it has 2 entries, the database 3"),
        (LIST, replace(RECORD, count=2), "it has 3 entries, the database 2"),
        (LIST, replace(RECORD, number_before=7), "CRLNumber 7 is not above"),
        (LIST, replace(RECORD, number_before=8), "CRLNumber 7 is not above"),
        (replace(LIST, window=later(next_publish=-DAY)), RECORD, "due before this one"),
        (replace(LIST, window=later(next_publish=2 * DAY)), RECORD, "validity would end"),
        (LIST, replace(RECORD, published=Covered(NOW + SECOND, NOW)), "thisUpdate is before"),
        (LIST, replace(RECORD, left_out_expiry=NOW - DAY, left_out_received=NOW - DAY), "would go before"),
        (LIST, replace(RECORD, left_out_expiry=NOW - 2 * DAY, left_out_received=NOW), "would go before"),
        (LIST, replace(RECORD, left_out_expiry=NOW, left_out_received=NOW, published=None), "would go before"),
        (replace(LIST, idp=idp(CHIYODA)), RECORD, f"{SERIAL:016X} names another distribution point"),
        (replace(LIST, idp=idp(KIYOSE, Scope.CA)), RECORD, "not of the kind"),
        (LIST, replace(RECORD, certificate=certificate_of(Kind.SELF_SIGNED)), "not of the kind"),
        (replace(LIST, entries=ENTRIES[:2]), replace(RECORD, count=2), "another serial number"),
        (LIST, replace(RECORD, certificate=None), f"entry {SERIAL:016X} is of no certificate of this CA"),
    ],
    ids=[
        "an entry without reason",
        "serial numbers fall",
        "an entry is missing",
        "an entry too many",
        "the number of the list before",
        "a number that fell",
        "the next one is due at once",
        "the next one is due after the end",
        "thisUpdate goes back",
        "an entry goes without a list after its expiry",
        "an entry goes that was on no list",
        "an entry goes and there was no list",
        "a resident of Kiyose on the list of Chiyoda",
        "a resident on an ARL",
        "the CA on the list of residents",
        "the certificate of another entry",
        "no certificate of the last entry",
    ],
)
def test_a_list_that_would_be_wrong_is_not_signed(order: ListOrder, record: ListRecord, finding: str) -> None:
    """One thing is wrong, and the finding names it."""
    with pytest.raises(LintError, match=finding):
        check_order(order, record)


def test_the_octets_of_the_name_count_not_only_its_letters() -> None:
    """RFC 5280, section 5.2.5: IssuingDistributionPoint and CRLDistributionPoints are encoded alike."""
    as_printable = idp(KIYOSE).replace(b"\x0c\x10Kiyose-shi CRLDP", b"\x13\x10Kiyose-shi CRLDP")
    with pytest.raises(LintError, match="another distribution point"):
        check_order(replace(LIST, idp=as_printable), RECORD)


@pytest.mark.parametrize(
    "entries",
    [ENTRIES[:2], (*ENTRIES[:2], OTHER_REASON), (*ENTRIES, OTHER_REASON)],
    ids=["one is missing", "one differs", "one too many"],
)
def test_a_finished_list_with_other_entries_than_ordered_is_refused(entries: tuple[bytes, ...]) -> None:
    """What was linted is what is published."""
    with pytest.raises(LintError, match="entries differ"):
        check_list(certificate_list(CA.issuer, replace(LIST, entries=entries), CA.signer), LIST, CA.issuer)
