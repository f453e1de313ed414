"""The same work as the mesh's, built otherwise: what the mesh is compared with."""
