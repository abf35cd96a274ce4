"""The version of openfactory-fastapi, for the build and for programs."""

__version__ = "0.1.0"
