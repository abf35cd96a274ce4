"""The asset router: a web service that answers which NATS servers carry the live events of an asset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

from flask import Flask
from flask.typing import ResponseReturnValue
from prometheus_client import Counter
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from openfactory.apps import EventAttribute
from openfactory.apps.identity import OPENFACTORY_LICENSE
from openfactory.fanout.__about__ import __version__
from openfactory.fanout.settings import clusters_from_environment, ring_of
from openfactory.flaskapp import OpenFactoryFlaskApp
from openfactory.settings.redaction import redacted

if TYPE_CHECKING:
    from openfactory.apps.operations.health import AppHealth
    from openfactory.apps.web.app import WebAppOptions
    from openfactory.kafka import KSQLDBClient

__all__ = ["AssetRouterApp"]


class AssetRouterApp(OpenFactoryFlaskApp):
    """The asset router of a factory: `GET /asset/<UUID>` returns the NATS servers with the live events of an asset.

    The answer follows from the UUID and the variables `NATS_CLUSTER_<NAME>` alone. So any number of routers with the
    same variables may run, behind any load balancer, and a UUID that no asset has gets an answer too.

    >>> clusters = {"C1": ("nats://one:4222", "nats://two:4222")}
    >>> router = AssetRouterApp(None, clusters=clusters, test_mode=True)
    >>> router.test_client().get("/asset/MILL").json["nats_urls"]
    ['nats://one:4222', 'nats://two:4222']
    >>> router.shutdown()

    A login in the URL of a server is a part of the answer, because apps need it. The log does not show it.

    Args:
        ksqlClient: client whose URL selects the engine on which the router is an asset.
        loglevel: level of the app's logger, a name or a number.
        clusters: servers of each NATS cluster, by its name; those in `NATS_CLUSTER_<NAME>` by default.
        test_mode: keep all data in a private memory and ignore the URL of the client.
        options: arguments of `OpenFactoryFlaskApp`; requests are not logged by default.

    Raises:
        ConfigurationError: no NATS cluster is configured, or an argument or an environment variable is not valid.
    """

    application_version = EventAttribute(value=__version__, tag="Application.Version")
    application_license = EventAttribute(value=OPENFACTORY_LICENSE, tag="Application.License")

    def __init__(
        self,
        ksqlClient: KSQLDBClient | None,  # noqa: N803 - the name that apps have
        *,
        loglevel: str | int = "INFO",
        clusters: Mapping[str, Sequence[str]] | None = None,
        test_mode: bool = False,
        **options: Unpack[WebAppOptions],
    ) -> None:
        self.clusters = clusters_from_environment() if clusters is None else clusters
        self.ring = ring_of(self.clusters)
        options.setdefault("log_http_requests", False)
        super().__init__(ksqlClient, loglevel=loglevel, test_mode=test_mode, **options)
        for name, servers in self.clusters.items():
            self.logger.info("NATS cluster %s: %s", name, ", ".join(map(redacted, servers)))

    def app_health(self) -> AppHealth:
        """Return the state of the app. It is ready without its engine, because the answers do not need it."""
        return replace(super().app_health(), needs_engine=False)

    def create_flask_app(self) -> Flask:
        app = super().create_flask_app()
        app.url_map.converters["uuid_of_asset"] = _AssetUUID
        return app

    def configure_routes(self) -> None:
        answers = Counter(
            "openfactory_router_answers",
            "Answers of the asset router, by NATS cluster.",
            ("cluster",),
            registry=self.metrics_registry,
        )
        answers_of = {name: answers.labels(name) for name in self.clusters}

        @self.app.get("/asset/<uuid_of_asset:asset_id>")
        def asset(asset_id: str) -> dict[str, Any]:
            cluster = self.ring.node_of(asset_id)
            answers_of[cluster].inc()
            servers = self.clusters[cluster]
            return {"asset_id": asset_id, "cluster_name": cluster, "nats_url": servers[0], "nats_urls": servers}

        @self.app.errorhandler(HTTPException)
        def failed(error: HTTPException) -> ResponseReturnValue:
            headers = [header for header in error.get_headers() if header[0] != "Content-Type"]
            return {"detail": error.description}, error.code or 500, headers


class _AssetUUID(BaseConverter):
    """The rest of a path, with its slashes: a UUID may begin or end with one."""

    regex = ".+?"
    part_isolating = False
