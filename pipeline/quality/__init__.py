"""What a published bundle is worth, measured against what its users did next."""
