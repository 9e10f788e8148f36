"""The LDAP tools of OpenLDAP, and curl, read the directory."""

import base64
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.interop.clients import CA_ENTRY, INVALID_CREDENTIALS, Access, ldap_tool, ldapsearch, list_entry, run
from tests.support.running import RunningCA

CERTIFICATE, ARL, CRL = "cACertificate;binary", "authorityRevocationList;binary", "certificateRevocationList;binary"
MUNICIPALITIES = 62
SIZE_LIMIT_EXCEEDED, COMPARE_FALSE, COMPARE_TRUE, CONFIDENTIALITY_REQUIRED = 4, 5, 6, 13
UNWILLING_TO_PERFORM, ASSERTION_FAILED = 53, 122


@pytest.mark.req("R-2-6-1-2", "R-2-6-3-1", "R-2-8-3-1")
def test_everybody_reads_what_is_public(running_ca: RunningCA) -> None:
    """The CA certificate, the ARL and the list of operations certificates, at the entry that the CA's DN names."""
    (entry,) = ldapsearch(running_ca, CA_ENTRY).values()
    authority = x509.load_pem_x509_certificate(running_ca.ca.read_bytes())
    assert entry[CERTIFICATE] == [authority.public_bytes(Encoding.DER)]
    for attribute in ARL, CRL:
        (value,) = entry[attribute]
        assert x509.load_der_x509_crl(value).issuer == authority.subject


@pytest.mark.req("R-2-6-3-2", "R-2-8-3-2", "R-4-4-4-5")
def test_strangers_see_that_there_is_a_municipality_but_not_its_list(running_ca: RunningCA) -> None:
    """The attribute is absent, asked for or not."""
    for attributes in [], [CRL], ["*", "+"]:
        (entry,) = ldapsearch(running_ca, list_entry("Chiyoda-ku"), *attributes).values()
        assert CRL not in entry


@pytest.mark.req("R-2-6-3-2", "R-4-4-4-5")
def test_no_filter_tells_strangers_which_lists_there_are(running_ca: RunningCA) -> None:
    """For a filter, too, a list without the right to it is not there."""
    assert list(ldapsearch(running_ca, "C=JP", f"({CRL}=*)", "1.1", scope="sub")) == [CA_ENTRY]
    unlisted = ldapsearch(running_ca, "C=JP", f"(&(objectClass=cRLDistributionPoint)(!({CRL}=*)))", "1.1", scope="sub")
    assert len(unlisted) == MUNICIPALITIES


@pytest.mark.req("R-4-4-4-5", "R-4-4-4-4-2", "R-4-4-4-1-2")
@pytest.mark.parametrize("access", ["starttls", "ldaps"])
@pytest.mark.parametrize(
    "attributes",
    [["certificateRevocationList"], [CRL], ["CERTIFICATEREVOCATIONLIST"], ["2.5.4.39"], [], ["*"]],
    ids=lambda attributes: " ".join(attributes) or "none",
)
def test_a_relying_party_reads_a_municipal_list(
    running_ca: RunningCA, tmp_path: Path, access: Access, attributes: list[str]
) -> None:
    """After a bind under TLS, as ;binary however it is asked for (RFC 4522, section 5)."""
    (entry,) = ldapsearch(running_ca, list_entry("Chiyoda-ku"), *attributes, access=access).values()
    file = tmp_path / "list.der"
    (value,) = entry[CRL]
    file.write_bytes(value)
    assert "verify OK" in run("openssl", "crl", "-CAfile", running_ca.ca, "-in", file, "-noout").stderr


@pytest.mark.req("R-4-4-4-4-2", "R-4-4-4-5")
def test_a_relying_party_finds_all_lists_with_one_search(running_ca: RunningCA) -> None:
    """One list for each municipality of the prefecture, each at its own entry."""
    search = ("(&(objectClass=cRLDistributionPoint)(certificateRevocationList=*))", CRL)
    found = ldapsearch(running_ca, "OU=Tokyo-to,O=JPKI Test,C=JP", *search, scope="sub", access="starttls")
    assert len(found) == MUNICIPALITIES
    assert len({value for entry in found.values() for value in entry[CRL]}) == MUNICIPALITIES


