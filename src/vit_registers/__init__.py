"""A pipeline-orchestrated reproducibility study of artifact tokens and register tokens in Vision Transformers."""

__version__ = "0.1.0"
