"""The local models that ship with the package, and how they are run."""
