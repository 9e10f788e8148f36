"""Keys that are made once in a process."""

from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec, rsa


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    """RSA-2048."""
    return rsa.generate_private_key(65537, 2048)


@cache
def p256_key() -> ec.EllipticCurvePrivateKey:
    """P-256."""
    return ec.generate_private_key(ec.SECP256R1())
