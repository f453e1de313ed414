"""Recommendation maths that more than one part needs; numpy and numba only."""
