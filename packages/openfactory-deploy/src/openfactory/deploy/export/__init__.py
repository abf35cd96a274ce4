"""Files for other tools, for people who keep their deployment in git: Compose, Swarm stacks, Kubernetes."""
