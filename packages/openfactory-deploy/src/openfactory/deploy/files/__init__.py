"""The files of apps: read, checked, and turned into apps."""
