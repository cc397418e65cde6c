"""A stand-in as a process of its own: `python -m tests.standins.comfyui FOLDER [PORT]`; it prints its address."""

import asyncio
import sys
from pathlib import Path

from tests.standins.comfyui.server import running


async def main(folder: Path, port: int) -> None:
    async with running(folder, port=port) as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
