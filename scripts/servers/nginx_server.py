"""A real nginx, as Debian packages it, set as a factory would set it for its apps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from servers.certificates import Certificates
from servers.fetching import program
from servers.gateway import Gateway, Route
from servers.ports import HOST

__all__ = ["NginxServer"]

# It mends no redirect of an app (proxy_redirect), lets uploads of any size through, and holds answers back in its
# buffers, as it does by default, until they are full or an app asks it not to. One process: to kill it is to kill all.
_CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    types {{ }}
    client_body_temp_path {folder}/temporary/body;
    proxy_temp_path {folder}/temporary/proxy;
    fastcgi_temp_path {folder}/temporary/fastcgi;
    uwsgi_temp_path {folder}/temporary/uwsgi;
    scgi_temp_path {folder}/temporary/scgi;

    client_max_body_size 0;
    server_names_hash_bucket_size 128;
    ssl_certificate {certificate};
    ssl_certificate_key {key};

    proxy_http_version 1.1;
    proxy_redirect off;
    proxy_set_header Connection "";
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_set_header X-Forwarded-Prefix $app_prefix;
{upstreams}
    server {{
        listen {host}:{port} default_server;
        listen {host}:{tls_port} ssl default_server;
        server_name "";
        location / {{ return 404; }}
    }}
{servers}
}}
"""

_UPSTREAM = """
    upstream app_{number} {{
        server {host}:{port};
        keepalive 8;
    }}
"""

_SERVER = """
    server {{
        listen {host}:{port};
        listen {host}:{tls_port} ssl;
        server_name {names};
        set $app_prefix "";
{locations}
    }}
"""

# An empty header is none: a claim of the client ends here.
_WHOLE_HOST = """
        location / {{ proxy_pass http://app_{number}; }}
"""

_PREFIX = """
        location = {prefix} {{ return 308 $scheme://$http_host{prefix}/$is_args$args; }}
        location ^~ {prefix}/ {{
            set $app_prefix {prefix};
            proxy_pass http://app_{number}/;
        }}
"""

_NOTHING_ELSE = """
        location / { return 404; }
"""


class NginxServer(Gateway):
    """One gateway; after `kill` or `stop` and `start` it has the same ports.

    Args:
        routes: the ways to the apps.
        configuration: more lines for the server of localhost.
    """

    name = "nginx"

    def __init__(self, routes: Sequence[Route], data_folder: Path | None = None, *, configuration: str = "") -> None:
        super().__init__(routes, data_folder)
        self._more = configuration

    @property
    def _pid_file(self) -> Path:
        return self.folder / "nginx.pid"

    def _configure(self, certificates: Certificates) -> None:
        (self.folder / "temporary").mkdir(exist_ok=True)
        self._pid_file.unlink(missing_ok=True)  # of one that was killed
        numbered = list(enumerate(self.routes, 1))
        servers = [self._server(route.hosts, _WHOLE_HOST.format(number=n)) for n, route in numbered if route.hosts]
        prefixes = [_PREFIX.format(number=n, prefix=route.prefix) for n, route in numbered if route.prefix]
        servers.append(self._server(("localhost",), "".join([*prefixes, self._more, _NOTHING_ELSE])))
        text = _CONFIGURATION.format(
            folder=self.folder,
            certificate=certificates.certificate_file,
            key=certificates.key_file,
            host=HOST,
            port=self.port,
            tls_port=self.tls_port,
            upstreams="".join(_UPSTREAM.format(number=n, host=HOST, port=route.port) for n, route in numbered),
            servers="".join(servers),
        )
        (self.folder / "nginx.conf").write_text(text, encoding="utf-8")

    def _command(self) -> list[str]:
        return [
            *(program("nginx", "nginx"), "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")),
            *("-e", "stderr"),  # what it says before it has read that file
        ]

    def _is_ready(self) -> bool:
        """It writes that file when it has all its ports; one that answers may be another's."""
        return self._pid_file.exists()

    def _server(self, hosts: tuple[str, ...], locations: str) -> str:
        return _SERVER.format(
            host=HOST, port=self.port, tls_port=self.tls_port, names=" ".join(hosts), locations=locations
        )
