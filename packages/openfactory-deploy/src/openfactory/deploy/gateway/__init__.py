"""The gateway: how web pages of apps get a path prefix and a host name."""
