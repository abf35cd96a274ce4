"""The environment variables that apps read, beside those of openfactory-core."""

from openfactory.settings import Variable

__all__ = ["VARIABLES"]

VARIABLES = (
    Variable(
        "APP_GENERATION",
        None,
        "Number of the deployed version. An app takes its UUID over from no higher one that lives.",
    ),
    Variable("APP_TAKE_OVER", "0", "1 has an app take its UUID over from a process that owns it: that app stops."),
    Variable(
        "APPLICATION_LICENSE",
        "BSD-3-Clause license",
        "Licence of the app, published as `application_license`.",
        is_text=True,
    ),
    Variable(
        "APPLICATION_MANUFACTURER",
        "OpenFactoryIO",
        "Manufacturer, published as `application_manufacturer`.",
        is_text=True,
    ),
    Variable("APPLICATION_VERSION", "latest", "Version of the app, published as `application_version`.", is_text=True),
    Variable(
        "COMMAND_WINDOW",
        "10",
        "Seconds after which an app refuses a command that it receives late; `call` waits as long by default.",
    ),
    Variable(
        "OPENFACTORY_HOST",
        "0.0.0.0",
        "Address of the app's web pages and operations port; `0.0.0.0` is all addresses of the host, and `::` those of "
        "IPv6 too.",
    ),
    Variable(
        "OPERATIONS_PORT",
        None,
        "Port with the health and metrics of the app, also of an app without web pages; `0` selects a free port.",
    ),
    Variable("STORAGE", None, "File storage of the app, as JSON; see `app.storage`.", is_text=True),
    Variable("SWARM_REPLICAS", "1", "Number of replicas of the app; above 1, the UUID gets a suffix."),
    Variable("SWARM_TASK_SLOT", None, "Number of this replica, the suffix of its UUID."),
)
