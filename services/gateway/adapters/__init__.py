"""What the gateway service reaches the world through: one class a file."""
