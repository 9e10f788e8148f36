"""What a clerk makes of lines and orders, and what he refuses to hand out."""

import json
from datetime import timedelta

import pytest
from cryptography import x509

from issuer.profiles.lint import LintError
from issuer.profiles.profile import MIN_SERIAL, resident
from issuer.residents.clerk import Application, Clerk, Order, Unreadable
from issuer.residents.lines import Line
from pkix.signing import PublicKey, tbs_certificate
from tests.support.ca import NOW, notice, notice_fields, notice_line, public_key, rsa_key, software_ca

CA = software_ca()


def application(number: int = 1) -> Application:
    (read,) = Clerk(CA.issuer, CA.signer).read([Line(number, notice_line(number))], NOW)
    assert isinstance(read, Application)
    return read


def order(number: int = 1) -> Order:
    return Order(MIN_SERIAL + number, number, "132217", application(number).tail)


class Garbling:
    """A token that spoils what it signs."""

    public_key: PublicKey = rsa_key("ca").public_key()

    def sign_digest(self, digest: bytes) -> bytes:
        """Nobody's signature."""
        return b"\x01" * 256


@pytest.mark.req("R-4-2-1")
def test_lines_become_applications_or_reasons_in_their_order() -> None:
    """Each with its own number."""
    elsewhere = json.dumps(notice_fields(2, municipality="162019"), ensure_ascii=False).encode()
    lines = [Line(7, notice_line(1)), Line(9, elsewhere), Line(10, b"{"), Line(11, notice_line(3))]
    read = Clerk(CA.issuer, CA.signer).read(lines, NOW)
    codes = [item.code if isinstance(item, Unreadable) else None for item in read]
    assert [(item.line, item.notice_number, code) for item, code in zip(read, codes, strict=True)] == [
        (7, "N-1", None),
        (9, "N-2", "other-prefecture"),
        (10, None, "not-json"),
        (11, "N-3", None),
    ]


@pytest.mark.req("R-4-2-1", "R-4-2-3-1")
def test_an_application_tells_persons_and_notices_apart_as_the_database_does() -> None:
    """By the same hashes as the notice itself."""
    read, meant = application(), notice()
    assert (read.person, read.notice_id) == (meant.person, meant.notice_id)
    assert (read.common_name, read.date_of_birth, read.gender) == ("黒桐　幹也", "319800217", "1")
    assert read.address == "東京都清瀬市テスト町１－２－３"


@pytest.mark.req("R-4-2-2-1", "R-7-1-1")
def test_a_clerk_makes_what_the_profile_says() -> None:
    """For each order the certificate of that person, signed by the CA."""
    made = Clerk(CA.issuer, CA.signer).certify([order(1), order(2)], NOW)
    for number, octets in enumerate(made, 1):
        certificate = x509.load_der_x509_certificate(octets)
        profile = resident(CA.issuer, notice(number), MIN_SERIAL + number, number, NOW)
        assert certificate.tbs_certificate_bytes == tbs_certificate(profile)
        certificate.verify_directly_issued_by(CA.issuer.certificate)
    assert public_key(2) in made[1]


@pytest.mark.parametrize(
    ("clerk", "orders", "later", "finding"),
    [
        (Clerk(CA.issuer, Garbling()), [order()], timedelta(), "signature does not verify"),
        (Clerk(CA.issuer, CA.signer), [order()], timedelta(days=365 * 8), "outlives its issuer's certificate"),
        (Clerk(CA.issuer, CA.signer), [order()], -timedelta(days=1), "outlives its issuer's certificate"),
        (
            Clerk(CA.issuer, CA.signer),
            [order()._replace(serial=MIN_SERIAL - 1)],
            timedelta(),
            "serial number is not of 8 octets",
        ),
    ],
    ids=["the token garbles", "the CA ends before", "the CA begins after", "a serial number below the range"],
)
def test_what_breaks_the_profile_leaves_no_clerk(
    clerk: Clerk, orders: list[Order], later: timedelta, finding: str
) -> None:
    """It is refused, by the lint before the signature or the check after it."""
    with pytest.raises(LintError, match=finding):
        clerk.certify(orders, NOW + later)


def test_every_second_has_its_own_lint() -> None:
    """A clerk who issued before the CA's last years is not believed afterwards."""
    clerk = Clerk(CA.issuer, CA.signer)
    assert clerk.certify([order()], NOW)
    with pytest.raises(LintError, match="outlives"):
        clerk.certify([order()], NOW + timedelta(days=365 * 8))
