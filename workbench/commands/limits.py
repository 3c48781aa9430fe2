"""The largest values of options: what no sensible use comes near, and every library that gets them can hold."""

DAY_S = 86_400.0
"""Seconds of a deadline."""
MANY = 10_000_000
"""Captures, RAWs and steps."""
SEED = 2**32 - 1
"""A seed, as NumPy takes it."""
