"""What docs/integrate-ldap.md tells relying parties to do, done as it stands there."""

import re
from typing import Final

import pytest

from tests.support.document import Reader, sections
from tests.support.running import RunningCA, eventually

SECTIONS: Final = sections("integrate-ldap.md")
NAMES: Final = SECTIONS["What to know"]  # of the entries; every section speaks of them


@pytest.fixture(scope="module")
def party(running_ca: RunningCA, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """With a certificate that is registered and known to the directory."""
    environment = {
        "LDAP": str(running_ca.ldap),
        "LDAPS": str(running_ca.ldaps),
        "TRUST": str(running_ca.service_ca),
        "PASSWORD": str(running_ca.password_file),
    }
    party = Reader(tmp_path_factory.mktemp("party"), environment)
    party.follow(NAMES + SECTIONS["Log in"])
    certificate = party.directory / "client.pem"
    running_ca.prefca("relying-party", "credential", "add", "client-certificate", "sample-verifier", certificate)
    login = "LDAPTLS_CACERT=$TRUST LDAPTLS_CERT=client.pem LDAPTLS_KEY=client.key.pem ldapwhoami -Q -Y EXTERNAL"
    eventually(lambda: party.run(f"{login} -H ldaps://$LDAPS 2>&1 || true").startswith("dn:"), "the certificate counts")
    return party


EXPECTED: Final = {
    "OpenLDAP": [
        "namingContexts: C=JP",
        "cACertificate;binary:: ",
        "authorityRevocationList;binary:: ",
        *["certificateRevocationList;binary:: "] * 3,
        "pagedresults: estimate=62",
        *["dn:uid=sample-verifier,ou=Relying Parties,o=JPKI,c=JP"] * 2,
        "crlNumber=",
        "nextUpdate=",
    ],
    "curl": ["cACertificate;binary:: MII"],
    "GnuPG": ["CRL issuer certificate {"],
    "Java": ["GMT|UTC|JST", *["[0-9]{3,} octets"] * 2],
    "ldap3": [*["CN=.* CRLDP,OU=CRL Distribution Points,.* [0-9]{3,}"] * 62, "dn:uid=sample-verifier,"],
    "python-ldap": [*["CN=.* CRLDP,OU=CRL Distribution Points,.* [0-9]{3,}"] * 62, "dn:uid=sample-verifier,"],
}


@pytest.mark.req("R-4-4-4-1-2", "R-4-4-4-5", "R-2-6-3-1")
@pytest.mark.parametrize("heading", EXPECTED)
def test_the_document_says_what_works(party: Reader, heading: str) -> None:
    """Line by line; what each client shows is what it came for."""
    printed = party.follow(NAMES + SECTIONS[heading])
    for pattern in set(EXPECTED[heading]):
        assert len(re.findall(pattern, printed)) >= EXPECTED[heading].count(pattern), f"{pattern}\n{printed}"
