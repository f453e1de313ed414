"""Values, ports and the algorithm of the candidates service: pure."""
