"""One LDAP session: messages in, actions out."""

import tracemalloc
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from ldaptor.protocols import pureber, pureldap

from journal.record import Record
from repository.access import AccessTable, Credential
from repository.authentication import VerifyPassword
from repository.ber import Reader
from repository.controls import ASSERTION, MANAGE_DSA_IT, MATCHED_VALUES, PAGED_RESULTS
from repository.directory import Directory
from repository.errors import MalformedMessageError
from repository.framing import MessageFramer
from repository.messages import ResultCode
from repository.names import parse
from repository.passwords import matching
from repository.search import Limits
from repository.session import Abandon, Action, Cancel, Close, Send, Service, Session, StartTLS
from repository.snapshot import CANCEL, PASSWORD_MODIFY, START_TLS, WHO_AM_I, build
from settings.failed_logins import FailedLogins
from tests.support.mutation import mutations
from tests.support.repository import (
    CA,
    CHIYODA,
    LIST,
    OBJECTS,
    PARTY_DN,
    PASSWORD,
    Answer,
    bind_request,
    message,
    password_hash,
    published,
    read_answers,
    search_request,
)

NOW = datetime(2014, 4, 1, tzinfo=UTC)
DAY = timedelta(days=1)
UNKNOWN_DN = "uid=nobody,ou=Relying Parties,o=JPKI,c=JP"


def credential(secret_hash: str = "hash", until: datetime = NOW + DAY) -> Credential:
    return Credential(7, "verifier", secret_hash, NOW - DAY, until)


def answers(actions: Iterable[Action]) -> list[Answer]:
    octets = [piece for each in actions if isinstance(each, Send) for message in each.messages for piece in message]
    return read_answers(b"".join(octets))


class Peer:
    """A client together with the part of the shell that a session needs."""

    def __init__(
        self, *, is_encrypted: bool = True, credentials: Iterable[Credential] | None = (credential(),)
    ) -> None:
        access = None if credentials is None else AccessTable.of(credentials)
        self.directory = Directory(build(OBJECTS), access)
        failed_binds = FailedLogins(lockout_failures=5, lockout=timedelta(minutes=5))
        self.service = Service(self.directory, Limits(1000, 10, lambda: 0), failed_binds)
        self.session = Session(self.service, peer="192.0.2.1", is_encrypted=is_encrypted)
        self.records: list[Record] = []
        self.now = NOW

    def send(self, operation: Any, controls: Any = None) -> list[Action]:
        """What the session does about a request."""
        return self._took(self.session.receive(message(operation, controls=controls), self.now))

    def _took(self, actions: list[Action]) -> list[Action]:
        self.records += [each for each in actions if isinstance(each, Record)]
        return actions

    def ask(self, operation: Any, controls: Any = None) -> list[Answer]:
        """What comes back."""
        return answers(self.send(operation, controls))

    def code(self, operation: Any, controls: Any = None) -> int:
        """The resultCode of the only response."""
        (answer,) = self.ask(operation, controls)
        return answer.code

    def bind(self, name: str = PARTY_DN, matching_hash: str | None = "hash") -> int:
        """Bind with a password that has this hash."""
        actions = self.send(bind_request(name, b"any"))
        assert [type(each) for each in actions] == [VerifyPassword]
        (answer,) = answers(self._took(self.session.verified(matching_hash, self.now)))
        return answer.code

    def sees_list(self) -> bool:
        """Whether the list of a municipality is there."""
        entry, _ = self.ask(search_request(CHIYODA, 0, None, LIST))
        return f"{LIST};binary" in entry.attributes

    def who_am_i(self) -> bytes:
        """The authorization identity (RFC 4532)."""
        (answer,) = self.ask(pureldap.LDAPExtendedRequest(WHO_AM_I))
        authorization: bytes = answer.operation.response or b""
        return authorization


def sasl(mechanism: str, credentials: bytes | None = b"") -> Any:
    """A bind by SASL; ldaptor's own class leaves out credentials that are empty."""
    given = [mechanism] if credentials is None else [mechanism, credentials]
    choice = pureber.BERSequence([pureber.BEROctetString(each) for each in given], tag=0xA3)
    return pureber.BERSequence([pureber.BERInteger(3), pureber.BEROctetString(""), choice], tag=0x60)


