"""Show that every pin, and all that it needs, is a wheel for each Python and platform that the project supports.

    python -m tests.platforms                # nine combinations, about half an hour, hardly any CPU time
    python -m tests.platforms macos          # those whose name contains the word

pip reads the wheels' metadata with range requests: nothing is installed, and no wheel is downloaded whole. Markers
such as `platform_system == "Linux"` are evaluated for the target, which pip itself cannot do from another machine.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.pins import ROOT, pinned

PYTHONS = ("3.11", "3.12", "3.13")
GLIBC = [*(f"manylinux_2_{minor}" for minor in range(28, 4, -1)), "manylinux2014", "manylinux2010", "manylinux1"]
PLATFORMS = {
    "linux x86_64": [f"{tag}_x86_64" for tag in GLIBC],
    "linux aarch64": [f"{tag}_aarch64" for tag in GLIBC],
    "macos arm64": ["macosx_14_0_arm64"],  # torch's own minimum
}
OLDEST_PIP = Version("24.0")  # older ones download the wheels after all

Metadata = dict[str, dict[str, Any]]  # canonical name -> a wheel's metadata


def wheels(requirements: list[str], python: str, platform: str) -> tuple[Metadata, list[str]]:
    """Return the metadata of a wheel for each requirement, and the requirements that have none."""
    left, without = list(requirements), []
    while left:
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--ignore-installed", "--quiet"]
        command += ["--only-binary=:all:", "--use-feature=fast-deps", "--target", tempfile.gettempdir()]
        command += ["--python-version", python, *(f"--platform={tag}" for tag in PLATFORMS[platform]), "--report", "-"]
        done = subprocess.run([*command, *left], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            found = [item["metadata"] for item in json.loads(done.stdout)["install"]]
            return {canonicalize_name(metadata["name"]): metadata for metadata in found}, without
        missing = re.search(r"No matching distribution found for (\S+)", done.stderr)
        if missing is None:
            raise SystemExit(f"platforms: expected pip to answer, got {done.stderr.strip()}; run it again")
        without.append(missing[1])
        left.remove(missing[1])
    return {}, without


def environment(python: str, platform: str) -> dict[str, str]:
    """Return the values of the target's markers."""
    linux, machine = platform.startswith("linux"), platform.split()[1]
    target = {"sys_platform": "linux" if linux else "darwin", "platform_system": "Linux" if linux else "Darwin"}
    return target | {"python_version": python, "python_full_version": f"{python}.0", "platform_machine": machine}


def needs(found: Metadata, target: dict[str, str]) -> list[Requirement]:
    """Return what the project and the wheels ask for on the target, extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    root = Requirement("next-vector[dev]")
    texts = project["dependencies"] + [f"{text}; extra == 'dev'" for text in project["optional-dependencies"]["dev"]]
    asked = {canonicalize_name(name): metadata.get("requires_dist", []) for name, metadata in found.items()}
    asked[canonicalize_name(root.name)] = texts
    queue, seen = [root], {}
    while queue:
        wanted = queue.pop()
        if str(wanted) in seen:
            continue
        seen[str(wanted)] = wanted
        for inner in map(Requirement, asked.get(canonicalize_name(wanted.name), [])):
            extras = ("", *wanted.extras)
            if inner.marker is None or any(inner.marker.evaluate({**target, "extra": extra}) for extra in extras):
                queue.append(inner)
    del seen[str(root)]
    return list(seen.values())


def check(python: str, platform: str) -> tuple[Metadata, set[str], list[str]]:
    """Return a combination's wheels, the names that it needs, and what is wrong."""
    target = environment(python, platform)
    here = [f"{pin.name}{pin.specifier}" for pin in pinned() if pin.marker is None or pin.marker.evaluate(target)]
    found, without = wheels(here, python, platform)
    more = found
    while more:
        wanted = needs(found, target)
        unpinned = {f"{one.name}{one.specifier}" for one in wanted if canonicalize_name(one.name) not in found}
        more, missing = wheels(sorted(unpinned - set(without)), python, platform)
        without += missing
        found |= more
    versions = {name: metadata["version"] for name, metadata in found.items()}
    names = {canonicalize_name(one.name) for one in wanted}
    unfit = [
        f"{one} is asked for, {versions[name]} is there"
        for one in wanted
        if (name := canonicalize_name(one.name)) in versions and not one.specifier.contains(versions[name], True)
    ]
    return found, names, [f"no wheel of {name}" for name in without] + unfit


def main() -> int:
    """Print a line for each combination; exit code 1 when one of them cannot be installed."""
    pip = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, text=True, check=True)
    if Version(pip.stdout.split()[1]) < OLDEST_PIP:
        raise SystemExit(f"platforms: expected pip >= {OLDEST_PIP}, got {pip.stdout.split()[1]}; upgrade pip")
    failed, unused = False, None
    for platform in PLATFORMS:
        for python in PYTHONS if " ".join(sys.argv[1:]) in platform else ():
            found, names, problems = check(python, platform)
            failed |= any(problems)
            unused = (found.keys() - names) if unused is None else unused - names
            sys.stdout.write(
                f"CPython {python}  {platform:<14} {len(found):>4} wheels  {'; '.join(problems) or 'ok'}\n"
            )
            sys.stdout.flush()
    sys.stdout.write(f"pins that nothing needs: {', '.join(sorted(unused or [])) or 'none'}\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
