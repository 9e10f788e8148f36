"""PKIX values and DER, named as RFC 5280 and RFC 6960 name them; no I/O except for keys (`software`, `pkcs11`).

Reading order: `der` (writing and walking DER), `names`, `validity`, `revocation`, `distribution`, `certid`,
`signing` (the Signer every key hides behind), `software` and `pkcs11` (the two kinds of key; `cryptoki` is the module
under the second).

The three programs must agree on names, hashes and times octet for octet: that is all that belongs here.
"""
