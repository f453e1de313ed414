#!/usr/bin/env bash
# Build the images and run the core profile of docker-compose.yml under podman; says "skipped" where
# there is no podman. The base images must be here or within reach of a pull.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v podman >/dev/null; then
    echo "compose-test: skipped: no podman"
    exit 0
fi
PODMAN_COMPOSE=${PODMAN_COMPOSE:-.venv/bin/podman-compose}
export PODMAN_COMPOSE
exec nice .venv/bin/python -m tests.compose.core_profile
