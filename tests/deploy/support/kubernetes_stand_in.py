"""An API server of Kubernetes as far as the target asks it: objects are kept in memory, and a Deployment gets a pod.

Real servers check objects; the tests do that with the schemas of `kubernetes_validate`.
"""

from __future__ import annotations

import copy
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate

__all__ = ["StandIn", "stand_in"]

_PATH = re.compile(
    r"/apis?/(?P<version>(?:[a-z0-9.]+/)?v1(?:alpha1)?)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<kind>[a-z]+)(?:/(?P<name>[^/]+))?(?P<log>/log)?"
)


class StandIn:
    """The state of the server.

    Attributes:
        objects: objects by kind (as in paths), and name.
        refused: kinds of objects that the server refuses.
        missing: kinds that the server does not know.
        forbidden: kinds that the account may not list.
        warnings: events of the pods.
        statuses: status of the next pods, by image; other pods run.
        lingering: by kind, the number of listings for which deleted objects are still there.
        logs: log of each pod.
    """

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.refused: set[str] = set()
        self.missing: set[str] = set()
        self.forbidden: set[str] = set()
        self.warnings: list[dict[str, Any]] = []
        self.statuses: dict[str, dict[str, Any]] = {}
        self.lingering: dict[str, int] = {}
        self.logs: dict[str, str] = {}
        self.lock = threading.RLock()

    def names(self, kind: str) -> set[str]:
        with self.lock:
            return {name for of, name in self.objects if of == kind}

    def apply(self, kind: str, name: str, item: dict[str, Any]) -> dict[str, Any]:
        if "traefik" not in item["apiVersion"]:
            kubernetes_validate.validate(item, kubernetes_validate.latest_version(), strict=True)
        with self.lock:
            before = self.objects.get((kind, name))
            self.objects[kind, name] = kept = copy.deepcopy(item)
            kept["metadata"]["resourceVersion"] = str(len(self.objects))
            if kind == "deployments":
                kept["metadata"].setdefault("annotations", {})["deployment.kubernetes.io/revision"] = "1"
                kept["status"] = {"replicas": 1}
            changed = before is None or before["spec"].get("template") != item["spec"].get("template")
            if kind == "deployments" and (changed or not self._is_current(name, item)):
                self._roll(name, item)
            return item

    def delete(self, kind: str, name: str) -> bool:
        with self.lock:
            if kind == "pods" and (pod := self.objects.get((kind, name))) is not None:
                owner = pod["metadata"]["labels"]["openfactory.uuid"]
                self._roll(owner, self.objects["deployments", owner], anew=True)  # another pod comes in its place
                return True
            if kind == "deployments":
                self.delete_pods(name)
            if self.lingering.get(kind) and (kind, name) in self.objects:
                self.objects[kind, name]["metadata"]["deletionTimestamp"] = "now"
                return True
            return self.objects.pop((kind, name), None) is not None

    def _is_current(self, name: str, deployment: dict[str, Any]) -> bool:
        """Whether the Deployment has no pod of another version, or keeps it still."""
        wanted = self._pod_name(name, deployment)
        others = [pod for pod in self._pods_of(name) if pod != wanted]
        return bool(deployment["spec"].get("minReadySeconds")) or not others

    def _roll(self, name: str, deployment: dict[str, Any], *, anew: bool = False) -> None:
        """Have one pod of the wanted version, and the old one only while the Deployment has `minReadySeconds`."""
        template, pod = deployment["spec"]["template"], self._pod_name(name, deployment)
        if not deployment["spec"].get("minReadySeconds"):
            for other in self._pods_of(name):
                if other != pod or anew:
                    del self.objects["pods", other]
        if ("pods", pod) in self.objects and "openfactory.restarted" not in template["metadata"]["annotations"]:
            return
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = {"state": {"running": {"startedAt": now}}, "restartCount": 0, "ready": True}
        image = template["spec"]["containers"][0]["image"]
        metadata = {"name": pod, "namespace": deployment["metadata"]["namespace"], "creationTimestamp": now}
        self.objects["pods", pod] = {
            "metadata": copy.deepcopy(template["metadata"]) | metadata,
            "spec": template["spec"],
            "status": self.statuses.get(image, {"containerStatuses": [status]}),
        }

    def _pod_name(self, name: str, deployment: dict[str, Any]) -> str:
        return f"{name}-pod-{deployment['spec']['template']['metadata']['annotations']['openfactory.generation']}"

    def _pods_of(self, name: str) -> list[str]:
        return [pod for pod in self.names("pods") if pod.startswith(f"{name}-pod")]

    def pass_time(self, kind: str) -> None:
        """Remove deleted objects of a kind that were listed often enough."""
        if (left := self.lingering.get(kind)) is None:
            return
        self.lingering[kind] = left - 1
        if left <= 0:
            ended = [key for key, item in self.objects.items() if "deletionTimestamp" in item["metadata"]]
            for key in ended:
                if key[0] == kind:
                    del self.objects[key]

    def delete_pods(self, name: str) -> None:
        for pod in self._pods_of(name):
            del self.objects["pods", pod]


