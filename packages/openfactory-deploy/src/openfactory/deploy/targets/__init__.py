"""The places where apps run, by name: process, docker, swarm, kubernetes, and those of other distributions."""
