"""The environment variables that apps with web pages read, beside those of openfactory-apps."""

from openfactory.settings import Variable

__all__ = ["VARIABLES"]

VARIABLES = (
    Variable("OPENFACTORY_ROOT_PATH", None, "Path prefix under which a gateway serves the app's web pages."),
    Variable("PORT", "4000", "Port of the app's web pages."),
)
