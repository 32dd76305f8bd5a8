"""Models that read a query and a passage together, one file a provider."""
