"""Proof, in rings: unit (pure), contract (one suite, all implementations), integration (real processes)."""
