"""CertificationRequests (RFC 2986): what others ask this CA to certify, and what this CA asks another one for."""

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID

from issuer.errors import RefusedError
from issuer.profiles.profile import CrossSubject
from pkix import der
from pkix.certid import key_identifier
from pkix.signing import PublicKey, Signer, sign, signed

MAX_REQUEST_OCTETS: Final = 65_536
RSA_BITS: Final = range(2048, 4097)
CURVES: Final = (ec.SECP256R1, ec.SECP384R1)
_EXTENSION_REQUEST: Final = "1.2.840.113549.1.9.14"  # RFC 2985, section 5.4.2
_VERSION: Final = der.integer(0)
_SET: Final = 0x31


@dataclass(frozen=True, slots=True)
class CrossRequest:
    """What another CA asks for."""

    der: bytes
    name: x509.Name
    key: PublicKey
    key_identifier: bytes

    def subject(self, policy: str | None) -> CrossSubject:
        """The subject of its cross certificate; `policy`: its own, equivalent to ours, or None."""
        return CrossSubject(self.name, self.key, self.key_identifier, policy)


def load_request(octets: bytes) -> x509.CertificateSigningRequest:
    """A request that is signed by the key that it names, from DER or PEM.

    Raises:
        RefusedError: it is none, or its signature is wrong.
    """
    load = x509.load_pem_x509_csr if octets.lstrip().startswith(b"-----") else x509.load_der_x509_csr
    try:
        request = load(octets)
        is_signed = request.is_signature_valid
    except ValueError as e:
        raise RefusedError(f"this is no certification request ({e}); give a PKCS #10 file, as of `openssl req`") from e
    if not is_signed:
        raise RefusedError("the request is not signed by the key that it names; make it again, with that key")
    return request


def cross_request(octets: bytes) -> CrossRequest:
    """What another CA asks for, from DER or PEM.

    Its certificate must say of its key what it says itself in what it signs (RFC 5280, section 4.2.1.2): the
    SubjectKeyIdentifier that the request asks for, else SHA-1 of the key.

    Raises:
        RefusedError: it is no request, names nobody, or its key is too weak.
    """
    request = load_request(octets)
    if not request.subject.rdns:
        raise RefusedError("the request names no subject; the other CA has to make it with its own name")
    key = strong_key(request.public_key())
    try:
        asked = request.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        asked = key_identifier(key)
    except ValueError as e:
        raise RefusedError(f"the extensions that the request asks for cannot be read ({e}); have it made again") from e
    return CrossRequest(request.public_bytes(Encoding.DER), request.subject, key, asked)


def strong_key(key: object) -> PublicKey:
    """The key, if it is strong enough for a CA.

    Raises:
        RefusedError: it is not RSA of 2048 to 4096 bits, nor on P-256 or P-384.
    """
    if isinstance(key, rsa.RSAPublicKey) and key.key_size in RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, CURVES):
        return key
    raise RefusedError("its key is too weak or of another kind; a CA has RSA of 2048 to 4096 bits, P-256 or P-384")


def signed_request(name: x509.Name, signer: Signer) -> bytes:
    """A request for this CA's own key, DER. It asks for the SubjectKeyIdentifier that the CA itself uses.

    Raises:
        SigningError: the key cannot be used now.
    """
    key = signer.public_key
    identifier = der.extension(ExtensionOID.SUBJECT_KEY_IDENTIFIER.dotted_string, der.octet_string(key_identifier(key)))
    attribute = der.sequence(der.object_identifier(_EXTENSION_REQUEST), der.element(_SET, der.sequence(identifier)))
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    to_be_signed = der.sequence(_VERSION, name.public_bytes(), spki, der.explicit(0, attribute))
    return signed(to_be_signed, key, sign(signer, to_be_signed))
