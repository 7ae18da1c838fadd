# Only the service. `docker compose build` builds it; docs/deployment.md says how to run it.

FROM python:3.11-slim-bookworm AS build
RUN python -m venv /opt/squash
ENV PATH=/opt/squash/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
# The packages rarely change, so they have their own layer, which a change to the code keeps.
COPY requirements/main.txt requirements/postgresql.txt requirements/kafka.txt \
    requirements/changepoints.txt /build/requirements/
RUN pip install --require-hashes --only-binary :all: \
    -r /build/requirements/main.txt -r /build/requirements/postgresql.txt \
    -r /build/requirements/kafka.txt -r /build/requirements/changepoints.txt
COPY pyproject.toml README.md LICENSE /build/
# The pages of the documentation: a link in the package leads here.
COPY docs /build/docs
COPY squash_api /build/squash_api
RUN pip install --no-deps --no-build-isolation /build

FROM python:3.11-slim-bookworm
RUN groupadd --system --gid 10001 squash \
    && useradd --system --uid 10001 --gid squash --no-create-home --home-dir /nonexistent squash \
    && install --directory --owner squash --group squash /record
COPY --from=build /opt/squash /opt/squash
# A container listens on all its addresses; docker-compose.yml decides which of the host's lead here.
ENV PATH=/opt/squash/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    SQUASH_HOST=0.0.0.0 \
    SQUASH_PORT=8000 \
    SQUASH_DATABASE_URL=sqlite:////record/squash.db
USER squash
WORKDIR /record
VOLUME /record
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client as h, os; c = h.HTTPConnection('127.0.0.1', int(os.environ['SQUASH_PORT']), timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["squash"]
CMD ["serve"]
