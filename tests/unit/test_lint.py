"""Whatever breaks its profile is refused, before it is signed or after."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from issuer.authority import Kind
from issuer.certification import certify, certify_self
from issuer.crl import NEXT_CRL_PUBLISH, ListOrder, certificate_list
from issuer.lint import LintError, check_certificate, check_list, check_signature
from issuer.profile import MAX_SERIAL, MIN_SERIAL, Issuer, ocsp_delegate, resident, self_signed
from pkix import der
from pkix.distribution import Scope, issuing_distribution_point
from pkix.names import name
from pkix.signing import signed, tbs_certificate
from pkix.software import SoftwareSigner
from pkix.validity import UpdateWindow
from tests.support.ca import NOW, notice, rsa_key, software_ca

CA = software_ca()
OTHER_NAME = name(("C", "JP"), ("O", "Somebody else"))
DAY = timedelta(days=1)
Builder = x509.CertificateBuilder
Extension = tuple[x509.ExtensionType, bool]  # its value, whether it is critical


def builder_of(kind: Kind, issuer: Issuer = CA.issuer) -> Builder:
    match kind:
        case Kind.RESIDENT:
            return resident(issuer, notice(), MIN_SERIAL, 1, NOW)
        case Kind.OCSP:
            return ocsp_delegate(issuer, rsa_key("ocsp").public_key(), MIN_SERIAL, NOW)
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


LINTED = [Kind.RESIDENT, Kind.OCSP, Kind.SELF_SIGNED]


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


@pytest.mark.parametrize("kind", [Kind.RESIDENT, Kind.OCSP])
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


WINDOW = UpdateWindow.starting(NOW, period=DAY, validity=3 * DAY)
IDP = issuing_distribution_point(CA.issuer.authority.name, Scope.CA)
ORDER = ListOrder(IDP.public_bytes(), 7, WINDOW, b"")


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
