#!/usr/bin/env bash
# Builds both distributions in clean environments, installs the wheel with all extras into fresh ones, one for each Python,
# and runs the tests of the source distribution there, with its package moved away: what they import can only be the wheel.
# One wheel serves all of them, so it is built once, by the oldest. Two Pythons at a time.
#
#   tests/packaging/from_sdist.sh [tests ...]      PYTHONS="3.12 3.13" by default those that are here; PYTHON: who builds
#   make test-pythons
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
builder=${PYTHON:-python3}
tests=("$@")
[ ${#tests[@]} -gt 0 ] || tests=(tests/base tests/event tests/correlator tests/store tests/testing tests/ring tests/path)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Of pyenv the newest patch release; its shims answer for versions that are not chosen, so each one is tried.
find_python() {
  for candidate in $(printf '%s\n' "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python | sort -rV) "python$1"; do
    "$candidate" -c 'import venv' 2> /dev/null && { echo "$candidate"; return; }
  done
  return 1
}

pythons=()
for version in ${PYTHONS:-3.11 3.12 3.13 3.14}; do
  if python=$(find_python "$version"); then pythons+=("$python"); else echo "no Python $version here: skipped"; fi
done
[ ${#pythons[@]} -gt 0 ] || pythons=("$builder")

mkdir "$work/tree"
git -C "$root" ls-files -z --cached --others --exclude-standard \
  | (cd "$root" && tar c --null -T - --ignore-failed-read) | tar x -C "$work/tree"
"$builder" -m venv "$work/build"
"$work/build/bin/python" -m pip install -qq --disable-pip-version-check build twine
"$work/build/bin/python" -m build "$work/tree" > "$work/build.log" 2>&1 || { tail -50 "$work/build.log"; exit 1; }
"$work/build/bin/python" -m twine check --strict "$work"/tree/dist/*
ls -l "$work/tree/dist"
mkdir "$work/unpacked" "$work/moved-away"
tar xzf "$work"/tree/dist/*.tar.gz -C "$work/unpacked" --strip-components 1
mv "$work/unpacked/mpbroadcast" "$work/moved-away"
mkdir -p "$work/unpacked/mpbroadcast/ring" # its C stays, which tests compile, and the stub, which they read
cp "$work"/moved-away/mpbroadcast/ring/*.{c,h,pyi} "$work/unpacked/mpbroadcast/ring"

run() { # the number of a Python in the list
  local venv="$work/fresh-$1" tree="$work/unpacked-$1" wheel=("$work"/tree/dist/*.whl)
  "${pythons[$1]}" -m venv "$venv"
  cp -r "$work/unpacked" "$tree"
  cd "$tree"
  "$venv/bin/python" -m pip install -qq --disable-pip-version-check --upgrade 'pip>=25.1'
  "$venv/bin/python" -m pip install -qq --disable-pip-version-check "${wheel[0]}[all]" --group test
  "$venv/bin/python" -c 'import mpbroadcast; assert "site-packages" in mpbroadcast.__file__, mpbroadcast.__file__'
  # AGAIN=1, for CI: what failed must pass once more.
  "$venv/bin/python" -m pytest -q --durations=5 "${tests[@]}" ||
    { [ "${AGAIN:-}" ] && "$venv/bin/python" -m pytest -q --last-failed --last-failed-no-failures none "${tests[@]}"; }
}

failed=()
for ((i = 0; i < ${#pythons[@]}; i += 2)); do
  jobs=()
  for ((j = i; j < i + 2 && j < ${#pythons[@]}; j++)); do
    (set -e; run "$j") > "$work/log-$j" 2>&1 &
    jobs+=("$!:$j")
  done
  for job in "${jobs[@]}"; do
    j=${job#*:}
    wait "${job%:*}" || failed+=("${pythons[$j]}")
    echo "== the wheel on $("${pythons[$j]}" -V)"
    cat "$work/log-$j"
  done
done
[ ${#failed[@]} = 0 ] || { echo "not passed: ${failed[*]}"; exit 1; }
