"""Search for the attention block, and its place, that pays on your data. `import nas` lets Ultralytics read our YAMLs."""

from nas.plugin import register

__version__ = "0.1.0"

register()
