"""Ranking quality beside peers, one protocol for all: `python -m benchmarks.quality`."""
