"""The relay as an ASGI application like any other: behind stock uvicorn, with the config.yaml of the current folder."""

import os
from pathlib import Path

import uvicorn

from relay.app import App, prepare
from relay.config import find, load


def main() -> None:
    """Serve on the configured host and port until a signal."""
    config = load(find(None, os.environ, Path.cwd()), os.environ)
    prepare(config, os.environ)
    settings = uvicorn.Config(
        App(config, os.environ),
        host=config.server.host,
        port=config.server.port,
        http="httptools",
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
    )
    uvicorn.Server(settings).run()


if __name__ == "__main__":
    main()
