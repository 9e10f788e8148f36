"""OpenLDAP's server is the judge: the same tree, the same searches, the same answers."""

import re
import tomllib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from ldaptor.protocols import pureldap

from repository import names
from repository.messages import ResultCode
from repository.snapshot import PublishedObject, build
from tests.support.database import Database
from tests.support.repository import (
    CA,
    CHIYODA,
    LIST,
    MINATO,
    PARTY_DN,
    PASSWORD,
    TOYAMA,
    Answer,
    Client,
    add_authority,
    add_party,
    bind_request,
    publish,
    published,
    running,
    search_request,
)
from tests.support.running import eventually
from tests.support.slapd import SLAPD, slapd

SEARCHES: Final = 1500  # by each of two readers
NOW: Final = datetime(2014, 4, 1, tzinfo=UTC)
KEY: Final = ec.generate_private_key(ec.SECP256R1())
ISSUER: Final = x509.Name.from_rfc4514_string(CA)
SERIAL: Final = 4_611_686_018_427_387_905
DIFFERENCES: Final = tomllib.loads(Path(__file__).with_name("slapd_differences.toml").read_text(encoding="utf-8"))


# ---------------------------------------------------------------- the tree


def _certificate() -> bytes:
    builder = x509.CertificateBuilder(ISSUER, ISSUER, KEY.public_key(), SERIAL, NOW, NOW + timedelta(days=3650))
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def _crl(number: int) -> bytes:
    builder = x509.CertificateRevocationListBuilder(ISSUER, NOW, NOW + timedelta(days=3))
    builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def objects() -> tuple[PublishedObject, ...]:
    """Two prefectures; the lists of municipalities are restricted."""
    return (
        published(CA, "cACertificate", _certificate()),
        published(CA, "authorityRevocationList", _crl(1)),
        published(CA, LIST, _crl(2)),
        *(
            published(entry, LIST, _crl(number), public=False)
            for number, entry in enumerate((CHIYODA, MINATO, TOYAMA), 3)
        ),
    )


# ---------------------------------------------------------------- the searches

BASES: Final = (
    *("C=JP", "O=JPKI,C=JP", "OU=Tokyo-to,O=JPKI,C=JP", "OU=Toyama-ken,O=JPKI,C=JP", CA, CHIYODA, MINATO, TOYAMA),
    *(
        "c=jp",
        ' o = "jpki" ; c = jp ',
        "2.5.4.11=tokyo-to,2.5.4.10=JPKI,2.5.4.6=JP",
        r"CN=\E5\AF\8C山市 crldp," + TOYAMA[12:],
    ),
    *("OU=nowhere,O=JPKI,C=JP", "CN=x,OU=y," + CA, "C=FR", "O=JPKI", "not a dn", "CN=a+,C=JP", "CN=#zz,C=JP"),
)
TYPES: Final = (
    *("cn", "ou", "o", "c", "objectClass", "name", "2.5.4.3", "commonName", "cACertificate", LIST, f"{LIST};binary"),
    *("authorityRevocationList", "description", "telephoneNumber", "userPassword", "seeAlso", "OU", "oBjEcTcLaSs"),
    *("noSuchType", "9.9.9", "cn;lang-ja", "subschemaSubentry", "structuralObjectClass", "crossCertificatePair"),
    *("hasSubordinates", "entryDN"),
)
VALUES: Final = (
    *(b"JP", b"JPKI", b"jpki ", b"Tokyo-to", b"TOKYO-TO", b"Toyama-ken", b"Chiyoda-ku CRLDP", b"chiyoda-ku  crldp"),
    *("富山市 CRLDP".encode(), "富山市　ＣＲＬＤＰ".encode(), b"pkiCA", b"PKICA", b"2.5.6.19", b"cRLDistributionPoint"),
    *(b"top", b"country", b"organizationalUnit", b"noSuchClass", b"x", b"", b" ", b"cn=Subschema", b"\xff", b"1 2"),
    *(b"The Governor of Tokyo-to", b"the governor", b"CRL Distribution Points"),
    *(b"c=JP", b"not a dn", b"TRUE", b"FALSE"),
    f'{{ serialNumber {SERIAL}, issuer rdnSequence:"{CA}" }}'.encode(),
    f'{{ serialNumber 1, issuer rdnSequence:"{CA}" }}'.encode(),
    f'{{ issuer rdnSequence:"{CA}", thisUpdate utcTime:"140401000000Z" }}'.encode(),
    f'{{ issuer rdnSequence:"{CA}", thisUpdate "20140401000000Z" }}'.encode(),
    f'{{ issuer rdnSequence:"{CA}", thisUpdate "20140402000000Z" }}'.encode(),
)
RULES: Final = (
    "caseIgnoreMatch",
    "caseExactMatch",
    "2.5.13.2",
    "objectIdentifierMatch",
    "noSuchRule",
    "octetStringMatch",
)
SELECTIONS: Final = (
    *((), ("*",), ("1.1",), ("cn",), ("CN", "Ou"), (LIST,), (f"{LIST};binary",), ("cACertificate", "objectClass")),
    *(("2.5.4.38",), ("noSuchType",), ("1.1", "cn"), ("name",), ("*", "structuralObjectClass"), ("cn;lang-ja",)),
    *(("ou;binary",), ("subschemaSubentry",), ("objectClass", "objectclass")),
    ("hasSubordinates",),
)


