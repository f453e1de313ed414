"""Values, ports and the algorithm of the ranker service: pure."""
