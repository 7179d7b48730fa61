# bigel on the CPU, with what Prefect's server, a worker, MLflow's server and the API need.
FROM python:3.11-slim-bookworm AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
RUN python -m venv /opt/bigel
ENV PATH=/opt/bigel/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY constraints.txt ./
# torch first: torch-scatter imports it when it is built.
RUN pip install --constraint constraints.txt pip setuptools wheel numpy \
    && pip install "torch==$(sed -n 's/^torch==//p' constraints.txt)+cpu" \
        --extra-index-url https://download.pytorch.org/whl/cpu \
    && FORCE_ONLY_CPU=1 CFLAGS=-g0 pip install --no-build-isolation --constraint constraints.txt \
        torch-scatter
COPY pyproject.toml README.md LICENSE ./
COPY bigel bigel
COPY flows flows
COPY data_contracts data_contracts
RUN pip install --no-build-isolation --constraint constraints.txt ".[sql]" psycopg2-binary

FROM python:3.11-slim-bookworm
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 bigel \
    && mkdir --parents /workspace/mlruns \
    && chown --recursive bigel /workspace
COPY --from=build /opt/bigel /opt/bigel
ENV PATH=/opt/bigel/bin:$PATH PYTHONUNBUFFERED=1
USER bigel
WORKDIR /workspace
ENTRYPOINT ["/usr/bin/env"]
CMD ["bigel", "--help"]
