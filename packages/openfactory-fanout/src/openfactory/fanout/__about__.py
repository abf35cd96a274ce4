"""The version of openfactory-fanout, for the build and for programs."""

__version__ = "0.1.0"
