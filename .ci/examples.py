"""Run every file of examples/ (or those named as arguments) as a user would, and fail if one of them fails."""

import subprocess
import sys
import time
from pathlib import Path

LIMIT_S = 300


def run(path):
    """Run one example and return what went wrong in words, or None."""
    print(f"--- {path.name}", flush=True)
    started = time.monotonic()
    try:
        code = subprocess.run([sys.executable, str(path)], timeout=LIMIT_S, check=False).returncode
    except subprocess.TimeoutExpired:
        return f"{path.name} took more than {LIMIT_S} s"
    print(f"--- {path.name}: {time.monotonic() - started:.0f} s, exit code {code}", flush=True)
    return f"{path.name} ended with exit code {code}" if code else None


def main(names):
    folder = Path(__file__).resolve().parent.parent / "examples"
    paths = [Path(name) for name in names] or sorted(folder.glob("*.py"))
    if not paths:
        return f"there is no example in {folder}"
    failures = [failure for path in paths if (failure := run(path))]
    return "\n".join(failures) or None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
