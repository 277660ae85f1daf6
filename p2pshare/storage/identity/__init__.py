"""Keys, known peers and registries, and the folder that holds them."""