def _selects(selector: str, labels: dict[str, str]) -> bool:
    for part in filter(None, selector.split(",")):
        if part.startswith("!"):
            if part[1:] in labels:
                return False
        elif labels.get(part.partition("=")[0]) != part.partition("=")[2]:
            return False
    return True


def _merged(before: Any, change: Any) -> Any:
    if not isinstance(change, dict):
        return change
    return {**before, **{key: _merged(before.get(key, {}), value) for key, value in change.items()}}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def state(self) -> StandIn:
        return self.server.state  # type: ignore[attr-defined, no-any-return]

    def _answer(self, status: int, document: Any) -> None:
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(content)

    def _handle(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        found = _PATH.fullmatch(url.path)
        length = int(self.headers["Content-Length"] or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        if found is None or found["kind"] in self.state.missing:
            return self._answer(404, {"message": "the server could not find the requested resource"})
        kind, name = found["kind"], found["name"]
        if found["log"]:
            assert query["timestamps"] == "true"
            which = f"{name}/previous" if query.get("previous") == "true" else name
            lines = self.state.logs.get(which, "").splitlines(keepends=True)
            timed = (f"2026-01-01T00:00:00.{number:09}Z {line}" for number, line in enumerate(lines))
            return self._answer(200, "".join(timed).encode())
        if self.command == "GET" and name:
            item = self.state.objects.get((kind, name))
            return self._answer(404, {"message": "not found"}) if item is None else self._answer(200, item)
        if self.command == "GET":
            if kind in self.state.forbidden:
                return self._answer(403, {"message": f"{kind} is forbidden"})
            if kind == "events":
                return self._answer(200, {"items": self.state.warnings})
            with self.state.lock:
                self.state.pass_time(kind)
                items = [
                    item
                    for (of, _), item in self.state.objects.items()
                    if of == kind and _selects(query.get("labelSelector", ""), item["metadata"].get("labels", {}))
                ]
                return self._answer(200, {"items": items})
        if self.command == "DELETE":
            gone = self.state.delete(kind, name)
            return self._answer(200 if gone else 404, {"message": "not found"})
        if kind in self.state.refused:
            return self._answer(422, {"message": f"{kind} {name} is invalid"})
        if self.headers["Content-Type"] == "application/merge-patch+json":
            with self.state.lock:
                if (before := self.state.objects.get((kind, name))) is None:
                    return self._answer(404, {"message": "not found"})
                body = _merged(before, body)
                if kind == "pods":
                    self.state.objects[kind, name] = body
                    return self._answer(200, body)
        else:
            assert self.headers["Content-Type"] == "application/apply-patch+yaml"
            assert (query["fieldManager"], query["force"].lower()) == ("openfactory", "true")
            assert "resourceVersion" not in body["metadata"]
            assert "stringData" not in body  # the server keeps a key that a later version leaves out
        try:
            return self._answer(200, self.state.apply(kind, name, body))
        except kubernetes_validate.ValidationError as error:
            return self._answer(422, {"message": str(error)})

    do_GET = do_PATCH = do_DELETE = _handle  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@contextmanager
def stand_in(folder: Path) -> Iterator[tuple[StandIn, Path]]:
    """A server, and the kubeconfig for it."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.state = state = StandIn()  # type: ignore[attr-defined]
        url = f"http://127.0.0.1:{server.server_address[1]}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "plant"}}],
            "clusters": [{"name": "test", "cluster": {"server": url}}],
            "users": [{"name": "test", "user": {"token": "x"}}],
        }
        path = folder / "kubeconfig"
        path.write_text(json.dumps(config), encoding="utf-8")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield state, path
        finally:
            server.shutdown()
            thread.join()