@pytest.mark.req("R-4-4-4-5")
@pytest.mark.parametrize(
    ("access", "password", "result"),
    [
        pytest.param("anonymous", None, CONFIDENTIALITY_REQUIRED, id="right password without TLS"),
        pytest.param("starttls", "a wrong password", INVALID_CREDENTIALS, id="wrong password, StartTLS"),
        pytest.param("ldaps", "a wrong password", INVALID_CREDENTIALS, id="wrong password, ldaps"),
        pytest.param("ldaps", "", UNWILLING_TO_PERFORM, id="no password"),
    ],
)
def test_a_login_that_is_not_safe_or_not_right_is_refused(
    running_ca: RunningCA, tmp_path: Path, access: Access, password: str | None, result: int
) -> None:
    """With the result code by which a client tells what to do."""
    file = tmp_path / "password"
    file.write_text(running_ca.password_file.read_text() if password is None else password)
    unsafe = ["-D", running_ca.bind_name, "-y", file] if access == "anonymous" else []
    done = ldap_tool("ldapwhoami", running_ca, *unsafe, access=access, password=file)
    assert done.returncode == result, done.stderr


def test_who_am_i_names_the_relying_party(running_ca: RunningCA) -> None:
    """`ldapwhoami` tells the bind name after a bind, and "anonymous" before."""
    assert ldap_tool("ldapwhoami", running_ca).stdout.strip() == "anonymous"
    assert ldap_tool("ldapwhoami", running_ca, access="ldaps").stdout.strip() == f"dn:{running_ca.bind_name}"


@pytest.mark.parametrize(
    ("assertion", "result"),
    [("ou:test the GOVERNOR  of Tokyo-to", COMPARE_TRUE), ("ou:The Governor of Tokyo-to", COMPARE_FALSE)],
)
def test_compare_follows_the_matching_rules(running_ca: RunningCA, assertion: str, result: int) -> None:
    """`ldapcompare`: case and runs of spaces do not matter."""
    assert ldap_tool("ldapcompare", running_ca, CA_ENTRY, assertion).returncode == result


@pytest.mark.parametrize("access", ["anonymous", "ldaps"])
def test_nobody_writes(running_ca: RunningCA, access: Access) -> None:
    """Not even who has bound."""
    assert ldap_tool("ldapdelete", running_ca, CA_ENTRY, access=access).returncode == UNWILLING_TO_PERFORM


@pytest.mark.req("R-4-4-4-1-2")
def test_the_root_dse_tells_a_client_how_to_go_on(running_ca: RunningCA) -> None:
    """LDAPv3, StartTLS, where the tree begins, and where the schema is (RFC 4512, section 5.1)."""
    (root,) = ldapsearch(running_ca, "", "+").values()
    assert root["supportedLDAPVersion"] == [b"3"]
    assert b"1.3.6.1.4.1.1466.20037" in root["supportedExtension"]
    (context,) = root["namingContexts"]
    assert list(ldapsearch(running_ca, context.decode(), "1.1")) == [context.decode()]
    (subschema,) = root["subschemaSubentry"]
    (schema,) = ldapsearch(running_ca, subschema.decode(), "attributeTypes", "objectClasses").values()
    for name in b"authorityRevocationList", b"certificateRevocationList", b"cACertificate":
        assert any(b"'%s'" % name in definition for definition in schema["attributeTypes"])
    for name in b"pkiCA", b"cRLDistributionPoint":
        assert any(b"'%s'" % name in definition for definition in schema["objectClasses"])


def test_a_limit_of_the_client_is_kept(running_ca: RunningCA) -> None:
    """`ldapsearch -z 3` gets three entries and sizeLimitExceeded."""
    done = ldap_tool("ldapsearch", running_ca, "-LLL", "-b", "C=JP", "-s", "sub", "-z", "3", "1.1")
    assert done.returncode == SIZE_LIMIT_EXCEEDED
    assert done.stdout.count("dn:") == 3