# slapd's entries are made when it starts and ours when they are published, so only far moments are comparable.
MOMENTS: Final = (b"20140401000000Z", b"201404010900+0900", b"29991231235959Z", b"2014", b"x", b"")


def in_order() -> Iterator[Any]:
    """Searches for what is older or newer, also by the ordering rule itself."""
    for kind in (pureldap.LDAPFilter_greaterOrEqual, pureldap.LDAPFilter_lessOrEqual):
        for attribute in ("createTimestamp", "modifyTimestamp", "2.5.18.1", "cn", "objectClass"):
            for moment in MOMENTS:
                wanted = kind(
                    attributeDesc=pureldap.LDAPAttributeDescription(attribute),
                    assertionValue=pureldap.LDAPAssertionValue(moment),
                )
                yield search_request("c=JP", 2, wanted, "1.1")
                yield search_request("c=JP", 2, pureldap.LDAPFilter_not(wanted), "1.1")
    for rule in ("generalizedTimeOrderingMatch", "2.5.13.28"):
        for moment in MOMENTS:
            wanted = pureldap.LDAPFilter_extensibleMatch(
                matchingRule=rule, type="createTimestamp", matchValue=moment, dnAttributes=False
            )
            yield search_request("c=JP", 2, wanted, "1.1")


def _assertion(of: Any, random: Random) -> Any:
    return of(
        attributeDesc=pureldap.LDAPAttributeDescription(random.choice(TYPES)),
        assertionValue=pureldap.LDAPAssertionValue(random.choice(VALUES)),
    )


def _substrings(random: Random) -> Any:
    value = random.choice(VALUES[:12]).decode()
    cuts = sorted(random.randrange(len(value) + 1) for _ in range(3))
    pieces = [
        (pureldap.LDAPFilter_substrings_initial, value[: cuts[0]]),
        (pureldap.LDAPFilter_substrings_any, value[cuts[0] : cuts[1]]),
        (pureldap.LDAPFilter_substrings_any, value[cuts[1] : cuts[2]].upper()),
        (pureldap.LDAPFilter_substrings_final, value[cuts[2] :]),
    ]
    kept = [of(piece.encode()) for of, piece in pieces if piece and random.random() < 0.7]
    return pureldap.LDAPFilter_substrings(
        type=random.choice(TYPES[:8]), substrings=kept or [pureldap.LDAPFilter_substrings_any(b"o")]
    )


def _extensible(random: Random) -> Any:
    rule = random.choice((None, *RULES))
    return pureldap.LDAPFilter_extensibleMatch(
        matchingRule=rule,
        type=random.choice(TYPES) if rule is None or random.random() < 0.7 else None,
        matchValue=random.choice(VALUES),
        dnAttributes=random.random() < 0.3,
    )


def _exact(random: Random) -> Any:
    """An assertion about a certificate or list, mostly where it belongs."""
    return pureldap.LDAPFilter_equalityMatch(
        attributeDesc=pureldap.LDAPAttributeDescription(
            random.choice(("cACertificate", "cACertificate;binary", "authorityRevocationList", LIST, f"{LIST};binary"))
        ),
        assertionValue=pureldap.LDAPAssertionValue(random.choice(VALUES[-6:])),
    )


