"""Faults on purpose: a real broker, real processes, a checker that knows nothing of the workers."""
