"""Version of openfactory-core, for the build and at run time."""

__version__ = "0.1.0"
