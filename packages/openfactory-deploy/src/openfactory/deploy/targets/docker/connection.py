"""The connection to a Docker, and its refusals as errors with a remedy."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from openfactory.deploy.targets.base import TargetError
from openfactory.exceptions import MissingDistributionError

if TYPE_CHECKING:
    from docker import APIClient

__all__ = ["check_client", "connect", "have_image", "pinned_image", "refusals"]

# Words of engines and registries for an image that is not there, or not for this user.
_ABSENT = ("manifest unknown", "not found", "does not exist", "pull access denied", "no such image")


def check_client() -> None:
    """Check that the client of Docker is installed.

    Raises:
        MissingDistributionError: it is not.
    """
    try:
        import docker  # noqa: F401
    except ImportError as error:
        raise MissingDistributionError(
            "The targets docker and swarm need the package docker. "
            "Install it: pip install 'openfactory-deploy[docker]'."
        ) from error


def connect() -> APIClient:
    """Return a client of the engine that DOCKER_HOST names, or of that of this machine.

    Raises:
        TargetError: no engine answers.
    """
    import docker

    try:
        return docker.from_env(max_pool_size=50).api
    except docker.errors.DockerException as error:
        raise TargetError(
            f"No Docker answers ({error}). Start it, or set DOCKER_HOST to the address of another."
        ) from error


@contextmanager
def refusals(action: str, remedy: str) -> Generator[None]:
    """Turn the refusals of an engine into errors.

    Args:
        action: the failed step, such as `Asset MILL-1 cannot be started`.
        remedy: a sentence with the way out.

    Raises:
        TargetError: the engine refused, or does not answer.
    """
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        yield
    except (DockerException, RequestException) as error:
        raise TargetError(f"{action}: {_words_of(error)}. {remedy}") from error


def have_image(api: APIClient, image: str, *, always: bool) -> None:
    """Pull an image if the engine does not have it, or always.

    Raises:
        TargetError: its registry does not have it, or does not answer.
    """
    from docker.errors import APIError, DockerException
    from requests.exceptions import RequestException

    if not always and _has_image(api, image):
        return
    try:
        for step in api.pull(image, stream=True, decode=True):
            if "error" in step:  # in an answer that had begun well
                raise APIError(step["error"], explanation=step["error"])
    except (DockerException, RequestException) as error:
        raise _image_error(image, _words_of(error)) from error


def pinned_image(api: APIClient, image: str, *, always: bool) -> str:
    """Return an image as nodes of a swarm shall have it: as it is, or always the newest of its tag, by its digest.

    Raises:
        TargetError: its registry does not have it, or does not answer.
    """
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    if not always or "@" in image:
        return image
    try:
        digest = api.inspect_distribution(image)["Descriptor"]["digest"]
    except (DockerException, RequestException) as error:
        raise _image_error(image, _words_of(error)) from error
    return f"{image}@{digest}"


def _image_error(image: str, said: str) -> TargetError:
    """Return the error of an image that cannot be had, with the words of the engine."""
    if any(words in said.lower() for words in _ABSENT):
        return TargetError(
            f"The registry of the image {image!r} does not have it, or not for this user ({said}). "
            "Correct the key image, build the image, or log in: docker login."
        )
    return TargetError(
        f"The image {image!r} is not on the engine, and its registry cannot be reached ({said}). "
        "Check the network and the name of the registry, or load the image: docker load."
    )


def _has_image(api: APIClient, image: str) -> bool:
    from docker.errors import NotFound

    with refusals(f"The image {image!r} cannot be found", "Look at the log of the engine."):
        try:
            api.inspect_image(image)
        except NotFound:
            return False
        return True


def _words_of(error: Exception) -> str:
    return str(getattr(error, "explanation", None) or error).strip().rstrip(".")
