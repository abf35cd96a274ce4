"""Services of a Docker Swarm.

Start with `target`. `services` describes a service as values. The client, the images and the logs are those of the
docker target.
"""

from openfactory.deploy.targets.swarm.target import SwarmTarget

__all__ = ["SwarmTarget"]
