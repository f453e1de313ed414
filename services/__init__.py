"""The three deployables of the mesh."""
