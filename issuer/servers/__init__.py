"""Certificates of servers: OCSP delegates, operations certificates, TLS."""
