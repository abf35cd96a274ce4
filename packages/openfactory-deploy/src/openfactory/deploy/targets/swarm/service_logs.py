"""The output of the tasks of a service, from all nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from openfactory.deploy.targets.logs import Frames

if TYPE_CHECKING:
    from docker import APIClient

__all__ = ["service_frames"]


def service_frames(api: APIClient, service: str, *, follow: bool, tail: int | None, since: float | None) -> Frames:
    """Return the output of a service, with times.

    Args:
        api: client of the engine.
        service: id of the service.
        follow: go on with new output.
        tail: number of last lines of each task; None for all.
        since: seconds since 1970 from which on.
    """
    from docker.types import CancellableStream

    params = {
        "follow": follow,
        "stdout": True,
        "stderr": True,
        "timestamps": True,
        "since": f"{since:.6f}" if since else 0,
        "tail": "all" if tail is None else tail,
    }
    # `APIClient.service_logs` returns a stream that nobody can end.
    answer = api._get(api._url("/services/{0}/logs", service), params=params, stream=True)
    api._raise_for_status(answer)
    return cast(Frames, CancellableStream(api._multiplexed_response_stream_helper(answer), answer))