BINDS: dict[str, tuple[Any, bool, ResultCode]] = {
    "anonymous": (bind_request(), False, ResultCode.SUCCESS),
    "empty-password": (bind_request(PARTY_DN), True, ResultCode.UNWILLING_TO_PERFORM),
    "plaintext": (bind_request(PARTY_DN, PASSWORD), False, ResultCode.CONFIDENTIALITY_REQUIRED),
    "version-2": (bind_request(version=2), True, ResultCode.PROTOCOL_ERROR),
    "sasl-external-without-a-certificate": (sasl("EXTERNAL"), True, ResultCode.INAPPROPRIATE_AUTHENTICATION),
    "sasl-external-in-plaintext": (sasl("EXTERNAL"), False, ResultCode.INAPPROPRIATE_AUTHENTICATION),
    "sasl-plain": (sasl("PLAIN", b"\0verifier\0correct horse"), True, ResultCode.AUTH_METHOD_NOT_SUPPORTED),
    "sasl-lower-case": (sasl("external"), True, ResultCode.AUTH_METHOD_NOT_SUPPORTED),
    "sasl-none": (sasl(""), True, ResultCode.AUTH_METHOD_NOT_SUPPORTED),
}


@pytest.mark.parametrize(("request_", "is_encrypted", "code"), BINDS.values(), ids=BINDS)
def test_a_bind_without_a_password_to_verify_is_answered_at_once(
    request_: Any, is_encrypted: bool, code: ResultCode
) -> None:
    """RFC 4513, sections 5.1 and 5.2; every bind is recorded."""
    peer = Peer(is_encrypted=is_encrypted)
    assert peer.code(request_) == code
    (record,) = peer.records
    assert (record.kind, record.result, record.party) == ("ldap_bind", code.text, None)


@pytest.mark.req("R-4-4-4-5", "R-2-6-3-2", "R-4-11-2-1")
def test_a_party_with_the_right_reads_municipal_lists() -> None:
    """And the journal tells who bound, from where, and which list was given out."""
    peer = Peer()
    assert not peer.sees_list()
    assert peer.bind() == ResultCode.SUCCESS
    assert peer.who_am_i() == f"dn:{PARTY_DN}".encode()
    assert peer.sees_list()
    assert [(each.kind, each.result, each.party, each.origin, each.object, each.size) for each in peer.records] == [
        ("ldap_search", "withheld", None, "192.0.2.1", CHIYODA, 0),
        ("ldap_bind", "success", "verifier", "192.0.2.1", PARTY_DN, 0),
        ("ldap_search", "success", "verifier", "192.0.2.1", f"{CHIYODA} {LIST}", 11),
    ]


def test_a_wrong_password_and_an_unknown_name_look_alike() -> None:
    """RFC 4513, section 5.1.3; something is verified in both cases, so that they take the same time."""
    for name in (PARTY_DN, UNKNOWN_DN, "not a DN", ""):
        peer = Peer()
        assert peer.bind(name, matching_hash=None) == ResultCode.INVALID_CREDENTIALS
        assert not peer.sees_list()


def test_each_bind_begins_as_anonymous() -> None:
    """Also one that fails, or asks for what is not offered: RFC 4511, section 4.2.1."""
    for again in (bind_request(), bind_request(version=2), bind_request(PARTY_DN)):
        peer = Peer()
        peer.bind()
        peer.send(again)
        assert peer.who_am_i() == b""
        assert not peer.sees_list()
    peer = Peer()
    peer.bind()
    peer.bind(matching_hash=None)
    assert not peer.sees_list()


def test_nothing_is_received_while_a_password_is_verified() -> None:
    """The shell holds messages back as long as the session says so."""
    peer = Peer()
    peer.send(bind_request(PARTY_DN, b"any"))
    assert peer.session.is_waiting
    peer.session.verified(None, NOW)
    assert not peer.session.is_waiting


ENDINGS = {
    "withdrawn": ([], NOW),
    "password-replaced": ([credential("other hash")], NOW),
    "agreement-over": ([credential()], NOW + DAY),
    "agreement-shortened": ([credential(until=NOW)], NOW),
}


