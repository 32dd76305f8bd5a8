"""A memory for agents: encrypted, measured, on embedded or served Qdrant."""
