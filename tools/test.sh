#!/usr/bin/env bash
# Everything `make test` runs, in stages; the first that fails stops it. `tools/test.sh lint` runs the quick ones and pyright,
# `tools/test.sh check` what `make check` runs after `make test`.
set -eo pipefail
cd "$(dirname "$0")/.."
# Two test processes on two cores: one thread each, or they wait for each other.
export OMP_NUM_THREADS=1

stage() {
  local name="$1" start=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  "$@" || { printf '\nThe stage failed: %s\n' "$name" >&2; exit 1; }
  printf -- '-- %s: %d s\n' "$name" "$((SECONDS - start))"
}

# One process makes the book, and types are checked beside it.
book_and_types() {
  local found
  found=$(mktemp)
  pyright > "$found" 2>&1 &
  python tools/build.py || { kill $!; return 1; }
  wait $! || { cat "$found"; return 1; }
  tail -n 1 "$found"
}

if [ "$1" = check ]; then
  stage "slow tests" pytest -q -n 2 --dist loadscope -m slow tests
  stage "audit of the site" python tools/audit.py
  stage "faults that the tests must find" python tools/mutants.py --count 40 --seed 1
  printf '\nmake check passed in %d s, after make test.\n' "$SECONDS"
  exit 0
fi

stage "ruff" ruff check .
stage "notebooks agree with their sources" python tools/export.py --check
stage "minutes of the pages" python tools/minutes.py --check
stage "statements, claims and their tests" python tools/trust.py --check
if [ "$1" = lint ]; then
  stage "pyright" pyright
  exit 0
fi
stage "unit tests" pytest -q -n 2 --dist loadscope -m "not slow" --ignore tests/site tests
PAINTERS_PROFILE=ci stage "chapters in the ci profile" \
  pytest -q --nbval-lax --nbval-cell-timeout 120 -n 2 --dist loadscope book/*.ipynb
stage "the book, and pyright" book_and_types
stage "the site" pytest -q -n 2 --dist loadscope -m "not slow" tests/site
printf '\nmake test passed in %d s.\n' "$SECONDS"
