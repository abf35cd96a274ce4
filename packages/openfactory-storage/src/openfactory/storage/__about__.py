"""The version of openfactory-storage, which the build and the running program read."""

__version__ = "0.1.0"
