"""One LDAP session: messages in, actions out."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ldaptor.protocols import pureldap

from journal.record import Record
from repository.access import AccessTable, Credential
from repository.directory import Directory
from repository.messages import ResultCode
from repository.passwords import matching
from repository.session import Abandon, Action, Close, Send, Session, StartTLS, VerifyPassword
from repository.snapshot import START_TLS, WHO_AM_I, build
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
        self.session = Session(self.directory, peer="192.0.2.1", is_encrypted=is_encrypted, size_limit_entries=1000)
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


def sasl(mechanism: str) -> Any:
    return pureldap.LDAPBindRequest(dn="", auth=(mechanism, None), sasl=True)


BINDS: dict[str, tuple[Any, bool, ResultCode]] = {
    "anonymous": (bind_request(), False, ResultCode.SUCCESS),
    "empty-password": (bind_request(PARTY_DN), True, ResultCode.UNWILLING_TO_PERFORM),
    "plaintext": (bind_request(PARTY_DN, PASSWORD), False, ResultCode.CONFIDENTIALITY_REQUIRED),
    "version-2": (bind_request(version=2), True, ResultCode.PROTOCOL_ERROR),
    "sasl-external": (sasl("EXTERNAL"), True, ResultCode.AUTH_METHOD_NOT_SUPPORTED),
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
    assert table.credentials(PARTY_DN, NOW - DAY)
    assert not table.credentials(PARTY_DN, NOW - DAY - timedelta(seconds=1))


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
