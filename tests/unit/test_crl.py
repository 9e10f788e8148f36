"""Lists joined from ready entries are, octet for octet, the lists that pyca makes."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID
from hypothesis import given, settings
from hypothesis import strategies as st

from issuer.profiles.authority import Authority, Partition
from issuer.profiles.crl import NEXT_CRL_PUBLISH, ListOrder, certificate_list
from issuer.profiles.municipality import PREFECTURES, PrefectureName, municipality
from issuer.profiles.profile import MAX_SERIAL, MIN_SERIAL
from pkix import der
from pkix.distribution import Scope, crl_distribution_points, issuing_distribution_point
from pkix.revocation import CRLReason, Revoked, revoked_entry
from pkix.validity import UpdateWindow
from tests.support.ca import NOW, rsa_key, software_ca

CA = software_ca()
POINT = CA.issuer.authority.distribution_point(municipality("132217"))
WINDOW = UpdateWindow.starting(NOW, period=timedelta(hours=24), validity=timedelta(hours=72))
SECONDS = st.integers(0, 40 * 366 * 86_400).map(lambda second: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(0, second))
REVOCATIONS = st.dictionaries(
    st.integers(MIN_SERIAL, MAX_SERIAL), st.builds(Revoked, SECONDS, st.sampled_from(CRLReason), st.none() | SECONDS)
)


def order(
    revocations: dict[int, Revoked] | None = None,
    *,
    point: x509.Name = POINT,
    scope: Scope = Scope.USER,
    window: UpdateWindow = WINDOW,
    number: int = 7,
) -> ListOrder:
    entries = tuple(revoked_entry(serial, status) for serial, status in sorted((revocations or {}).items()))
    return ListOrder(issuing_distribution_point(point, scope).public_bytes(), number, window, entries)


def made(wanted: ListOrder) -> bytes:
    return certificate_list(CA.issuer, wanted, CA.signer)


def by_pyca(revocations: dict[int, Revoked], window: UpdateWindow) -> bytes:
    """The same list from pyca's builder."""
    builder = (
        x509.CertificateRevocationListBuilder(revoked_certificates=list(revoked_certificates(revocations)))
        .issuer_name(CA.issuer.certificate.subject)
        .last_update(window.this_update)
        .next_update(window.next_update)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(CA.signer.public_key), critical=False)
        .add_extension(x509.CRLNumber(7), critical=False)
        .add_extension(issuing_distribution_point(POINT, Scope.USER), critical=True)
        .add_extension(x509.UnrecognizedExtension(NEXT_CRL_PUBLISH, der.time(window.next_publish)), critical=False)
    )
    return builder.sign(rsa_key("ca"), hashes.SHA256()).public_bytes(Encoding.DER)


def revoked_certificates(revocations: dict[int, Revoked]) -> Iterator[x509.RevokedCertificate]:
    for serial, status in sorted(revocations.items()):
        builder = (
            x509.RevokedCertificateBuilder()
            .serial_number(serial)
            .revocation_date(status.at)
            .add_extension(x509.CRLReason(x509.ReasonFlags(status.reason.label)), critical=False)
        )
        if status.invalidity_date is not None:
            builder = builder.add_extension(x509.InvalidityDate(status.invalidity_date), critical=False)
        yield builder.build()


@pytest.mark.req("R-4-4-4-4-1", "R-7-2-1", "R-4-4-4-2-2")
@settings(max_examples=60, deadline=None)
@given(REVOCATIONS, SECONDS)
def test_a_list_is_the_one_that_pyca_makes(revocations: dict[int, Revoked], this_update: datetime) -> None:
    """Whatever the entries and the dates; none at all leaves revokedCertificates out."""
    window = UpdateWindow.starting(this_update, period=timedelta(hours=24), validity=timedelta(hours=72))
    assert made(order(revocations, window=window)).hex() == by_pyca(revocations, window).hex()


