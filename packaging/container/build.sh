#!/bin/sh
# Build the image of the tree into podman's store as ntpd-fast: packaging/container/build.sh [podman options].
# BASE is an image to build on in place of Containerfile's, BUILD_OPTIONS are for "podman build".
set -eu
cd "$(dirname "$0")/../.."
command -v podman >/dev/null || {
    echo "podman is missing; 'packaging/deps.sh container' installs it" >&2
    exit 1
}
# health checks are known in docker's format only
# shellcheck disable=SC2086  # several words
exec podman "$@" build --format=docker --file packaging/container/Containerfile --tag ntpd-fast \
    ${BASE:+--build-arg BASE="$BASE"} ${BUILD_OPTIONS:-} .
