"""What the candidates service reaches the world through: one class a file."""
