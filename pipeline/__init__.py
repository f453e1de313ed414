"""The offline half: import, embed, index, train, evaluate, publish."""
