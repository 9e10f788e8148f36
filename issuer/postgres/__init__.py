"""The PostgreSQL that a laptop needs no installation for, and its own programs."""
