"""The version of openfactory-flask, read by the build and by whoever asks at run time."""

__version__ = "0.1.0"
