"""Drills: what the mesh promises, broken on purpose under load, and measured."""