def _filter(random: Random, depth: int = 3) -> Any:
    kinds: list[Callable[[], Any]] = [
        lambda: pureldap.LDAPFilter_present(random.choice(TYPES)),
        lambda: pureldap.LDAPFilter_present("objectClass"),
        lambda: _assertion(pureldap.LDAPFilter_equalityMatch, random),
        lambda: _assertion(pureldap.LDAPFilter_equalityMatch, random),
        lambda: _assertion(pureldap.LDAPFilter_approxMatch, random),
        lambda: _assertion(pureldap.LDAPFilter_greaterOrEqual, random),
        lambda: _assertion(pureldap.LDAPFilter_lessOrEqual, random),
        lambda: _substrings(random),
        lambda: _extensible(random),
        lambda: _exact(random),
    ]
    if depth:
        some = range(random.randrange(4))
        kinds += [
            lambda: pureldap.LDAPFilter_not(_filter(random, depth - 1)),
            lambda: pureldap.LDAPFilter_and([_filter(random, depth - 1) for _ in some]),
            lambda: pureldap.LDAPFilter_or([_filter(random, depth - 1) for _ in some]),
        ] * 2
    return random.choice(kinds)()


def searches(seed: int) -> Iterator[Any]:
    """As many as wanted, the same in every run."""
    random = Random(seed)
    for _ in range(SEARCHES):
        yield search_request(
            random.choice(BASES),
            random.choice((0, 1, 2, 2)),
            _filter(random),
            *random.choice(SELECTIONS),
            size_limit=random.choice((0, 0, 0, 0, 3)),
            types_only=random.random() < 0.1,
            deref=random.randrange(4),
        )


# ---------------------------------------------------------------- the answers


@dataclass(frozen=True)
class Outcome:
    """What a client understands of an answer; order and spelling do not matter."""

    code: int
    matched: names.NameKey
    entries: Mapping[names.NameKey, Mapping[str, Counter[bytes]]]
    number: int


def outcome(answers: list[Answer]) -> Outcome:
    """Of one search."""
    *entries, done = answers
    if done.code == ResultCode.SIZE_LIMIT_EXCEEDED:
        return Outcome(done.code, (), {}, len(entries))  # which ones is up to the server
    return Outcome(
        done.code,
        names.parse(done.operation.matchedDN.decode()).key,
        {
            names.parse(entry.dn).key: {name.lower(): Counter(values) for name, values in entry.attributes.items()}
            for entry in entries
        },
        len(entries),
    )


@dataclass(frozen=True)
class Pair:
    """The two servers, as one reader."""

    ours: Client
    theirs: Client


def _is_bound(client: Client) -> bool:
    return client.ask(bind_request(PARTY_DN, PASSWORD))[0].code == ResultCode.SUCCESS


@pytest.fixture
async def pairs(database: Database, tmp_path: Path) -> AsyncIterator[Mapping[str, Pair]]:
    """As a stranger and as a relying party."""
    tree = objects()
    hidden = f'access to dn.subtree="c=JP" attrs={LIST} filter=(objectClass=cRLDistributionPoint) by * none\n'
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(database.connect("prefca_issuer"))
        await publish(issuer, await add_authority(issuer), tree)
        await add_party(issuer)
        ours = stack.enter_context(running(tmp_path, database.dsn))
        ours.event("snapshot_loaded")
        directory = tmp_path / "slapd"
        directory.mkdir()
        port = stack.enter_context(
            slapd(
                directory,
                build(tree).entries.values(),
                access=hidden + "access to * by * read",
                reader=PARTY_DN,
                password=PASSWORD.decode(),
            )
        )
        clients = [
            stack.enter_context(client)
            for client in (ours.connect(), Client(port), ours.connect(tls=True), Client(port))
        ]
        for client in clients[2:]:
            eventually(partial(_is_bound, client), "bound")
        yield {"stranger": Pair(*clients[:2]), "party": Pair(*clients[2:])}


@pytest.mark.skipif(not SLAPD.exists(), reason="needs slapd (Debian: slapd)")
def test_searches_are_answered_as_slapd_answers_them(pairs: Mapping[str, Pair]) -> None:
    """What differs is in slapd_differences.toml, with its reason; what no longer differs must leave it."""
    seen = set()
    for seed, (reader, pair) in enumerate(pairs.items()):
        for request in (*searches(seed), *in_order()):
            ours, theirs = outcome(pair.ours.ask(request)), outcome(pair.theirs.ask(request))
            if ours != theirs:
                reason = _difference(reader, request)
                assert reason, f"{reader}: {request!r}\n{ours}\n{theirs}"
                seen.add(reason)
    assert seen == set(DIFFERENCES)


def _difference(reader: str, request: Any) -> str | None:
    """Which of the known differences there can be."""
    text = repr(request.filter)
    return next(
        (
            name
            for name, difference in DIFFERENCES.items()
            if re.search(difference["filter"], text) and reader in difference["readers"]
        ),
        None,
    )