@pytest.mark.req("R-4-4-4-5", "R-2-6-3-2")
@pytest.mark.parametrize(("credentials", "now"), ENDINGS.values(), ids=ENDINGS)
def test_a_right_that_ends_ends_on_open_connections(credentials: list[Credential], now: datetime) -> None:
    """At the next request: whether rows changed or just time passed."""
    peer = Peer()
    peer.bind()
    peer.directory.access, peer.now = AccessTable.of(credentials), now
    assert not peer.sees_list()
    assert peer.who_am_i() == b""


def test_a_prolonged_agreement_needs_no_new_bind() -> None:
    """The credential is the same."""
    peer = Peer()
    peer.bind()
    peer.directory.access, peer.now = AccessTable.of([credential(until=NOW + 3 * DAY)]), NOW + 2 * DAY
    assert peer.sees_list()


def test_before_the_agreement_there_is_no_right() -> None:
    """Its first moment counts in."""
    table = AccessTable.of([credential()])
    assert table.credentials(parse(PARTY_DN).key, NOW - DAY)
    assert not table.credentials(parse(PARTY_DN).key, NOW - DAY - timedelta(seconds=1))


def test_without_the_access_table_a_bind_may_be_tried_again() -> None:
    """Not invalidCredentials: the password may be right."""
    assert Peer(credentials=None).code(bind_request(PARTY_DN, PASSWORD)) == ResultCode.UNAVAILABLE


def test_a_password_is_verified_by_argon2id() -> None:
    """Any of several hashes; none matches a name that has none."""
    assert matching(PASSWORD, ("$argon2id$broken", password_hash())) == password_hash()
    assert matching(PASSWORD + b"!", (password_hash(),)) is None
    assert matching(b"", ()) is None


UPDATES = {
    "add": pureldap.LDAPAddRequest(CA, []),
    "delete": pureldap.LDAPDelRequest(CA),
    "modify": pureldap.LDAPModifyRequest(CA, []),
    "modify-dn": pureldap.LDAPModifyDNRequest(CA, "OU=x", deleteoldrdn=True),
}


@pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
def test_nobody_writes(update: Any) -> None:
    """The directory shows what was published, and keeps a record of who tried."""
    peer = Peer()
    peer.bind()
    assert peer.code(update) == ResultCode.UNWILLING_TO_PERFORM
    assert peer.records[-1].result == "unwillingToPerform"


def test_start_tls_is_answered_before_encryption_begins() -> None:
    """With its name (RFC 4511, section 4.14.2); once encrypted, not again."""
    peer = Peer(is_encrypted=False)
    answer, then = peer.send(pureldap.LDAPExtendedRequest(START_TLS))
    assert answers([answer])[0].operation.responseName == START_TLS.encode()
    assert then == StartTLS()
    peer.session.is_encrypted = True
    assert peer.code(pureldap.LDAPExtendedRequest(START_TLS)) == ResultCode.OPERATIONS_ERROR


def test_an_unknown_extended_operation_is_a_protocol_error() -> None:
    """RFC 4511, section 4.12."""
    assert Peer().code(pureldap.LDAPExtendedRequest("1.2.3")) == ResultCode.PROTOCOL_ERROR


@pytest.mark.parametrize("name", [START_TLS, WHO_AM_I])
def test_an_extended_operation_without_a_value_has_none(name: str) -> None:
    """RFC 4511, section 4.14.1, and RFC 4532, section 2.1."""
    peer = Peer(is_encrypted=False)
    assert peer.code(pureldap.LDAPExtendedRequest(name, b"")) == ResultCode.PROTOCOL_ERROR
    assert not peer.session.is_encrypted


def test_an_unknown_critical_control_stops_the_operation() -> None:
    """RFC 4511, section 4.1.11; one that is not critical changes nothing; abandon and unbind have no response."""
    peer = Peer()
    critical = [("1.2.3", True, None)]
    assert peer.code(search_request(CA), critical) == ResultCode.UNAVAILABLE_CRITICAL_EXTENSION
    assert peer.ask(search_request(CA), [("1.2.3", False, None)])[-1].code == ResultCode.SUCCESS
    assert peer.send(pureldap.LDAPAbandonRequest(id=1), critical) == []
    assert peer.send(pureldap.LDAPUnbindRequest(), critical) == [Close()]


