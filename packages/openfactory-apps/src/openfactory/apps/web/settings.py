"""The environment variables that apps with web pages read, beside those of openfactory-apps."""

from openfactory.settings import Variable

__all__ = ["VARIABLES"]

VARIABLES = (
    Variable(
        "HANDOVER_SECONDS",
        "0",
        "Seconds for which an app goes on to serve its web pages when another process has taken its UUID over; after a "
        "signal, a fifth of `stop_timeout` at most. `ofa apps up` sets it, so that the gateway follows before the app "
        "closes its port.",
    ),
    Variable("OPENFACTORY_ROOT_PATH", None, "Path prefix under which a gateway serves the app's web pages."),
    Variable("PORT", "4000", "Port of the app's web pages."),
)
