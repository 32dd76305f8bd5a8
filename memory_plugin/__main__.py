"""``python -m memory_plugin`` is ``memory-plugin``."""

from memory_plugin.cli import main

if __name__ == "__main__":
    main()
