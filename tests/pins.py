"""Write constraints.txt and constraints-cuda.txt: every version that `make setup` installs, with its files' hashes.

    python -m tests.pins             # keep the versions, add what pyproject.toml asks for since
    python -m tests.pins --upgrade   # the newest versions that pyproject.toml allows

uv resolves for every Python and platform at once. What only torch's CUDA build needs stands in the second file, so
that a CPU build, which has the same version and other hashes, installs without it.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PINS, CUDA_PINS = ROOT / "constraints.txt", ROOT / "constraints-cuda.txt"
HEADS = {
    PINS: "# What make setup installs, with the sha256 of every file that may be it; written by `make constraints`.\n",
    CUDA_PINS: "# What the CUDA build of torch needs besides, on Linux; written by `make constraints`.\n",
}
CUDA = re.compile(r"(nvidia|cuda)-|triton==")
ENTRY = re.compile(r"^\S.*(?:\n +.*)*\n", re.MULTILINE)  # a pin and its indented hashes


def entries(text: str) -> list[str]:
    """Return the pins of a requirements file, each with its hashes, without comments."""
    return [entry for entry in ENTRY.findall(text) if not entry.startswith("#")]


def pinned() -> list[Requirement]:
    """Return every pin of both files, without its hashes."""
    texts = (path.read_text(encoding="utf-8") for path in HEADS)
    return [Requirement(entry.split("\\")[0]) for text in texts for entry in entries(text)]


def resolved(upgrade: bool) -> list[str]:
    """Return uv's answer for pyproject.toml; without `upgrade` the present pins stay as they are."""
    with tempfile.NamedTemporaryFile("w+", suffix=".txt", encoding="utf-8") as answer:
        if not upgrade:
            answer.writelines(path.read_text(encoding="utf-8") for path in HEADS if path.exists())
            answer.flush()
        command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--extra", "dev", "--universal"]
        command += ["--python-version", "3.11", "--generate-hashes", "--no-annotate", "--no-header", "--quiet"]
        subprocess.run([*command, "--output-file", answer.name], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return entries(Path(answer.name).read_text(encoding="utf-8"))


def cpu_torch_hash(pin: str) -> str | None:
    """Return the hash of the CPU build that pip finds here for torch's pin, None where it finds the usual one."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--dest",
            folder,
            pin.split(maxsplit=1)[0],
        ]
        subprocess.run(command, check=True)
        (wheel,) = Path(folder).iterdir()
        if "+cpu" not in wheel.name:
            return None
        done = subprocess.run([sys.executable, "-m", "pip", "hash", wheel], capture_output=True, text=True, check=True)
        return done.stdout.split()[-1].removeprefix("--hash=")


def main() -> int:
    """Write both files."""
    pins = resolved("--upgrade" in sys.argv[1:])
    for number, pin in enumerate(pins):
        if pin.startswith("torch==") and (cpu := cpu_torch_hash(pin)) and cpu not in pin:
            pins[number] = pin.replace("\n", f"\n    --hash={cpu} \\\n", 1)
    for path, head in HEADS.items():
        path.write_text(
            head + "".join(pin for pin in pins if bool(CUDA.match(pin)) == (path == CUDA_PINS)), encoding="utf-8"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
