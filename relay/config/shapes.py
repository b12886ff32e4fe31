"""shapes: what config.yaml may hold, field by field. A field's description says what would be right to write there."""

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from relay.config import units
from relay.config.secret import spelled
from relay.keys import tag
from relay.record import Keep
from relay.routing import Strategy

_NOT_YET = "is not supported by this version"
_HOP_BY_HOP = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "accept-encoding"}
)
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


def _span(text: object) -> float:
    return units.duration(text)


def _span_or_none(text: object) -> float | None:
    return None if text is None or text == "none" else units.duration(text)


def _span_or_forever(text: object) -> float | None:
    return None if text == "forever" else units.duration(text)


def _pace(text: object) -> float | None:
    return None if text is None or text == "none" else float(units.size(text))


def origin(text: str) -> str:
    """`http(s)://host[:port][/path]` without a slash at its end; ValueError says what else is there."""
    if any(not "!" <= char <= "~" for char in text):
        raise ValueError("holds spaces or characters outside ASCII")
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("is not an http or https URL")
    if parts.port == 0 or "@" in parts.netloc or "?" in text or "#" in text:
        raise ValueError("holds a port 0, a user, a query or a fragment")
    return text.rstrip("/")


def _store(text: str) -> Path:
    scheme, _, file = text.partition(":///")
    if text.startswith(("postgresql:", "postgres:")):
        raise ValueError(f"PostgreSQL {_NOT_YET}")
    if scheme != "sqlite" or not file or file == ":memory:" or "?" in file:
        raise ValueError("is not the address of an SQLite file")
    return Path(file)


def _counters(text: str) -> str:
    if text.startswith(("redis:", "rediss:")):
        raise ValueError(f"Redis {_NOT_YET}")
    if text != "memory":
        raise ValueError("is no kind of counters")
    return text


def _headers(headers: dict[str, str]) -> dict[str, str]:
    names = [name.lower() for name in headers]
    if len(set(names)) < len(names):
        raise ValueError("a header stands there twice")
    for name, written in zip(names, headers, strict=True):
        if not name or not _TOKEN.issuperset(name):
            raise ValueError(f"{name!r} is not a header's name")
        if name in _HOP_BY_HOP:
            raise ValueError(f"{name} is the connection's business")
        if not (headers[written].isascii() and headers[written].isprintable() and headers[written].strip()):
            raise ValueError(f"{name} is empty or cannot stand in a header")
    return dict(zip(names, headers.values(), strict=True))


Span = Annotated[float, BeforeValidator(_span)]
Size = Annotated[int, BeforeValidator(units.size), Field(ge=1)]
Count = Annotated[int, Field(ge=1)]
Reference = Annotated[str, AfterValidator(spelled)]
Name = Annotated[str, Field(min_length=1)]
Tags = Annotated[list[Annotated[str, AfterValidator(tag)]], Field(min_length=1)]
USD = Annotated[float, Field(ge=0, allow_inf_nan=False)]

_SPAN = "write a duration such as 250ms, 5s, 10m or 30d"
_COUNT = "write a whole number from 1 up"
_REFERENCE = "write env:NAME, file:/path or ${NAME}, and nothing around it"
_REFERENCES = "write a list of env:NAME, file:/path or ${NAME}, and nothing around each"
_KEEP = "write full, redacted or none"
_TAGS = "write a list such as [eu, fast], or leave it out"
_USD = "write USD per million tokens, such as 0.15"
# Fields without a default here take the one of the value that they become: each default stands in one place.
_UNSET: Any = None


