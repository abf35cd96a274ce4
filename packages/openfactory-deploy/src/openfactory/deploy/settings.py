"""The environment variables of `ofa apps`."""

from __future__ import annotations

from openfactory.settings import Variable, declare

__all__ = ["VARIABLES"]

VARIABLES = (
    Variable(
        "DEPLOYMENT_PLATFORM",
        "process",
        "Target on which `ofa apps` runs apps: `process`, `docker`, `swarm`, "
        "`kubernetes`, or one that an installed distribution adds.",
    ),
    Variable(
        "OPENFACTORY_BASE_DOMAIN", "", "Domain of the host names of apps with web pages, such as `factory.local`."
    ),
    Variable("OPENFACTORY_ENV", "", "`dev` gives each app with web pages the path prefix /<uuid> on localhost too."),
    Variable("OPENFACTORY_LOG_BACKEND", "text", "Log backend that `ofa apps` names to apps: `text` or `loki`."),
    Variable(
        "OPENFACTORY_GATEWAY",
        "127.0.0.1:8080",
        "Address of the gateway that `ofa apps up` starts for apps that are plain processes, if Traefik is installed; "
        "`0.0.0.0:80` is port 80 for all machines.",
    ),
    Variable("OPENFACTORY_UNS_SCHEMA", "", "File that describes the unified namespace of the factory."),
)
declare(VARIABLES)
