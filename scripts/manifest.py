"""Write a model folder's files (sizes, hashes) into its manifest: `python scripts/manifest.py FOLDER`."""

import json
import sys
from pathlib import Path

from tintype.catalog import operations as catalog

LEFT_OUT = frozenset({catalog.MANIFEST_NAME, "README.md"})


def main(folder: Path) -> None:
    """Replace `files` in the manifest by what lies in the folder."""
    path = folder / catalog.MANIFEST_NAME
    manifest = json.loads(path.read_text())
    manifest["files"] = [
        {
            "path": str(file.relative_to(folder)),
            "size": file.stat().st_size,
            "sha256": catalog.sha256(file),
        }
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name not in LEFT_OUT
    ]
    weights = sum(file["size"] for file in manifest["files"] if file["path"].endswith(".safetensors"))
    manifest["memory_bytes"] = {"fp32": 2 * weights, "bf16": weights}
    path.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
