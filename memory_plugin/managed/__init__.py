"""What every provider behind an API does, once: requests that fit, retries, typed errors, checked answers, usage.

A provider is a subclass of ``ManagedEmbedder`` or ``ManagedReranker`` that says how one request is made and where in
the answer the vectors or scores are.  docs/adr/0010-managed-providers.md says why it is done here and not by the SDKs.
"""
