"""The version of openfactory-deploy, for the build and for programs."""

__version__ = "0.1.0"