class Shape(BaseModel):
    """A mapping of the file. Each mapping tells the validation's context whose fields it was read as."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _seen(cls, data: Any, info: ValidationInfo) -> Any:
        if isinstance(info.context, dict):
            info.context[id(data)] = cls
        return data


class FileShape(Shape):
    server: Any = Field(_UNSET, description="write a mapping such as {port: 8000}")
    store: Annotated[str, AfterValidator(_store)] = Field(
        "sqlite:///relay.db", validate_default=True, description="write sqlite:///relay.db"
    )
    counters: Annotated[str, AfterValidator(_counters)] = Field("memory", description="write memory")
    log: Any = Field(_UNSET, description="write a mapping such as {retention: 30d}")
    retry: Any = Field(_UNSET, description="write a mapping such as {per_target: 1}")
    queue: Any = Field(_UNSET, description="write a mapping such as {wait: 5s}")
    health: Any = Field(_UNSET, description="write a mapping such as {cooldown: 15s}")
    upstreams: dict[str, Any] = Field(_UNSET, description="write a mapping from names to upstreams")
    models: dict[str, Any] = Field(_UNSET, description="write a mapping from names to UPSTREAM/MODEL")
    prices: dict[str, Any] = Field(_UNSET, description="write a mapping from UPSTREAM/MODEL to prices")
    keys: list[Any] = Field(_UNSET, description="write a list of {name: …, key: env:NAME}")
    default_model: Name | None = Field(None, description="write one of the models")


class ServerShape(Shape):
    host: Name = Field(_UNSET, description="write an address such as 127.0.0.1")
    port: int = Field(_UNSET, ge=0, le=65535, description="write a port from 1 to 65535, or 0 for any")
    workers: Count = Field(_UNSET, description=_COUNT)
    drain_timeout: Span = Field(_UNSET, description=_SPAN)
    max_body: Size = Field(_UNSET, description="write a size such as 64MB")
    heartbeat: Annotated[float | None, BeforeValidator(_span_or_none)] = Field(
        _UNSET, description=f"{_SPAN}, or none", gt=0
    )
    keep_alive: Span = Field(_UNSET, description=_SPAN)


class LogShape(Shape):
    bodies: Keep = Field(_UNSET, description=_KEEP)
    retention: Annotated[float | None, BeforeValidator(_span_or_forever)] = Field(
        _UNSET, description="write a duration such as 30d, or forever"
    )


class RetryShape(Shape):
    per_target: int = Field(_UNSET, ge=0, le=5, description="write a whole number from 0 to 5")
    deadline: Span = Field(_UNSET, gt=0, description=_SPAN)


class QueueShape(Shape):
    size: int = Field(_UNSET, ge=0, description="write a whole number from 1 up, or 0 for no queue")
    wait: Span = Field(_UNSET, gt=0, description=_SPAN)


class HealthShape(Shape):
    failures: Count = Field(_UNSET, description=_COUNT)
    error_rate: float = Field(_UNSET, ge=0, le=1, description="write a share from 0 to 1, such as 0.5")
    cooldown: Span = Field(_UNSET, gt=0, description=_SPAN)
    first_byte: Annotated[float | None, BeforeValidator(_span_or_none)] = Field(
        _UNSET, gt=0, description=f"{_SPAN}, or none"
    )


class TimeoutsShape(Shape):
    connect: Span = Field(_UNSET, gt=0, description=_SPAN)
    first_byte: Span = Field(_UNSET, gt=0, description=_SPAN)
    idle: Span = Field(_UNSET, gt=0, description=_SPAN)
    total: Annotated[float | None, BeforeValidator(_span_or_none)] = Field(
        _UNSET, gt=0, description=f"{_SPAN}, or none"
    )
    pace: Annotated[float | None, BeforeValidator(_pace)] = Field(
        _UNSET, gt=0, description="write bytes a second such as 10B, or none"
    )


class UpstreamShape(Shape):
    kind: Literal["openai", "azure", "anthropic", "echo"] = Field(
        "openai", description="write openai, azure, anthropic or echo"
    )
    base_url: Annotated[str, AfterValidator(origin)] = Field("", description="write http(s)://host[:port][/path]")
    api_key: Reference | None = Field(None, description=_REFERENCE)
    api_keys: list[Reference] = Field(_UNSET, min_length=1, description=_REFERENCES)
    api_version: str | None = Field(None, description="write a date such as 2024-10-21")
    timeouts: TimeoutsShape | None = Field(None, description="write a mapping such as {connect: 5s}")
    max_connections: Count = Field(_UNSET, description=_COUNT)
    keep_alive: Span = Field(_UNSET, gt=0, description=_SPAN)
    proxy: Reference | None = Field(None, description="write http://host:port, or a reference to it such as env:NAME")
    ca: Name | None = Field(None, description="write the path of a PEM file")
    headers: Annotated[dict[str, Reference], AfterValidator(_headers)] = Field(
        _UNSET, description="write a mapping from headers to texts, or references such as env:NAME"
    )
    engine: Literal["wire", "httpx"] = Field(_UNSET, description="write wire or httpx")


class FallbackShape(Shape):
    context_window: list[Any] = Field(_UNSET, description="write a list of UPSTREAM/MODEL")
    content_policy: list[Any] = Field(_UNSET, description="write a list of UPSTREAM/MODEL")


class AliasShape(Shape):
    targets: list[Any] = Field(description="write a list of UPSTREAM/MODEL")
    set: dict[str, Any] = Field(_UNSET, description="write a mapping such as {temperature: 0}")
    default: dict[str, Any] = Field(_UNSET, description="write a mapping such as {temperature: 0}")
    response_model: Literal["upstream", "alias"] = Field("upstream", description="write upstream or alias")
    strategy: Strategy = Field(_UNSET, description="write order, weighted, least_busy, fastest or sticky")
    fallback: FallbackShape | None = Field(
        None, description="write a mapping such as {context_window: [UPSTREAM/MODEL]}"
    )


class TargetShape(Shape):
    to: str = Field(description="write UPSTREAM/MODEL")
    weight: Count = Field(1, description=_COUNT)
    tags: Tags | None = Field(None, description=_TAGS)


class PriceShape(Shape):
    input: USD = Field(description=_USD)
    output: USD = Field(description=f"{_USD}, or 0 for a model that writes none")
    cached_input: USD | None = Field(None, description=_USD)


class KeyShape(Shape):
    name: Name = Field(description="write a name")
    key: Reference = Field(description=_REFERENCE)
    models: Annotated[list[Name], Field(min_length=1)] | None = Field(
        None, description="write a list of models, or leave it out to allow every one"
    )
    rpm: Count | None = Field(None, description=_COUNT)
    tpm: Count | None = Field(None, description=_COUNT)
    concurrency: Count | None = Field(None, description=_COUNT)
    budget: Annotated[str, AfterValidator(units.budget)] | None = Field(
        None, description="write USD per day, week or month, such as 20/month"
    )
    log: Keep | None = Field(None, description=_KEEP)
    tags: Tags | None = Field(None, description=_TAGS)
