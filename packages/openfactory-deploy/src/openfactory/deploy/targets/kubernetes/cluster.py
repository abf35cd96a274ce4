"""The API server of a Kubernetes: objects are applied, listed and deleted, and logs are read."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from openfactory.deploy.targets.base import TargetError
from openfactory.exceptions import MissingDistributionError

__all__ = ["KINDS", "Cluster", "Object", "PodLog"]

#: An object of Kubernetes as JSON has it.
Object = dict[str, Any]

# Part of the names of annotations that the server and its controllers write.
_OF_SERVER = "kubernetes.io/"

# Name of this program as an owner of fields.
_MANAGER = "openfactory"

#: The kinds that a release may have, each with its version and its name in a path, in the order in which they are made.
KINDS: Mapping[str, tuple[str, str]] = {
    "Secret": ("v1", "secrets"),
    "PersistentVolume": ("v1", "persistentvolumes"),
    "PersistentVolumeClaim": ("v1", "persistentvolumeclaims"),
    "Deployment": ("apps/v1", "deployments"),
    "Service": ("v1", "services"),
    "Ingress": ("networking.k8s.io/v1", "ingresses"),
    "Middleware": ("traefik.io/v1alpha1", "middlewares"),
    "IngressRoute": ("traefik.io/v1alpha1", "ingressroutes"),
}

_ALL_KINDS = {**KINDS, "Pod": ("v1", "pods")}

# Kinds that belong to no namespace.
_OF_CLUSTER = ("PersistentVolume",)

# Kinds that most apps do not need, so that an account may lack the right to list them. The server refuses that before
# it looks whether it knows the kind.
_OPTIONAL = ("PersistentVolume", "Middleware", "IngressRoute")

# Statuses of an answer by which there is no such object.
_ABSENT = (404,)
_ABSENT_OPTIONAL = (403, 404)

# Seconds in which the server answers.
_TIMEOUT = 30.0


class PodLog:
    """The log of a pod: its lines, each with the time in front, until it ends or is closed."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        from urllib3.exceptions import HTTPError

        rest = b""
        with suppress(HTTPError, OSError, ValueError, AttributeError):  # it is closed at this moment
            for data in self._response.stream():
                *lines, rest = (rest + data).split(b"\n")
                yield from (line + b"\n" for line in lines)
        if rest:
            yield rest

    def close(self) -> None:
        """End the log."""
        self._response.close()


