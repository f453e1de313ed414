"""Traces of answers: read from local files or Jaeger, put in order, and shown."""
