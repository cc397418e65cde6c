"""What a benchmark leaves behind: its figures with the machine they are of."""

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import tintype


def tell(found: dict[str, Any], out: Path | None) -> None:
    """Print the figures as JSON, and write them to `out` where that is given."""
    machine = {
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "tintype": tintype.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
    text = json.dumps({**found, "machine": machine}, indent=2)
    print(text)
    if out:
        out.write_text(text + "\n")