def test_abandon_and_unbind_have_no_response() -> None:
    """RFC 4511, sections 4.3 and 4.11."""
    peer = Peer()
    assert peer.send(pureldap.LDAPAbandonRequest(id=5)) == [Abandon(5)]
    assert peer.send(pureldap.LDAPUnbindRequest()) == [Close()]


def test_compare_is_answered() -> None:
    """By name and by value."""
    assertion = pureldap.LDAPAttributeValueAssertion(
        pureldap.LDAPAttributeDescription("ou"), pureldap.LDAPAssertionValue("the governor of tokyo-to")
    )
    assert Peer().code(pureldap.LDAPCompareRequest(CA, assertion)) == ResultCode.COMPARE_TRUE


def test_nonsense_ends_the_session_with_a_notice() -> None:
    """RFC 4511, section 4.1.1."""
    record, notice, then = Peer().session.receive(b"\x30\x03\x02\x01\x00", NOW)
    assert isinstance(record, Record)
    assert record.result == "protocolError"
    (answer,) = answers([notice])
    assert (answer.message_id, answer.code) == (0, ResultCode.PROTOCOL_ERROR)
    assert then == Close()


def test_a_search_ends_on_the_snapshot_it_began_with() -> None:
    """A new publication in between changes nothing of an answer that waits to be sent."""
    peer = Peer()
    actions = peer.send(search_request(CA))
    peer.directory.dit = build([])
    entry, done = answers(actions)
    assert entry.dn == CA
    assert done.code == ResultCode.SUCCESS
    assert peer.code(search_request(CA)) == ResultCode.NO_SUCH_OBJECT


# ---------------------------------------------------------------- SASL EXTERNAL


def client_certificate(not_after: datetime = NOW + 2 * DAY) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder(x509.Name([]), x509.Name([]), key.public_key(), 1, NOW - DAY, not_after)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


CERTIFICATE = client_certificate()


def certified(*, certificate: bytes = CERTIFICATE, **more: Any) -> Peer:
    """A peer that showed this certificate in TLS; the party has registered CERTIFICATE."""
    peer = Peer(credentials=[Credential(7, "verifier", None, NOW - DAY, NOW + DAY, CERTIFICATE)], **more)
    peer.session.client_fingerprint = sha256(certificate).digest()
    return peer


@pytest.mark.req("R-4-4-4-5", "R-2-6-3-2")
def test_a_registered_client_certificate_is_a_login() -> None:
    """SASL EXTERNAL (RFC 4513, section 5.2.3); the password of nobody is needed."""
    peer = certified()
    assert not peer.sees_list()
    assert peer.code(sasl("EXTERNAL")) == ResultCode.SUCCESS
    assert peer.who_am_i() == f"dn:{PARTY_DN}".encode()
    assert peer.sees_list()
    assert peer.records[-1].party == "verifier"


IDENTITIES = {
    "own": (f"dn:{PARTY_DN.upper()}", ResultCode.SUCCESS),
    "of-somebody-else": (f"dn:{UNKNOWN_DN}", ResultCode.INVALID_CREDENTIALS),
    "user-name": ("u:verifier", ResultCode.INVALID_CREDENTIALS),
    "no-dn": ("dn:x", ResultCode.INVALID_CREDENTIALS),
    "not-utf8": (b"dn:\xff", ResultCode.INVALID_CREDENTIALS),
}


@pytest.mark.parametrize(("identity", "code"), IDENTITIES.values(), ids=IDENTITIES)
def test_nobody_acts_for_somebody_else(identity: Any, code: ResultCode) -> None:
    """An authorization identity can only be one's own (RFC 4513, section 5.2.1.8)."""
    assert certified().code(sasl("EXTERNAL", identity)) == code


def test_external_without_credentials_is_asked_for_them() -> None:
    """Absent is not empty: RFC 4422, section 4."""
    peer = certified()
    assert peer.code(sasl("EXTERNAL", None)) == ResultCode.SASL_BIND_IN_PROGRESS
    assert not peer.sees_list()
    assert peer.code(sasl("EXTERNAL", b"")) == ResultCode.SUCCESS


def test_a_certificate_that_is_not_registered_is_no_login() -> None:
    """Whoever issued it."""
    assert certified(certificate=b"another").code(sasl("EXTERNAL")) == ResultCode.INVALID_CREDENTIALS


