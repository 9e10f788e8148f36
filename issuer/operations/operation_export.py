"""An operation as files, for other programs to verify, such as `openssl dgst -sha256 -verify KEY -signature FILE`."""

import json

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from issuer.operations.consent import Case


def files(case: Case) -> dict[str, bytes]:
    """The content, and of each person who agreed the signature and the key; by file name."""
    made = {"content.json": case.row.content}
    approvals = []
    for approval in case.row.approvals:
        operator = case.operators[approval.operator_id]
        key = operator.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        made |= {f"{operator.name}.signature": approval.signature, f"{operator.name}.key.pem": key}
        approvals.append(
            {
                "name": operator.name,
                "full_name": operator.full_name,
                "roles": sorted(operator.roles),
                "role": approval.role,
                "approved_at": f"{approval.approved_at:%Y-%m-%dT%H:%M:%SZ}",
                "key_sha256": operator.fingerprint,
            }
        )
    told = json.dumps({"number": case.request.number, "approvals": approvals}, ensure_ascii=False, indent=2)
    return made | {"approvals.json": f"{told}\n".encode()}
