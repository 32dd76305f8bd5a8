"""What every managed provider does: batches, retries, errors, usage."""