def test_a_certificate_that_is_withdrawn_ends_the_right_on_open_connections() -> None:
    """As a password does."""
    peer = certified()
    peer.code(sasl("EXTERNAL"))
    peer.directory.access = AccessTable.of([credential()])
    assert not peer.sees_list()
    assert peer.code(sasl("EXTERNAL")) == ResultCode.INVALID_CREDENTIALS


@pytest.mark.req("R-4-4-4-5")
def test_a_certificate_that_expires_ends_the_right_on_open_connections() -> None:
    """Its last second counts in, whatever was agreed on."""
    peer = certified()
    peer.directory.access = AccessTable.of([Credential(7, "verifier", None, NOW - DAY, NOW + 9 * DAY, CERTIFICATE)])
    peer.code(sasl("EXTERNAL"))
    peer.now = NOW + 2 * DAY
    assert peer.sees_list()
    peer.now += timedelta(seconds=1)
    assert not peer.sees_list()
    assert peer.code(sasl("EXTERNAL")) == ResultCode.INVALID_CREDENTIALS


def test_a_certificate_that_cannot_be_read_is_none_and_takes_nothing_else_with_it() -> None:
    """The other credentials of the table count."""
    table = AccessTable.of([Credential(8, "other", None, NOW - DAY, NOW + DAY, b"no certificate"), credential()])
    assert table.certificates == frozenset()
    assert table.credentials(parse(PARTY_DN).key, NOW)


# ---------------------------------------------------------------- failed binds


def refused_unseen(peer: Peer, name: str = PARTY_DN) -> bool:
    """Whether a bind is refused without a look at its password."""
    actions = peer.send(bind_request(name, b"any"))
    if not peer.session.is_waiting:
        assert answers(actions)[0].code == ResultCode.INVALID_CREDENTIALS
        return True
    peer.session.verified("hash" if name == PARTY_DN else None, peer.now)
    return False


def fail(peer: Peer, times: int, name: str = PARTY_DN) -> None:
    """Give the wrong password, as early as it is looked at."""
    for _ in range(times):
        while not isinstance(peer.send(bind_request(name, b"any"))[-1], VerifyPassword):
            peer.now += timedelta(seconds=1)
        peer.session.verified(None, peer.now)


@pytest.mark.req("R-4-4-4-5", "R-5-2-3-2")
def test_failed_binds_slow_down_and_then_lock_out() -> None:
    """Two failures cost nothing, further ones seconds, the fifth (here) five minutes."""
    peer = Peer()
    fail(peer, 2)
    assert peer.now == NOW
    fail(peer, 3)
    assert peer.now == NOW + timedelta(seconds=1 + 2)
    assert refused_unseen(peer)
    peer.now += timedelta(minutes=5)
    assert not refused_unseen(peer)
    assert not refused_unseen(peer)


def test_a_lockout_hits_one_name_from_one_address_only() -> None:
    """Not the party where it really is, and nobody else behind the same address."""
    guesser = Peer()
    fail(guesser, 5)
    assert refused_unseen(guesser)
    assert not refused_unseen(guesser, UNKNOWN_DN)
    party = Peer()
    party.session = Session(guesser.service, peer="198.51.100.1", is_encrypted=True)
    assert not refused_unseen(party)


@pytest.mark.parametrize(("peer", "is_same"), [("2001:db8::2", True), ("2001:db8:0:1::1", False)])
def test_a_lockout_hits_all_addresses_that_a_host_can_give_itself(peer: str, *, is_same: bool) -> None:
    """An IPv6 host may choose from 2**64."""
    guesser, other = Peer(), Peer()
    guesser.session = Session(guesser.service, peer="2001:db8::1", is_encrypted=True)
    fail(guesser, 5)
    other.session, other.now = Session(guesser.service, peer=peer, is_encrypted=True), guesser.now
    assert refused_unseen(other) is is_same


def test_a_lockout_does_not_tell_whether_a_name_is_known() -> None:
    """An unknown one is locked out, too, also if it is spelt differently."""
    for name in (UNKNOWN_DN, UNKNOWN_DN.upper(), "not a DN"):
        peer = Peer()
        fail(peer, 5, name)
        assert refused_unseen(peer, name)
    peer = Peer()
    fail(peer, 5, UNKNOWN_DN)
    assert refused_unseen(peer, UNKNOWN_DN.replace(",", " , "))


