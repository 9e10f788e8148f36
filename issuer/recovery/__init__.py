"""When things go wrong: a compromised key, a lost machine."""
