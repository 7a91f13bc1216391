"""Search for the attention block, and its place, that pays on your data.

`import nas` lets Ultralytics read YAMLs with our blocks.
"""

from nas.plugin import register

__version__ = "0.1.0"

register()
