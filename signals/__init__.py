"""Recommendation maths that more than one part needs; numpy only."""