def test_a_client_that_asks_for_pages_gets_them(running_ca: RunningCA) -> None:
    """RFC 2696: `ldapsearch -E pr=10` reads all in several answers."""
    search = ("-b", "C=JP", "-s", "sub", "-E", "!pr=10/noprompt", "(objectClass=cRLDistributionPoint)", "1.1")
    printed = ldap_tool("ldapsearch", running_ca, *search).stdout
    assert printed.count("\ndn:") == MUNICIPALITIES
    assert printed.count("pagedresults: estimate=") == (MUNICIPALITIES + 9) // 10


def test_an_assertion_and_matched_values_are_understood(running_ca: RunningCA) -> None:
    """RFC 4528 and RFC 3876, both critical."""
    search = ("-LLL", "-b", CA_ENTRY, "-s", "base", "(objectClass=*)", "objectClass")
    done = ldap_tool("ldapsearch", running_ca, "-E", "!mv=(objectClass=pkiCA)", *search)
    assert re.findall("^objectClass: .*$", done.stdout, re.MULTILINE) == ["objectClass: pkiCA"], done.stderr
    assert ldap_tool("ldapsearch", running_ca, "-e", "!assert=(objectClass=pkiCA)", *search).returncode == 0
    refused = ldap_tool("ldapsearch", running_ca, "-e", "!assert=(objectClass=person)", *search)
    assert refused.returncode == ASSERTION_FAILED


@pytest.mark.req("R-4-4-4-1-2")
def test_a_certificate_and_a_list_are_found_by_what_is_in_them(running_ca: RunningCA) -> None:
    """By certificateExactMatch and certificateListExactMatch: RFC 4523."""
    authority = x509.load_pem_x509_certificate(running_ca.ca.read_bytes())
    issuer = f'issuer rdnSequence:"{authority.issuer.rfc4514_string()}"'
    certificate = f"(cACertificate={{ serialNumber {authority.serial_number}, {issuer} }})"
    assert list(ldapsearch(running_ca, "C=JP", certificate, "1.1", scope="sub")) == [CA_ENTRY]
    other = f"(cACertificate={{ serialNumber {authority.serial_number + 1}, {issuer} }})"
    assert not ldapsearch(running_ca, "C=JP", other, "1.1", scope="sub")

    entry = list_entry("Chiyoda-ku")
    (attributes,) = ldapsearch(running_ca, entry, CRL, access="starttls").values()
    crl = x509.load_der_x509_crl(attributes[CRL][0])
    point = f'distributionPoint fullName:{{ directoryName:rdnSequence:"{entry}" }}'
    this_update = f'thisUpdate utcTime:"{crl.last_update_utc:%y%m%d%H%M%SZ}"'
    wanted = f"(certificateRevocationList={{ {issuer}, {this_update}, {point} }})"
    assert list(ldapsearch(running_ca, "C=JP", wanted, "1.1", scope="sub", access="starttls")) == [entry]
    assert not ldapsearch(running_ca, "C=JP", wanted, "1.1", scope="sub")


def test_nobody_changes_a_password(running_ca: RunningCA) -> None:
    """`ldappasswd` (RFC 3062) is told that the CA does."""
    done = ldap_tool("ldappasswd", running_ca, "-s", "another password", access="ldaps")
    assert "Server is unwilling to perform (53)" in done.stdout
    assert done.returncode != 0


@pytest.mark.req("R-2-6-3-1", "R-4-4-4-1-2")
def test_an_ldap_url_gives_certificate_and_arl(running_ca: RunningCA) -> None:
    """As curl reads the URL (RFC 4516); it prints them in base64."""
    url = f"ldap://{running_ca.ldap}/{quote(CA_ENTRY)}?cACertificate,authorityRevocationList?base"
    values = dict(re.findall(r"^\s*(\S+):: (\S+)$", run("curl", "-sS", url).stdout, re.MULTILINE))
    authority = x509.load_pem_x509_certificate(running_ca.ca.read_bytes())
    assert base64.b64decode(values[CERTIFICATE]) == authority.public_bytes(Encoding.DER)
    assert x509.load_der_x509_crl(base64.b64decode(values[ARL])).issuer == authority.subject
