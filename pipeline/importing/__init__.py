"""Import of interaction logs: one file a layout, one registry, one set of checks for all."""
