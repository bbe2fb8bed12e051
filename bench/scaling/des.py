"""simpy, out of the wheel that set-up verified, or as it is installed."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# The wheel is named by its pin, so that a former version left in the cache is never taken.
sys.path.insert(0, str(ROOT / "scripts"))
from provision.pins import SIMPY_WHEEL  # noqa: E402

_wheel = ROOT / ".cache" / SIMPY_WHEEL.path
if _wheel.is_file():
    sys.path.insert(0, str(_wheel))
try:
    import simpy
except ImportError:
    sys.exit("simulate: simpy is missing: run `python3 scripts/setup.py simulation`")

__all__ = ["ROOT", "simpy"]
