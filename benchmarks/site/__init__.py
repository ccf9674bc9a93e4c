"""How fast the public site of a large town is built and served."""
