"""PolicyMappings (RFC 5280, section 4.2.1.5), which pyca does not know, and where the policies of a path lead."""

from typing import Final

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.x509.oid import CertificatePoliciesOID, ExtensionOID, ObjectIdentifier

from pkix import der

_ANY: Final = CertificatePoliciesOID.ANY_POLICY


@asn1.sequence
class PolicyMapping:
    """A policy of the issuer's domain, and the one of the subject's domain that it takes for equivalent."""

    issuer_domain_policy: ObjectIdentifier
    subject_domain_policy: ObjectIdentifier


def policy_mappings(*pairs: tuple[str, str]) -> x509.UnrecognizedExtension:
    """The extension of these (issuerDomainPolicy, subjectDomainPolicy), dotted."""
    mappings = [
        PolicyMapping(issuer_domain_policy=ObjectIdentifier(issuer), subject_domain_policy=ObjectIdentifier(subject))
        for issuer, subject in pairs
    ]
    return x509.UnrecognizedExtension(ExtensionOID.POLICY_MAPPINGS, der.sequence(*map(asn1.encode_der, mappings)))


def mapped_policies(certificate: x509.Certificate) -> list[tuple[str, str]]:
    """What `policy_mappings` was given; empty if the certificate has none.

    Raises:
        ValueError: the extension cannot be read.
    """
    try:
        extension = certificate.extensions.get_extension_for_oid(ExtensionOID.POLICY_MAPPINGS)
    except x509.ExtensionNotFound:
        return []
    value = der.contents(extension.value.public_bytes())
    mappings = [asn1.decode_der(PolicyMapping, each) for each in der.elements(value)]
    return [(each.issuer_domain_policy.dotted_string, each.subject_domain_policy.dotted_string) for each in mappings]


def leads_to(certificate: x509.Certificate, policy: str) -> bool:
    """May a certificate below this one have the policy, as far as this one decides (RFC 5280, section 6.1.4 (a), (b))?

    Raises:
        ValueError: an extension cannot be read.
    """
    try:
        asserted = certificate.extensions.get_extension_for_class(x509.CertificatePolicies).value
    except x509.ExtensionNotFound:
        return False
    policies = {each.policy_identifier.dotted_string for each in asserted}
    mappings = mapped_policies(certificate)
    is_any = _ANY.dotted_string in policies
    if any(subject == policy and (is_any or issuer in policies) for issuer, subject in mappings):
        return True
    return (is_any or policy in policies) and policy not in {issuer for issuer, _ in mappings}
