"""Operations on a key of the CA: asked for, agreed to by several persons, done once (R-5-2-2-1)."""
