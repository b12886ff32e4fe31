"""relay: an OpenAI-compatible relay. README.md tells what it is; call.py tells what happens to a request."""

__version__ = "0.1.0"
