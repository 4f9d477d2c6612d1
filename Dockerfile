# syntax=docker/dockerfile:1
# Two images: `worker` runs every role, `reports` adds Evidently and pandas for the batch report.
#   docker build --target worker -t creditstream .

FROM python:3.13-slim-bookworm AS build
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PROJECT_ENVIRONMENT=/opt/creditstream \
    UV_PYTHON=/usr/local/bin/python3 \
    UV_PYTHON_DOWNLOADS=never
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /source
# The dependencies first: their layer lasts until the lock file changes.
COPY pyproject.toml uv.lock ./
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --locked --no-default-groups --no-install-workspace
# The packages by name: a build without .gitignore would ship whatever lies about.
COPY README.md LICENSE ./
COPY features ./features
COPY scoring ./scoring
COPY models ./models
COPY sinks ./sinks
COPY monitoring ./monitoring
COPY stream ./stream
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --locked --no-default-groups --no-editable

FROM build AS build-reports
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --locked --no-default-groups --no-editable --extra reports

FROM python:3.13-slim-bookworm AS base
# LightGBM's wheel uses the system's OpenMP. Debian keeps one version of it a release.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --home-dir /nonexistent creditstream \
    && install --directory --owner creditstream --group creditstream /data /state
ENV PATH=/opt/creditstream/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    CREDITSTREAM_RELEASE=/data/releases \
    CREDITSTREAM_FEATURES=/data/features.parquet \
    CREDITSTREAM_MONITOR__CHECKPOINT=/state/monitor.checkpoint \
    CREDITSTREAM_MONITOR__REPORTS=/state/reports \
    CREDITSTREAM_STATUS__HOST=0.0.0.0 \
    CREDITSTREAM_STATUS__PORT=8010
WORKDIR /data
USER 10001:10001
EXPOSE 8010
ENTRYPOINT ["creditstream"]
CMD ["--help"]

FROM base AS reports
COPY --from=build-reports /opt/creditstream /opt/creditstream

FROM base AS worker
COPY --from=build /opt/creditstream /opt/creditstream
CMD ["worker", "--agents", "scoring"]
# The process itself says whether it makes progress; whether neighbours answer is /readyz's matter.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['CREDITSTREAM_STATUS__PORT'] + '/livez', timeout=2)"]
