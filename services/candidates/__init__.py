"""The candidates service."""
