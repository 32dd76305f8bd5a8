"""Models that turn text into vectors, one file a provider."""
