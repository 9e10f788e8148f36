"""Operations on a key of the CA: what kinds there are, and who has to agree to each (R-5-2-1-1, R-5-2-2-1)."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

Parameters = Mapping[str, str | int | None]  # of an operation: what people sign is their JSON


class Role(StrEnum):
    """A role of the rule (5-2-1-1). The auditor holds no other."""

    MANAGER = "manager"  # 認証局管理責任者
    KEY_MANAGER = "key-manager"  # 秘密鍵管理者
    RECEPTION = "reception"  # 受付担当者
    EXAMINER = "examiner"  # 審査担当者
    APPROVER = "approver"  # 審査承認者
    SENIOR_OPERATOR = "senior-operator"  # 上級操作員
    REPOSITORY_OPERATOR = "repository-operator"  # リポジトリ操作員
    GENERAL_OPERATOR = "general-operator"  # 一般操作員
    AUDITOR = "auditor"  # 内部監査者


class OperationKind(StrEnum):
    """What can be asked for."""

    FOUND = "found"  # the first key and its self-signed certificate
    PREPARE_KEY = "prepare-key"  # the next key, its self-signed certificate, and the link certificates
    SWITCH_KEY = "switch-key"  # the prepared key takes over
    DELEGATES_AHEAD = "delegates-ahead"  # the OCSP responder's certificates for the years after it
    ACTIVATE = "activate"
    DEACTIVATE = "deactivate"
    BACK_UP_KEY = "back-up-key"
    DESTROY_KEY = "destroy-key"
    COMPROMISE = "compromise"
    OPERATIONS_CERTIFICATE = "operations-certificate"  # of the OCSP responder or the certificate validation server
    CROSS_REQUEST = "cross-request"  # for our own certificate from the bridge
    CROSS_CERTIFICATE = "cross-certificate"
    CROSS_REVOCATION = "cross-revocation"
    REVOKE_CERTIFICATE = "revoke-certificate"  # of the CA or its servers
    CHANGE_POLICY = "change-policy"
    REGISTER_OPERATOR = "register-operator"
    END_OPERATOR = "end-operator"


_KEY_CONTROL: Final = {Role.KEY_MANAGER: 2, Role.SENIOR_OPERATOR: 2}  # R-6-2-1-2, R-6-2-1-7, 5-2-1-1 (6)
_KEY_LIFE: Final = {Role.MANAGER: 1, **_KEY_CONTROL}  # what is important, the manager orders (R-5-2-2-2)
_CERTIFICATES: Final = {Role.SENIOR_OPERATOR: 2}
_CHAIN: Final = {Role.RECEPTION: 1, Role.EXAMINER: 1, Role.APPROVER: 1, Role.SENIOR_OPERATOR: 2}

# How many persons of each role agree to an operation. Each person counts once.
QUORUM: Final[Mapping[OperationKind, Mapping[Role, int]]] = MappingProxyType(
    {
        OperationKind.FOUND: _KEY_LIFE,
        OperationKind.PREPARE_KEY: _KEY_LIFE,
        OperationKind.SWITCH_KEY: _KEY_LIFE,
        OperationKind.DELEGATES_AHEAD: _CERTIFICATES,
        OperationKind.ACTIVATE: _KEY_CONTROL,
        OperationKind.DEACTIVATE: _KEY_CONTROL,
        OperationKind.BACK_UP_KEY: _KEY_LIFE,
        OperationKind.DESTROY_KEY: _KEY_LIFE,
        OperationKind.COMPROMISE: {Role.MANAGER: 1, Role.SENIOR_OPERATOR: 2},
        OperationKind.OPERATIONS_CERTIFICATE: _CERTIFICATES,
        OperationKind.CROSS_REQUEST: _CERTIFICATES,
        OperationKind.CROSS_CERTIFICATE: _CHAIN,
        OperationKind.CROSS_REVOCATION: _CHAIN,  # its application is received, examined and approved, too (5-2-1-1)
        OperationKind.REVOKE_CERTIFICATE: _CERTIFICATES,
        OperationKind.CHANGE_POLICY: _CERTIFICATES,
        OperationKind.REGISTER_OPERATOR: _CERTIFICATES,
        OperationKind.END_OPERATOR: _CERTIFICATES,
    }
)

# What a rule of before demanded, by kind: whoever changes QUORUM keeps it here, for those who verify old operations.
FORMER: Final[Mapping[OperationKind, tuple[Mapping[Role, int], ...]]] = MappingProxyType(
    {kind: (_KEY_CONTROL,) for kind, needs in QUORUM.items() if needs is _KEY_LIFE}
)

# Of these, one that was begun and has no outcome may be run again: its outcome is recorded in the transaction of the
# act, or it goes on where it stopped. Of the others a person has to look first what was done.
REPEATABLE: Final = frozenset(
    {
        *(OperationKind.FOUND, OperationKind.PREPARE_KEY, OperationKind.SWITCH_KEY, OperationKind.DELEGATES_AHEAD),
        *(OperationKind.ACTIVATE, OperationKind.DEACTIVATE, OperationKind.COMPROMISE),
        *(OperationKind.DESTROY_KEY, OperationKind.BACK_UP_KEY),
        *(OperationKind.CROSS_REQUEST, OperationKind.CROSS_CERTIFICATE, OperationKind.CROSS_REVOCATION),
        *(OperationKind.OPERATIONS_CERTIFICATE, OperationKind.REVOKE_CERTIFICATE, OperationKind.CHANGE_POLICY),
        *(OperationKind.REGISTER_OPERATOR, OperationKind.END_OPERATOR),
    }
)