@pytest.mark.req("R-4-4-4-5", "R-5-2-3-2")
def test_a_lockout_holds_against_binds_that_wait_already() -> None:
    """Binds that were sent at once, on many connections: after the lockout not even the right password helps."""
    peer = Peer()
    waiting = [Session(peer.service, peer=each, is_encrypted=True) for each in ["192.0.2.1"] * 7 + ["198.51.100.1"]]
    for session in waiting:
        session.receive(message(bind_request(PARTY_DN, b"any")), NOW)
    *guesses, right, elsewhere = waiting
    messages = []
    for i, session in enumerate(guesses):
        assert session.is_locked_out(NOW) == (i >= 3)
        (answer,) = answers(session.verified(None, NOW))
        messages.append(answer.operation.errorMessage)
    assert messages == [b""] * 3 + [b"too many failed binds; try again in 1 s"] * 3
    assert [each.code for each in answers(right.verified("hash", NOW))] == [ResultCode.INVALID_CREDENTIALS]
    assert not right.is_bound
    assert [each.code for each in answers(elsewhere.verified("hash", NOW))] == [ResultCode.SUCCESS]
    assert refused_unseen(peer)


def test_names_that_failed_are_not_kept_whole() -> None:
    """However long they are, or of however many parts."""
    peer = Peer()
    fail(peer, 1)
    tracemalloc.start()
    try:
        for i in range(50):
            fail(peer, 1, f"{i} ".ljust(60_000, "x"))
            fail(peer, 1, f"cn={i}" + ",c=a" * 1000)
        peer.records.clear()
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_lockout_leaves_who_is_bound_already_alone() -> None:
    """On another connection of the same party from the same address."""
    guesser = Peer()
    party = Peer()
    party.bind()
    party.session._authentication._failed_binds = guesser.service.failed_binds
    fail(guesser, 5)
    assert party.sees_list()


# ---------------------------------------------------------------- controls, Cancel, Password Modify


def page(size: int, cookie: bytes = b"") -> list[tuple[str, bool, bytes]]:
    value = bytes((0x30, 5 + len(cookie), 0x02, 1, size, 0x04, len(cookie))) + cookie
    return [(PAGED_RESULTS, True, value)]


def cookie(answer: Answer) -> bytes:
    """How to go on, in the control of a result."""
    ((_, _, value),) = answer.controls
    reader = Reader(value).constructed()
    reader.integer()
    return reader.octets()


def test_pages_make_up_the_whole_and_are_of_one_publication() -> None:
    """RFC 2696: although there is a new one in between."""
    peer = Peer()
    everything = [answer.dn for answer in peer.ask(search_request("C=JP", 2)) if not answer.is_result]
    found: list[str] = []
    following = b""
    while True:
        *entries, done = peer.ask(search_request("C=JP", 2), page(3, following))
        assert len(entries) <= 3
        assert done.code == ResultCode.SUCCESS
        found += [entry.dn for entry in entries]
        following = cookie(done)
        peer.directory.dit = build([])
        if not following:
            break
    assert found == everything


def test_a_limit_of_the_client_counts_over_all_pages() -> None:
    """It is told on the last one."""
    peer = Peer()
    *first, done = peer.ask(search_request("C=JP", 2, size_limit=5), page(3))
    assert (len(first), done.code) == (3, ResultCode.SUCCESS)
    *second, done = peer.ask(search_request("C=JP", 2, size_limit=5), page(3, cookie(done)))
    assert (len(second), done.code, cookie(done)) == (2, ResultCode.SIZE_LIMIT_EXCEEDED, b"")


def test_a_page_that_does_not_follow_is_refused() -> None:
    """Another search, an old or made-up cookie, other rights; then the paged search is over."""
    peer = Peer()

    def begin() -> bytes:
        return cookie(peer.ask(search_request("C=JP", 2), page(3))[-1])

    refused = ResultCode.UNWILLING_TO_PERFORM
    following = begin()
    assert peer.code(search_request("O=JPKI,C=JP", 2), page(3, following)) == refused
    assert peer.code(search_request("C=JP", 2), page(3, following)) == refused
    first = begin()
    peer.ask(search_request("C=JP", 2), page(3, first))
    assert peer.code(search_request("C=JP", 2), page(3, first)) == refused
    assert peer.code(search_request("C=JP", 2), page(3, b"made up")) == refused
    following = begin()
    peer.bind()
    assert peer.code(search_request("C=JP", 2), page(3, following)) == refused
    following = begin()
    peer.directory.access = AccessTable.of([])
    assert peer.code(search_request("C=JP", 2), page(3, following)) == refused


