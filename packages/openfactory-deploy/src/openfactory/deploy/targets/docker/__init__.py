"""Containers of one Docker, or of an engine with its interface, such as Podman.

Start with `target`, and with `engine`, which it shares with the swarm target. `containers` describes a container as
values, and `connection` finds the engine and gives its refusals a remedy.
"""

from openfactory.deploy.targets.docker.target import DockerTarget

__all__ = ["DockerTarget"]
