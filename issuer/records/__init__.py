"""The record of truth: its schema, and all SQL; a row becomes a value at once."""