def test_of_a_paged_search_little_is_kept() -> None:
    """Neither the request, which may be as long as a message, nor anything for an entry but where it is."""
    peer, number = Peer(), 20
    peer.directory.dit = build([published(f"CN={i},C=JP", LIST, b"x") for i in range(500)])
    pieces = [pureldap.LDAPFilter_substrings_any(f"{i}") for i in range(500)]
    long = pureldap.LDAPFilter_or(
        [pureldap.LDAPFilter_present("cn"), pureldap.LDAPFilter_substrings(type="cn", substrings=pieces)]
    )
    paged: Any = page(3)
    octets = message(search_request("C=JP", 1, long), controls=paged)
    sessions = [Session(peer.service, peer="192.0.2.1", is_encrypted=True) for _ in range(number + 1)]
    sessions[-1].receive(octets, NOW)
    tracemalloc.start()
    try:
        for session in sessions[:number]:
            assert answers(session.receive(octets, NOW))[-1].code == ResultCode.SUCCESS
        assert tracemalloc.get_traced_memory()[0] < number * 10_000
    finally:
        tracemalloc.stop()


def test_a_page_of_no_entries_ends_the_search() -> None:
    """RFC 2696, section 3; the estimate is the number of entries."""
    peer = Peer()
    following = cookie(peer.ask(search_request("C=JP", 2), page(3))[-1])
    (done,) = peer.ask(search_request("C=JP", 2), page(0, following))
    assert (done.code, cookie(done)) == (ResultCode.SUCCESS, b"")
    assert peer.code(search_request("C=JP", 2), page(3, following)) == ResultCode.UNWILLING_TO_PERFORM


PRESENT_OU = b"\x87\x02ou"
CONTROLS: dict[str, tuple[Any, list[tuple[str, bool, bytes | None]], ResultCode]] = {
    "assertion": (search_request(CA), [(ASSERTION, True, PRESENT_OU)], ResultCode.SUCCESS),
    "assertion-false": (search_request(CHIYODA), [(ASSERTION, True, PRESENT_OU)], ResultCode.ASSERTION_FAILED),
    "assertion-not-critical": (search_request(CHIYODA), [(ASSERTION, False, PRESENT_OU)], ResultCode.ASSERTION_FAILED),
    "assertion-no-value": (search_request(CA), [(ASSERTION, True, None)], ResultCode.PROTOCOL_ERROR),
    "assertion-no-filter": (search_request(CA), [(ASSERTION, True, b"\x30")], ResultCode.PROTOCOL_ERROR),
    "assertion-with-update": (
        pureldap.LDAPDelRequest(CA),
        [(ASSERTION, True, PRESENT_OU)],
        ResultCode.UNAVAILABLE_CRITICAL_EXTENSION,
    ),
    "values": (search_request(CA), [(MATCHED_VALUES, True, b"\x30\x04" + PRESENT_OU)], ResultCode.SUCCESS),
    "values-none": (search_request(CA), [(MATCHED_VALUES, True, b"\x30\x00")], ResultCode.PROTOCOL_ERROR),
    "values-and": (
        search_request(CA),
        [(MATCHED_VALUES, True, b"\x30\x06\xa0\x04" + PRESENT_OU)],
        ResultCode.PROTOCOL_ERROR,
    ),
    "page-no-value": (search_request(CA), [(PAGED_RESULTS, False, None)], ResultCode.PROTOCOL_ERROR),
    "page-long-cookie": (
        search_request(CA),
        [(PAGED_RESULTS, False, b"\x30\x82\x00\x87\x02\x01\x01\x04\x81\x81" + bytes(129))],
        ResultCode.PROTOCOL_ERROR,
    ),
    "twice": (search_request(CA), [(MANAGE_DSA_IT, False, None)] * 2, ResultCode.PROTOCOL_ERROR),
    "manage-dsa-it": (search_request(CA), [(MANAGE_DSA_IT, True, None)], ResultCode.SUCCESS),
    "manage-dsa-it-update": (
        pureldap.LDAPDelRequest(CA),
        [(MANAGE_DSA_IT, True, None)],
        ResultCode.UNWILLING_TO_PERFORM,
    ),
    "unknown-not-utf8": (
        search_request(CA),
        [(b"1.2.3\xff", True, None)],  # type: ignore[list-item]
        ResultCode.UNAVAILABLE_CRITICAL_EXTENSION,
    ),
    "pre-read": (
        pureldap.LDAPModifyRequest(CA, []),
        [("1.3.6.1.1.13.1", True, b"\x30\x00")],
        ResultCode.UNAVAILABLE_CRITICAL_EXTENSION,
    ),
    "pre-read-not-critical": (
        pureldap.LDAPModifyRequest(CA, []),
        [("1.3.6.1.1.13.1", False, b"\x30\x00")],
        ResultCode.UNWILLING_TO_PERFORM,
    ),
    "bind": (bind_request(), [(PAGED_RESULTS, True, None)], ResultCode.UNAVAILABLE_CRITICAL_EXTENSION),
    "extended": (
        pureldap.LDAPExtendedRequest(WHO_AM_I),
        [(ASSERTION, True, PRESENT_OU)],
        ResultCode.UNAVAILABLE_CRITICAL_EXTENSION,
    ),
}


