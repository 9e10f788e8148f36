"""The batch CA."""
