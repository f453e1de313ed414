"""How cost grows with the catalogue, with candidates and with callers: `make bench-growth`."""