@pytest.mark.parametrize(("request_", "attached", "code"), CONTROLS.values(), ids=CONTROLS)
def test_a_control_is_understood_ignored_or_refused(request_: Any, attached: Any, code: ResultCode) -> None:
    """RFC 4511, section 4.1.11: what is critical and not for this operation stops it."""
    assert Peer().ask(request_, attached)[-1].code == code


def test_the_root_dse_names_the_controls_and_operations_that_are_understood() -> None:
    """RFC 4512, section 5.1."""
    (root, _) = Peer().ask(search_request("", 0, None, "+"))
    assert {each.decode() for each in root.attributes["supportedControl"]} == {
        PAGED_RESULTS,
        ASSERTION,
        MATCHED_VALUES,
        MANAGE_DSA_IT,
    }
    assert {each.decode() for each in root.attributes["supportedExtension"]} == {START_TLS, WHO_AM_I, CANCEL}
    assert root.attributes["supportedSASLMechanisms"] == [b"EXTERNAL"]


def test_what_is_canceled_is_told_so() -> None:
    """RFC 3909; the shell tells how it went."""
    (cancel,) = Peer().send(pureldap.LDAPExtendedRequest(CANCEL, b"\x30\x03\x02\x01\x07"))
    assert isinstance(cancel, Cancel)
    assert cancel.message_id == 7
    (last,) = read_answers(b"".join(cancel.canceled))
    assert (last.message_id, type(last.operation), last.code) == (7, pureldap.LDAPSearchResultDone, 118)
    (answer,) = answers([cancel.answer(ResultCode.TOO_LATE)])
    assert (answer.message_id, answer.code) == (1, ResultCode.TOO_LATE)


@pytest.mark.parametrize("value", [None, b"", b"\x30\x00", b"\x02\x01\x07"])
def test_a_cancel_of_nothing_is_a_protocol_error(value: bytes | None) -> None:
    """It needs the ID of a message."""
    assert Peer().code(pureldap.LDAPExtendedRequest(CANCEL, value)) == ResultCode.PROTOCOL_ERROR


def test_nobody_changes_a_password() -> None:
    """Not even who is bound: the CA does (RFC 3062)."""
    peer = Peer()
    peer.bind()
    assert peer.code(pureldap.LDAPExtendedRequest(PASSWORD_MODIFY)) == ResultCode.UNWILLING_TO_PERFORM


def test_no_octets_make_a_session_fail() -> None:
    """Each message is answered, refused or ends the session; `is_waiting` is the only state to be left again."""
    framer = MessageFramer(65_536)
    peer = Peer()
    for octets in mutations(seed=4511, number=3000):
        framer.receive(octets)
        try:
            while (whole := framer.next_message()) is not None:
                peer.session.receive(whole, NOW)
                if peer.session.is_waiting:
                    peer.session.verified(None, NOW)
        except MalformedMessageError:
            pass
        framer.discard()