@pytest.mark.req("R-4-4-4-4-1")
@pytest.mark.parametrize("count", [0, 1, 2, 3, 2000], ids=lambda count: f"{count} entries")
def test_any_number_of_entries_fits(count: int) -> None:
    """Lengths of one, two and three octets around revokedCertificates and the whole."""
    revocations = {MIN_SERIAL + n: Revoked(NOW, CRLReason(1 + n % 5)) for n in range(count)}
    assert made(order(revocations)) == by_pyca(revocations, WINDOW)


@pytest.mark.req("R-4-4-4-4-1")
def test_an_empty_list_leaves_revoked_certificates_out() -> None:
    """RFC 5280, section 5.1.2.6: the SEQUENCE is absent, not empty."""
    to_be_signed = next(der.elements(der.contents(made(order()))))
    tags = [element[0] for element in der.elements(der.contents(to_be_signed))]
    assert tags == [0x02, 0x30, 0x30, 0x17, 0x17, 0xA0]  # version, signature, issuer, dates, extensions


@pytest.mark.req("R-4-4-4-4-2")
def test_an_entry_has_serial_number_date_and_reason() -> None:
    """What the rule asks for, and nothing more."""
    status = Revoked(NOW - timedelta(days=1), CRLReason.AFFILIATION_CHANGED)
    (entry,) = x509.load_der_x509_crl(made(order({MIN_SERIAL + 5: status})))
    assert entry.serial_number == MIN_SERIAL + 5
    assert entry.revocation_date_utc == status.at
    assert [extension.value for extension in entry.extensions] == [x509.CRLReason(x509.ReasonFlags.affiliation_changed)]


@pytest.mark.req("R-4-4-9-1", "R-7-2-1", "R-2-1-2-22")
def test_a_list_is_valid_for_72_hours_and_promises_the_next_after_24() -> None:
    """NextUpdate is the end of validity; the other date stands in a non-critical extension."""
    crl = x509.load_der_x509_crl(made(order()))
    assert crl.last_update_utc == NOW
    assert crl.next_update_utc == NOW + timedelta(hours=72)
    next_publish = crl.extensions.get_extension_for_oid(NEXT_CRL_PUBLISH)
    assert not next_publish.critical
    assert next_publish.value.public_bytes() == b"\x17\x0d260402030000Z"


@pytest.mark.req("R-7-2-1")
def test_a_list_carries_its_number_and_the_identifier_of_its_key() -> None:
    """Both are not critical; the AuthorityKeyIdentifier names the key alone."""
    crl = x509.load_der_x509_crl(made(order(number=2**40)))
    number = crl.extensions.get_extension_for_class(x509.CRLNumber)
    key = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    assert (number.value.crl_number, number.critical, key.critical) == (2**40, False, False)
    assert key.value == x509.AuthorityKeyIdentifier.from_issuer_public_key(CA.signer.public_key)
    assert crl.is_signature_valid(rsa_key("ca").public_key())


def partitions(prefecture: PrefectureName) -> list[Partition]:
    return Authority(PREFECTURES[prefecture], "test").partitions()


@pytest.mark.req("R-4-4-4-4-2")
@pytest.mark.parametrize(
    "partition",
    [*partitions("Tokyo-to"), *partitions("Toyama-ken")],
    ids=lambda partition: f"{partition.code or partition.kind} {partition.point.rfc4514_string()}",
)
def test_every_list_names_its_distribution_point_as_its_certificates_do(partition: Partition) -> None:
    """Identical octets in a critical IssuingDistributionPoint, for all lists of both prefectures: RFC 5280, 5.2.5."""
    crl = x509.load_der_x509_crl(made(order(point=partition.point, scope=partition.scope)))
    extension = crl.extensions.get_extension_for_oid(ExtensionOID.ISSUING_DISTRIBUTION_POINT)
    assert extension.critical
    assert isinstance(extension.value, x509.IssuingDistributionPoint)
    (in_certificates,) = der.elements(der.contents(crl_distribution_points(partition.point).public_bytes()))
    name, scope = der.elements(der.contents(extension.value.public_bytes()))
    assert name == der.contents(in_certificates)
    assert scope == (b"\x82\x01\xff" if partition.kind == "ca" else b"\x81\x01\xff")
