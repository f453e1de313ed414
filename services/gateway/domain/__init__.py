"""Values, ports and the algorithm of the gateway service: pure."""
