#!/usr/bin/env bash
# Builds both distributions in clean environments, installs the wheel with all extras into a fresh one, and runs the
# tests of the source distribution there, with its package moved away: what they import can only be the wheel.
#
#   tests/packaging/from_sdist.sh [python] [tests ...]
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${1:-python3}
shift || true
tests=("$@")
[ ${#tests[@]} -gt 0 ] || tests=(tests/base tests/event tests/store tests/path)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/tree"
git -C "$root" ls-files -z --cached --others --exclude-standard | (cd "$root" && tar c --null -T - --ignore-failed-read) | tar x -C "$work/tree"
"$python" -m venv "$work/build"
"$work/build/bin/python" -m pip install -q --disable-pip-version-check build twine
"$work/build/bin/python" -m build "$work/tree" > "$work/build.log" 2>&1 || { tail -50 "$work/build.log"; exit 1; }
"$work/build/bin/python" -m twine check --strict "$work"/tree/dist/*
ls -l "$work/tree/dist"

"$python" -m venv "$work/fresh"
"$work/fresh/bin/python" -m pip install -q --disable-pip-version-check --upgrade 'pip>=25.1'
wheel=("$work"/tree/dist/*.whl)
(cd "$work/tree" && "$work/fresh/bin/python" -m pip install -q --disable-pip-version-check "${wheel[0]}[all]" --group test)
mkdir "$work/unpacked"
tar xzf "$work"/tree/dist/*.tar.gz -C "$work/unpacked" --strip-components 1
mv "$work/unpacked/mpbroadcast" "$work/moved-away"
cd "$work/unpacked"
"$work/fresh/bin/python" -c 'import mpbroadcast; assert "site-packages" in mpbroadcast.__file__, mpbroadcast.__file__'
"$work/fresh/bin/python" -m pytest -q -p no:cacheprovider "${tests[@]}"
