"""What every server of the mesh needs; no recommendation word in it."""
