"""Which function performs which kind of operation."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from issuer.cross import cross_operation
from issuer.generations import delegates_ahead, first_key, key_end, renewal
from issuer.operations import activation, operators, policy
from issuer.operations.act import Performer
from issuer.recovery import compromise
from issuer.rules.operation import OperationKind
from issuer.servers import operations_certificate, server_revocation

PERFORMERS: Final[Mapping[OperationKind, Performer]] = MappingProxyType(
    {
        OperationKind.FOUND: first_key.perform,
        OperationKind.BACK_UP_KEY: key_end.back_up,
        OperationKind.COMPROMISE: compromise.perform,
        OperationKind.DESTROY_KEY: key_end.destroy,
        OperationKind.PREPARE_KEY: renewal.prepare,
        OperationKind.SWITCH_KEY: renewal.switch,
        OperationKind.DELEGATES_AHEAD: delegates_ahead.perform,
        OperationKind.OPERATIONS_CERTIFICATE: operations_certificate.perform,
        OperationKind.CROSS_REQUEST: cross_operation.perform_request,
        OperationKind.CROSS_CERTIFICATE: cross_operation.perform_issue,
        OperationKind.CROSS_REVOCATION: cross_operation.perform_revoke,
        OperationKind.ACTIVATE: activation.activate,
        OperationKind.DEACTIVATE: activation.deactivate,
        OperationKind.REVOKE_CERTIFICATE: server_revocation.perform,
        OperationKind.CHANGE_POLICY: policy.perform,
        OperationKind.REGISTER_OPERATOR: operators.register,
        OperationKind.END_OPERATOR: operators.end,
    }
)
