# The images of OpenFactory, from the distributions of this repository:
#
#   docker build --target apps --tag openfactory-apps .        for apps, with and without web pages
#   docker build --target fanout --tag openfactory-fanout .    for the services of `ofa fanout`
#
# An image of an app adds its file:
#
#   FROM openfactory-apps
#   COPY mill.py .
#   CMD ["run", "mill.py"]
#
# The command is one of `ofa`. It runs as a user without rights, who can write in /factory alone. A file in /factory, as
# of KSQLDB_URL=sqlite:///factory.db, is gone with the container: mount a volume there. To install packages that the app
# needs, switch to `USER root`, and back to `USER 10001`.

ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
COPY packages packages
RUN pip wheel --no-deps --wheel-dir /wheels ./packages/*

FROM python:${PYTHON}-slim AS runtime
RUN useradd --uid 10001 --create-home --home-dir /factory factory
COPY scripts/healthy.py /opt/healthy.py
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore OPERATIONS_PORT=9100
WORKDIR /factory
# An app is unhealthy when it does not answer. Swarm replaces it then, so the page is not `ready`: an app whose broker is
# away waits for it. Compose waits for `ready`, see compose.yml.
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=6 CMD ["python", "/opt/healthy.py", "live"]
ENTRYPOINT ["ofa"]

FROM runtime AS fanout
RUN --mount=from=build,source=/wheels,target=/wheels pip install --find-links /wheels "openfactory-apps[fanout]"
USER 10001
CMD ["fanout", "--help"]

FROM runtime AS apps
RUN --mount=from=build,source=/wheels,target=/wheels pip install --find-links /wheels "openfactory-apps[fastapi,flask,storage]"
USER 10001
CMD ["--help"]
