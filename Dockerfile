# One image a service: build with --build-arg SERVICE=gateway, candidates, ranker or tools.
# `candidates` serves any source (RECMESH_SOURCE); `tools` trains and fills DynamoDB.
#
# Packages lie in layers that images share: /opt/serving is what every server needs, /opt/models what
# opens and verifies indexes and models, /opt/tools the command line.
ARG SERVICE=gateway

FROM python:3.11-slim-bookworm AS build
# The compiler never reaches an image: its version may follow Debian's.
# hadolint ignore=DL3008
RUN apt-get update -q \
    && apt-get install -y -q --no-install-recommends g++ libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY pyproject.toml requirements/all.lock deploy/images/subset_lock.py ./
RUN python subset_lock.py --without annoy,duckdb,implicit,lightgbm,moto,optuna,rich,scipy,threadpoolctl,typer \
        >serving.lock \
    && python subset_lock.py --without moto,optuna,rich,typer --beside serving.lock >models.lock \
    && python subset_lock.py --without moto --beside serving.lock,models.lock >tools.lock
# botocore describes every service of AWS in 25 MB; ours are DynamoDB, S3, and what signs in to them.
RUN pip install --no-cache-dir --no-deps --require-hashes --target /opt/serving -r serving.lock \
    && find /opt/serving/botocore/data -mindepth 1 -maxdepth 1 -type d \
        ! -name dynamodb ! -name s3 ! -name sts ! -name sso ! -name sso-oidc -exec rm -rf {} +
# Annoy would be compiled for the machine that builds. These are its own flags, but for the processor:
# x86-64-v3 is every server of the last ten years.
RUN case "$(uname -m)" in x86_64) cpu=x86-64-v3 ;; *) cpu=armv8-a ;; esac \
    && export ANNOY_COMPILER_ARGS="-O3,-ffast-math,-fno-associative-math,-fpermissive,-std=c++14,-DANNOYLIB_MULTITHREADED_BUILD,-march=$cpu" \
    && pip install --no-cache-dir --no-deps --require-hashes --target /opt/models -r models.lock \
    && find /opt/models/scipy -type d -name tests -prune -exec rm -rf {} +
RUN pip install --no-cache-dir --no-deps --require-hashes --target /opt/tools -r tools.lock

# What an image runs is compiled here: its own file system is read-only.
FROM build AS code-gateway
WORKDIR /app
COPY gen gen
COPY meshkit meshkit
COPY signals signals
COPY services services
RUN rm -rf services/candidates services/ranker && python -m compileall -q .

# The leaves verify a bundle before they open it, with the code of every part that reads one.
FROM build AS code-leaf
WORKDIR /app
COPY gen gen
COPY meshkit meshkit
COPY signals signals
COPY services services
COPY pipeline pipeline
RUN python -m compileall -q .

FROM code-leaf AS code-tools
COPY recmesh_client recmesh_client
COPY meshctl meshctl
COPY deploy/compose/prepare.py deploy/compose/prepare.py
RUN python -m compileall -q .

FROM python:3.11-slim-bookworm AS runtime
COPY --from=build /opt/serving /opt/serving
# An owner for the volumes that are mounted here.
RUN install -d -o 65532 -g 65532 /bundles
# Kernels are compiled where they run, for the processor that is there, before a server is ready.
ENV PYTHONPATH=/app:/app/gen:/opt/serving \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    NUMBA_CACHE_DIR=/tmp/numba \
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1 \
    RECMESH_LISTEN=0.0.0.0:8080 \
    RECMESH_BUNDLES=/bundles \
    RECMESH_LOG_FORMAT=json
WORKDIR /app
EXPOSE 8080
USER 65532:65532

FROM runtime AS runtime-models
USER 0:0
# LightGBM's OpenMP. Security updates may come in.
# hadolint ignore=DL3008
RUN apt-get update -q \
    && apt-get install -y -q --no-install-recommends libgomp1 \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/models /opt/models
ENV PYTHONPATH=/app:/app/gen:/opt/serving:/opt/models
USER 65532:65532

FROM runtime AS image-gateway
COPY --from=code-gateway /app /app
# It opens no index and no model, which a trial is for, and goes to no version that a leaf refused.
ENV RECMESH_VERIFIER=none
CMD ["python", "-m", "services.gateway"]

FROM runtime-models AS image-candidates
COPY --from=code-leaf /app /app
CMD ["python", "-m", "services.candidates"]

FROM runtime-models AS image-ranker
COPY --from=code-leaf /app /app
CMD ["python", "-m", "services.ranker"]

FROM runtime-models AS image-tools
COPY --from=build /opt/tools /opt/tools
COPY --from=code-tools /app /app
ENV PYTHONPATH=/app:/app/gen:/opt/serving:/opt/models:/opt/tools
CMD ["python", "-m", "meshctl.app", "--help"]

# hadolint ignore=DL3006
FROM image-${SERVICE} AS image
