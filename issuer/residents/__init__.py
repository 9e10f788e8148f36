"""Residents' certificates: from a municipality's notices to certificates, and their revocation."""
