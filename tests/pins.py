"""Write the constraints: every version that `make setup` installs, with the sha256 of every file that may be it.

    python -m tests.pins             # keep the versions, add what pyproject.toml asks for since
    python -m tests.pins --upgrade   # the newest versions that pyproject.toml allows
    python -m tests.pins --check     # do what is pinned and what is installed agree?

uv resolves for every Python and platform at once. torch has a file of its own, since make looks for its CPU build first
where pip is told of wheels (find-links), and so have pip, which comes first, and what only the CUDA build needs.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FILES = {  # file: which pins stand in it, its first line
    ROOT / "constraints-pip.txt": (r"pip==", "pip itself, which installs the others"),
    ROOT / "constraints-torch.txt": (r"torch==", "torch; one of the hashes is that of its CPU build"),
    ROOT / "constraints-cuda.txt": (r"nvidia-|cuda-|triton==", "What torch's CUDA build needs besides, on Linux"),
    ROOT / "constraints.txt": (r"", "What make setup installs besides torch"),
}
ENTRY = re.compile(r"^\S.*(?:\n +.*)*\n", re.MULTILINE)  # a pin and its indented hashes


def entries(text: str) -> list[str]:
    """Return the pins of a requirements file, each with its hashes, without comments."""
    return [entry for entry in ENTRY.findall(text) if not entry.startswith("#")]


def pinned() -> list[Requirement]:
    """Return every pin, without its hashes."""
    texts = (path.read_text(encoding="utf-8") for path in FILES)
    return [Requirement(entry.split("\\")[0]) for text in texts for entry in entries(text)]


def resolved(upgrade: bool) -> list[str]:
    """Return uv's answer for pyproject.toml; without `upgrade` the present pins stay as they are."""
    with tempfile.NamedTemporaryFile("w+", suffix=".txt", encoding="utf-8") as answer:
        if not upgrade:
            answer.writelines(path.read_text(encoding="utf-8") for path in FILES if path.exists())
            answer.flush()
        command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--extra", "dev", "--universal"]
        command += ["--python-version", "3.11", "--generate-hashes", "--no-annotate", "--no-header", "--quiet"]
        subprocess.run([*command, "--output-file", answer.name], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return entries(Path(answer.name).read_text(encoding="utf-8"))


def cpu_torch_hash(pin: str) -> str | None:
    """Return the hash of the CPU build that pip finds here for torch's pin, None where it finds the usual one."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        subprocess.run([*command, pin.split(maxsplit=1)[0]], check=True)
        (wheel,) = Path(folder).iterdir()
        if "+cpu" not in wheel.name:
            return None
        done = subprocess.run([sys.executable, "-m", "pip", "hash", wheel], capture_output=True, text=True, check=True)
        return done.stdout.split()[-1].removeprefix("--hash=")


def conflicts() -> list[str]:
    """Return what pip finds missing or of a wrong version, less what only an extra asks for, as moto does."""
    ours = {"next-vector", *(canonicalize_name(pin.name) for pin in pinned())}
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    return [line for line in done.stdout.splitlines() if canonicalize_name(line.partition(" ")[0]) in ours]


def main() -> int:
    """Write the files, or check them."""
    if "--check" in sys.argv[1:]:
        found = conflicts()
        sys.stdout.writelines(f"{line}\n" for line in found)
        return 1 if found else 0
    pins = resolved("--upgrade" in sys.argv[1:])
    for number, pin in enumerate(pins):
        if pin.startswith("torch==") and (cpu := cpu_torch_hash(pin)) and cpu not in pin:
            pins[number] = pin.replace("\n", f"\n    --hash={cpu} \\\n", 1)
    for path, (names, head) in FILES.items():
        own = [pin for pin in pins if re.match(names, pin)]
        pins = [pin for pin in pins if pin not in own]
        path.write_text(f"# {head}; written by `make constraints`.\n{''.join(own)}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
