# syntax=docker/dockerfile:1
# Three small images from one file, each with what its process imports and nothing else:
#   service    models + service             python -m service
#   pipelines  models + pipelines           sequela train | tune | retrain | schedule | ...
#   mlflow     MLflow's server              mlflow server
# The locked requirements come first and the source last, so that a change of code rebuilds one layer.
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

# --- dependencies, built where compilers and caches may be ---------------------------------------
FROM ${PYTHON_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
RUN python -m venv /opt/sequela
ENV PATH=/opt/sequela/bin:$PATH
WORKDIR /build
COPY requirements.lock pyproject.toml deploy/dependencies.py deploy/requirements-mlflow.txt ./

# TORCH_INDEX_URL may name a package index with CPU builds of torch; without it, torch's default build comes,
# which runs on CPU and GPU alike and is several times larger.
FROM builder AS service-builder
ARG TORCH_INDEX_URL=""
# A served ensemble may hold boosted trees; stays may lie in PostgreSQL, and replicas share their states in Redis.
RUN python dependencies.py service trees postgres redis traces > wanted.txt \
 && pip install ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} -c requirements.lock -r wanted.txt
COPY README.md LICENSE ./
COPY models models
COPY service service
# The console command needs the pipelines; this image starts by `python -m service`.
RUN pip install --no-deps . && rm /opt/sequela/bin/sequela

FROM builder AS pipelines-builder
ARG TORCH_INDEX_URL=""
RUN python dependencies.py pipelines tune > wanted.txt \
 && pip install ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} -c requirements.lock -r wanted.txt
COPY README.md LICENSE ./
COPY models models
COPY pipelines pipelines
RUN pip install --no-deps .

FROM builder AS mlflow-builder
RUN pip install -c requirements.lock -r requirements-mlflow.txt mlflow psycopg2-binary

# --- what runs ------------------------------------------------------------------------------------
FROM ${PYTHON_IMAGE} AS runtime
# Folders of named volumes exist here with their owner, which a new volume takes over.
RUN groupadd --gid 10001 sequela \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin sequela \
 && install -d -o sequela -g sequela /var/lib/sequela /var/lib/sequela/cache /var/lib/sequela/cohorts \
    /var/lib/sequela/keys \
    /var/lib/mlflow/artifacts
ENV PATH=/opt/sequela/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp/matplotlib GIT_PYTHON_REFRESH=quiet DO_NOT_TRACK=1 \
    MLFLOW_DISABLE_TELEMETRY=true MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false
# Relative paths of a configuration (data/, cohorts/) mean the same here as in a checkout.
WORKDIR /var/lib/sequela

FROM runtime AS mlflow
COPY --from=mlflow-builder /opt/sequela /opt/sequela
USER 10001:10001
EXPOSE 5000
CMD ["mlflow", "server", "--host", "0.0.0.0", "--port", "5000"]

FROM runtime AS openmp
# LightGBM links against the system's OpenMP.
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*

FROM openmp AS pipelines
COPY --from=pipelines-builder /opt/sequela /opt/sequela
COPY configs configs
USER 10001:10001
CMD ["sequela", "--help"]

FROM openmp AS service
COPY --from=service-builder /opt/sequela /opt/sequela
USER 10001:10001
ENV SEQUELA_HOST=0.0.0.0 SEQUELA_PORT=8000 SEQUELA_CACHE=/var/lib/sequela/cache
EXPOSE 8000
CMD ["python", "-m", "service"]
