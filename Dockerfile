# The images of Haulyard's services, a target each: gateway, orchestrator, archiver, notifier (docs/containers.md).
#
#   docker build --target gateway --tag haulyard/gateway .
#
# The base is named here and nowhere else. A release pins it by its digest, so that a commit always gives the same image:
#   --build-arg PYTHON_IMAGE=python:3.11-slim@sha256:<digest>
ARG PYTHON_IMAGE=python:3.11-slim
# Date of every file that we add, in seconds since 1970. A release gives that of its commit.
ARG SOURCE_DATE_EPOCH=1735689600


# All that can be installed: what requirements.lock names, checked against its hashes, and wheels of our own.
FROM ${PYTHON_IMAGE} AS wheels
SHELL ["/bin/sh", "-euc"]
ARG SOURCE_DATE_EPOCH
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /build
COPY requirements.lock requirements-dev.lock ./
# What builds our wheels is pinned among the development tools; pip reads only whole files.
RUN awk '/^[a-z]/ { keep = /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/ } keep' requirements-dev.lock \
        > build.lock; \
    python3 -m venv tools; \
    tools/bin/pip install --quiet --require-hashes --only-binary=:all: --requirement build.lock; \
    tools/bin/pip download --quiet --require-hashes --only-binary=:all: --requirement requirements.lock --dest /wheels
COPY libs libs
COPY services services
# The page at / was built by `make web` and lies in the gateway's source; an image without it has to be asked for.
ARG PAGE=required
RUN test "$PAGE" = optional || test -f services/gateway/src/haulyard_gateway/static/index.html \
        || { echo "The page is not built: run 'make web' first, or build with --build-arg PAGE=optional" >&2; exit 1; }; \
    tools/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels ./libs/* ./services/*


# A tree for each service with only what that service needs. It is compiled here, because the image cannot be written to
# later; a pyc file holds the hash of its source instead of a date, and what is in a set is written in one order.
FROM wheels AS installed
ENV PYTHONHASHSEED=0
RUN for service in gateway orchestrator archiver notifier; do \
        python3 -m venv --without-pip /opt/haulyard; \
        tools/bin/pip --python /opt/haulyard/bin/python3 install --quiet --no-compile --no-index --find-links /wheels \
            "haulyard-$service"; \
        python3 -m compileall -q --invalidation-mode unchecked-hash /opt/haulyard/lib; \
        mkdir -p "/installed/$service"; \
        mv /opt/haulyard "/installed/$service/haulyard"; \
        find "/installed/$service" -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +; \
    done


# What runs: Python, without pip, as a user who owns nothing.
FROM ${PYTHON_IMAGE} AS runtime
ARG PYTHON_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
RUN rm -rf /usr/local/bin/pip* /usr/local/bin/idle* /usr/local/bin/pydoc* /usr/local/lib/python3.*/ensurepip \
        /usr/local/lib/python3.*/site-packages/pip* /usr/local/lib/python3.*/site-packages/setuptools* \
        /usr/local/lib/python3.*/site-packages/wheel* \
    && echo 'haulyard:x:10001:10001:Haulyard:/nonexistent:/usr/sbin/nologin' >> /etc/passwd \
    && echo 'haulyard:x:10001:' >> /etc/group
ENV PATH=/opt/haulyard/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HAULYARD_HTTP_HOST=0.0.0.0 \
    HAULYARD_HTTP_PORT=8080
LABEL org.opencontainers.image.vendor="Haulyard" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.base.name="${PYTHON_IMAGE}"
# By number: Kubernetes' runAsNonRoot does not look names up.
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
# Ready, not only alive: what waits for this container wants to be served. Nothing restarts it for that.
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 CMD \
    ["python3", "-ISc", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['HAULYARD_HTTP_PORT']), timeout=5); c.request('GET', '/health/ready'); sys.exit(c.getresponse().status != 200)"]


FROM runtime AS orchestrator
LABEL org.opencontainers.image.title="haulyard-orchestrator" \
    org.opencontainers.image.description="Owns the jobs of Haulyard: plans, fans out, finishes, repairs; migrates the database"
COPY --from=installed /installed/orchestrator /opt
ENTRYPOINT ["haulyard-orchestrator"]


FROM runtime AS archiver
LABEL org.opencontainers.image.title="haulyard-archiver" \
    org.opencontainers.image.description="Fills the parts of archives; stateless, any number of replicas"
COPY --from=installed /installed/archiver /opt
ENTRYPOINT ["haulyard-archiver"]


FROM runtime AS notifier
LABEL org.opencontainers.image.title="haulyard-notifier" \
    org.opencontainers.image.description="Tells clients and webhooks what happens to jobs"
COPY --from=installed /installed/notifier /opt
ENTRYPOINT ["haulyard-notifier"]


FROM runtime AS gateway
LABEL org.opencontainers.image.title="haulyard-gateway" \
    org.opencontainers.image.description="The HTTP API of Haulyard, and its page"
COPY --from=installed /installed/gateway /opt
ENTRYPOINT ["haulyard-gateway"]
