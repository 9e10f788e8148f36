"""The key in use: when it may sign, that each use is recorded, and certificates that leave only when checked."""
