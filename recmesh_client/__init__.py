"""Typed client of the recmesh recommendation service."""
