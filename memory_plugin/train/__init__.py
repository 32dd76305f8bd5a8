"""Fine-tuning of embedders on a user's own pairs, one file a step; only two of them need torch."""