class Cluster:
    """A connection to the cluster of the kubeconfig's current context; in a pod, to its own cluster.

    Attributes:
        namespace: namespace of the context.

    Raises:
        MissingDistributionError: the client is not installed.
        TargetError: no cluster is configured.
    """

    def __init__(self) -> None:
        try:
            import kubernetes
            from kubernetes import dynamic
        except ImportError as error:
            raise MissingDistributionError(
                "The target kubernetes needs a client. Install it: pip install openfactory-deploy[kubernetes]"
            ) from error
        self._kubernetes = kubernetes
        self.namespace = self._configure()
        # Without discovery, whose cache would be a file: the kinds are known.
        self._client: Any = dynamic.DynamicClient(  # type: ignore[no-untyped-call]
            kubernetes.client.ApiClient(), discoverer=lambda *_: None
        )

    def apply(self, item: Object) -> None:
        """Make an object, or change the fields of it that are given; other fields stay as they are."""
        with self._told(f"apply the {item['kind']} {item['metadata']['name']}"):
            self._request(
                "patch",
                _path_of(item),
                item,
                content_type="application/apply-patch+yaml",
                field_manager=_MANAGER,
                force_conflicts=True,
            )

    def put_back(self, item: Object) -> None:
        """Give an object the fields that it had before.

        It is applied, as at first: the server notes who has set a field, and keeps a field that another has set when a
        later version leaves it out.
        """
        metadata = {key: item["metadata"][key] for key in ("name", "namespace", "labels") if key in item["metadata"]}
        annotations = item["metadata"].get("annotations", {})
        metadata["annotations"] = {key: text for key, text in annotations.items() if _OF_SERVER not in key}
        self.apply({key: value for key, value in item.items() if key != "status"} | {"metadata": metadata})

    def restart(self, deployment: Object) -> None:
        """Make the pods of a Deployment anew."""
        annotations = {"openfactory.restarted": str(time.time_ns())}
        change = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
        with self._told(f"restart the {deployment['kind']} {deployment['metadata']['name']}"):
            self._request_or_none("patch", _path_of(deployment), change, content_type="application/merge-patch+json")

    def delete(self, item: Object) -> None:
        """Delete an object; its pods end with it. An object that is gone already is no error."""
        with self._told(f"delete the {item['kind']} {item['metadata']['name']}"):
            self._request_or_none("delete", _path_of(item), {"propagationPolicy": "Background"})

    def objects(self, selector: str, kinds: Iterable[str] = KINDS) -> list[Object]:
        """Return the objects with the given labels; a kind that the cluster or the account does not have is skipped."""
        found: list[Object] = []
        for kind in kinds:
            with self._told(f"list the {kind} objects"):
                path, absent = _path(kind, self.namespace), _ABSENT_OPTIONAL if kind in _OPTIONAL else _ABSENT
                listed = self._request_or_none("get", path, absent=absent, label_selector=selector) or {"items": []}
                found += [{**item, "kind": kind, "apiVersion": _ALL_KINDS[kind][0]} for item in listed["items"]]
        return found

    def warnings(self, pod: Object) -> list[Object]:
        """Return the warnings about a pod, the oldest first; an account may lack the right to read them."""
        chosen = f"type=Warning,involvedObject.uid={pod['metadata'].get('uid', '')}"
        with self._told("list the events"):
            path = f"/api/v1/namespaces/{self.namespace}/events"
            listed = self._request_or_none("get", path, absent=_ABSENT_OPTIONAL, field_selector=chosen)
        return sorted((listed or {"items": []})["items"], key=lambda event: event.get("lastTimestamp") or "")

    def find(self, item: Object) -> Object | None:
        """Return the object of the same kind and name as the server has it, or None."""
        with self._told(f"read the {item['kind']} {item['metadata']['name']}"):
            return self._request_or_none("get", _path_of(item))

    def log(self, name: str, *, follow: bool, tail: int | None, since: str | None) -> PodLog:
        """Return the log of a pod, with times.

        Args:
            name: name of the pod; with `/previous` at its end, that of its container before the last restart.
            follow: go on until the pod ends.
            tail: number of last lines to begin with.
            since: time from which on; the server cuts it to seconds.
        """
        query = [("timestamps", "true")]
        if follow:
            query.append(("follow", "true"))
        if tail is not None:
            query.append(("tailLines", str(tail)))
        if since is not None:
            query.append(("sinceTime", since))
        pod, _, which = name.partition("/")
        if which:
            query.append((which, "true"))
        with self._told(f"read the log of {name}"):
            path = f"{_path('Pod', self.namespace)}/{pod}/log"
            return PodLog(self._client.request("get", path, serialize=False, query_params=query))

    def close(self) -> None:
        """Close the connections."""
        self._client.client.close()

    def _configure(self) -> str:
        """Load the kubeconfig, or the account of the pod, and return the namespace."""
        config = self._kubernetes.config
        try:
            _, context = config.list_kube_config_contexts()
            config.load_kube_config()
        except config.ConfigException as error:
            try:
                config.load_incluster_config()
            except config.ConfigException:
                raise TargetError(f"No cluster is configured ({error}). Name a kubeconfig in KUBECONFIG.") from error
            return "default"
        return context["context"].get("namespace") or "default"

    def _request(self, method: str, path: str, body: Object | None = None, **options: Any) -> Object:
        answer = self._client.request(method, path, body, serialize=False, _request_timeout=_TIMEOUT, **options)
        decoded: Object = json.loads(answer.data)
        return decoded

    def _request_or_none(
        self, method: str, path: str, body: Object | None = None, absent: tuple[int, ...] = _ABSENT, **options: Any
    ) -> Object | None:
        try:
            return self._request(method, path, body, **options)
        except self._kubernetes.client.ApiException as error:
            if error.status in absent:
                return None
            raise

    @contextmanager
    def _told(self, act: str) -> Generator[None]:
        """Raise errors of the client as errors of the target."""
        from urllib3.exceptions import HTTPError

        try:
            yield
        except self._kubernetes.client.ApiException as error:
            remedy = _REMEDIES.get(error.status, "Look at the events of the namespace: kubectl get events.")
            raise TargetError(
                f"Could not {act}: the cluster answered {error.status} {error.reason}. {_message(error)} {remedy}"
            ) from error
        except (HTTPError, OSError) as error:
            raise TargetError(f"Could not {act}: {error}. Check the server in the kubeconfig.") from error


_REMEDIES = {
    401: "Log in to the cluster again.",
    403: "Use an account that may do that.",
    404: "Make the namespace, or install Traefik with its CRDs for apps with a path prefix.",
    422: "Change the file of the app.",
}


def _path_of(item: Object) -> str:
    metadata = item["metadata"]
    return f"{_path(item['kind'], metadata.get('namespace', ''))}/{metadata['name']}"


def _path(kind: str, namespace: str) -> str:
    version, name = _ALL_KINDS[kind]
    root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    return f"{root}/{name}" if kind in _OF_CLUSTER else f"{root}/namespaces/{namespace}/{name}"


def _message(error: Any) -> str:
    """Return the sentence of the API server about a refused request."""
    try:
        return str(json.loads(error.body)["message"]).rstrip(".") + "."
    except (KeyError, TypeError, ValueError):
        return ""
