#!/bin/sh
# Make an image of Debian as Containerfile's base is, from Debian's packages alone, for machines that reach no registry
# of images: packaging/container/base.sh NAME [podman options]. Needs root.
set -eu
suite=trixie
name=$1
shift
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase $suite "$root/base" http://deb.debian.org/debian >"$root/log" 2>&1 || {
    cat "$root/log" >&2
    exit 1
}
rm -rf "$root"/base/var/cache/apt/archives/*.deb "$root"/base/var/lib/apt/lists/*
tar -C "$root/base" -cf "$root/base.tar" .
podman "$@" import --quiet "$root/base.tar" "$name"
