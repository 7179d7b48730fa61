#!/usr/bin/env bash
# Ask pip-audit about known vulnerabilities of the pinned versions. It says so where it cannot ask;
# it fails only on a finding that docs/security.md does not judge.
set -uo pipefail

venv=${1:-.venv}
here=$(cd "$(dirname "$0")/.." && pwd)
pins=${2:-$here/constraints.txt}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
found=$work/found.json
cannot() { echo "audit: could not check $(basename "$pins") ($1), $(date -u +%F)"; exit 0; }

tool=$venv/audit
[ -x "$tool/bin/pip-audit" ] || {
    "$venv/bin/python" -m venv "$tool" &&
        "$tool/bin/python" -m pip --quiet --disable-pip-version-check install "pip-audit==2.10.1"
} >/dev/null 2>&1 || cannot "pip-audit cannot be installed"

ask() {
    "$tool/bin/pip-audit" --requirement "$1" --no-deps --disable-pip --timeout 15 \
        --progress-spinner off --format json --output "$found" >/dev/null 2>&1
    [ -s "$found" ] && grep -q '"vulns"' "$found"
}
grep -m 1 '^requests==' "$pins" > "$work/one.txt" || head -n 1 "$pins" > "$work/one.txt"
ask "$work/one.txt" || cannot "its database cannot be reached, or knows nothing"  # one look-up
ask "$pins" || cannot "its database cannot be reached"

"$tool/bin/python" - "$found" "$here/docs/security.md" <<'PYTHON'
import json, pathlib, sys

packages = json.loads(pathlib.Path(sys.argv[1]).read_text("utf-8"))["dependencies"]
judged = pathlib.Path(sys.argv[2]).read_text("utf-8")
new = 0
for package in packages:
    for one in package.get("vulns", ()):
        known = any(name in judged for name in (one["id"], *one["aliases"]))
        new += not known
        fixed = ", ".join(one["fix_versions"]) or "no version"
        state = "judged" if known else "NEW"
        print(f"{state}  {package['name']} {package['version']}  {one['id']}  fixed in {fixed}")
asked = sum("skip_reason" not in package for package in packages)
print(f"audit: asked about {asked} of {len(packages)} packages, {new} findings that are not judged")
sys.exit(new > 0)
PYTHON
