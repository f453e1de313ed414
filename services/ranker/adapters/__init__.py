"""What the ranker service reaches the world through: one class a file."""
