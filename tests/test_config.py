"""config.yaml: what it may say, what every fault in it prints, and how secrets are named and kept out of sight."""

import pickle
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any, cast

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from relay.config import (
    Config,
    ConfigFault,
    Queue,
    Retry,
    Secret,
    Server,
    StaticKey,
    Upstream,
    faults,
    find,
    load,
    restarts,
)
from relay.config.document import MOST_NODES, parse
from relay.config.shapes import Shape
from relay.errors import SetupFault
from relay.exchange import Timeouts
from relay.health import Policy
from relay.keys import Keyring, authenticate
from relay.pricing import Rate
from relay.routing import Alias, Strategy, Target

ROOT = Path(__file__).parent.parent
OPENAI = "upstreams: {openai: {base_url: https://api.openai.com/v1}}"


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(dedent(text), encoding="utf-8")
    return path


def read(folder: Path, text: str, **environ: str) -> Config:
    return load(write(folder, text), environ)


def printed(folder: Path, text: str, **environ: str) -> list[str]:
    return [str(fault).removeprefix(f"{folder}/") for fault in faults(write(folder, text), environ)]


# What would be right, where it is said more than once.
URL = "write http(s)://host[:port][/path]"
SPAN_OR_NONE = "write a duration such as 250ms, 5s, 10m or 30d, or none"
SPAN = "write a duration such as 250ms, 5s, 10m or 30d"
REFERENCE = "write env:NAME, file:/path or ${NAME}, and nothing around it"
REFERENCES = "write a list of env:NAME, file:/path or ${NAME}, and nothing around each"
HEADERS = "write a mapping from headers to texts, or references such as env:NAME"
PRICE_OR_0 = "write USD per million tokens, such as 0.15, or 0 for a model that writes none"
PRICE = "write USD per million tokens, such as 0.15"
STRATEGY = "write order, weighted, least_busy, fastest or sticky"
FALLBACK = "write a mapping such as {context_window: [UPSTREAM/MODEL]}"
IN_ORDER = "fallbacks are asked in order, whatever they weigh; leave it out"
PACE = "write bytes a second such as 10B, or none"
TAGS = "write a list such as [eu, fast], or leave it out"
NO_TAG = "is no tag: 1 to 64 letters of ASCII, digits and - _ . :"
BUDGET = "write USD per day, week or month, such as 20/month"

# The text, and everything that is printed for it.
FAULTY: dict[str, tuple[str, list[str]]] = {
    "unknown field": (
        "server: {prot: 8000}",
        ["config.yaml:1: server.prot: unknown field; did you mean port?"],
    ),
    "unknown field unlike any": (
        "log:\n  zzz: 1",
        ["config.yaml:2: log.zzz: unknown field; known here: bodies, retention"],
    ),
    "unknown section": (
        "model: {}",
        ["config.yaml:1: model: unknown field; did you mean models?"],
    ),
    "unknown timeout": (
        "upstreams:\n  a:\n    base_url: http://a\n    timeouts:\n      conect: 5s",
        ["config.yaml:5: upstreams.a.timeouts.conect: unknown field; did you mean connect?"],
    ),
    "wrong types": (
        "server:\n  port: eighty\n  workers: true\n  host: 1\n",
        [
            "config.yaml:2: server.port: is not a whole number; write a port from 1 to 65535, or 0 for any",
            "config.yaml:3: server.workers: is not a whole number; write a whole number from 1 up",
            "config.yaml:4: server.host: is not text; write an address such as 127.0.0.1",
        ],
    ),
    "out of range": (
        "server:\n  port: 65536\n  workers: 0\n",
        [
            "config.yaml:2: server.port: is too large; write a port from 1 to 65535, or 0 for any",
            "config.yaml:3: server.workers: is too small; write a whole number from 1 up",
        ],
    ),
    "durations and sizes": (
        "server:\n  drain_timeout: 600\n  max_body: 64 MBit\n  heartbeat: never\nlog: {retention: none}\n",
        [
            f"config.yaml:2: server.drain_timeout: 600 is not a duration; {SPAN}",
            "config.yaml:3: server.max_body: '64 MBit' is not a size; write a size such as 64MB",
            f"config.yaml:4: server.heartbeat: 'never' is not a duration; {SPAN_OR_NONE}",
            "config.yaml:5: log.retention: 'none' is not a duration; write a duration such as 30d, or forever",
        ],
    ),
    "a duration without end": (
        "server: {heartbeat: 9999w}\n",
        [f"config.yaml:1: server.heartbeat: '9999w' is more than a hundred years; {SPAN_OR_NONE}"],
    ),
    "no time to wait": (
        "upstreams:\n  a:\n    base_url: http://a\n    timeouts: {connect: 0s, idle: none, total: 0s}",
        [
            f"config.yaml:4: upstreams.a.timeouts.connect: is too small; {SPAN}",
            f"config.yaml:4: upstreams.a.timeouts.idle: 'none' is not a duration; {SPAN}",
            f"config.yaml:4: upstreams.a.timeouts.total: is too small; {SPAN_OR_NONE}",
        ],
    ),
    "tries, queue and health": (
        """\
        retry: {per_target: 6, deadline: none}
        queue:
          size: -1
          wait: 0s
        health:
          failures: 0
          error_rate: 1.1
          cooldown: 0s
          first_byte: 0s
        """,
        [
            "config.yaml:1: retry.per_target: is too large; write a whole number from 0 to 5",
            f"config.yaml:1: retry.deadline: 'none' is not a duration; {SPAN}",
            "config.yaml:3: queue.size: is too small; write a whole number from 1 up, or 0 for no queue",
            f"config.yaml:4: queue.wait: is too small; {SPAN}",
            "config.yaml:6: health.failures: is too small; write a whole number from 1 up",
            "config.yaml:7: health.error_rate: is too large; write a share from 0 to 1, such as 0.5",
            f"config.yaml:8: health.cooldown: is too small; {SPAN}",
            f"config.yaml:9: health.first_byte: is too small; {SPAN_OR_NONE}",
        ],
    ),
    "more tries, queue and health": (
        "retry: {per_target: -1}\nqueue: 5\nhealth: {error_rate: 50%, failure: 5}",
        [
            "config.yaml:1: retry.per_target: is too small; write a whole number from 0 to 5",
            "config.yaml:2: queue: is not a mapping; write {field: value}",
            "config.yaml:3: health.error_rate: is not a number; write a share from 0 to 1, such as 0.5",
            "config.yaml:3: health.failure: unknown field; did you mean failures?",
        ],
    ),
    "no pace": (
        """\
        upstreams:
          a: {base_url: http://a, timeouts: {pace: 10B/s}}
          b: {base_url: http://b, timeouts: {pace: 0}}
          c: {base_url: http://c, timeouts: {pace: 0.5}}
        """,
        [
            f"config.yaml:2: upstreams.a.timeouts.pace: '10B/s' is not a size; {PACE}",
            f"config.yaml:3: upstreams.b.timeouts.pace: is too small; {PACE}",
            f"config.yaml:4: upstreams.c.timeouts.pace: 0.5 is not a size; {PACE}",
        ],
    ),
    "no such choice": (
        "log: {bodies: some}",
        ["config.yaml:1: log.bodies: is none of the choices; write full, redacted or none"],
    ),
    "not yet": (
        """\
        store: postgresql://user:hunter2@host/db
        counters: redis://host/0
        upstreams:
          a: {kind: bedrock}
        """,
        [
            "config.yaml:1: store: PostgreSQL is not supported by this version; write sqlite:///relay.db",
            "config.yaml:2: counters: Redis is not supported by this version; write memory",
            "config.yaml:4: upstreams.a.kind: is none of the choices; write openai, azure, anthropic or echo",
        ],
    ),
    "no such store": (
        "store: relay.db\ncounters: memcached",
        [
            "config.yaml:1: store: is not the address of an SQLite file; write sqlite:///relay.db",
            "config.yaml:2: counters: is no kind of counters; write memory",
        ],
    ),
    "base URLs": (
        """\
        upstreams:
          a: {}
          b: {base_url: api.openai.com/v1}
          c: {base_url: "https://user:hunter2@host/v1"}
          d: {base_url: "https://host/v1?key=hunter2"}
          e: {base_url: "http://host:99999"}
          f: {base_url: "http://[::zz]/v1"}
          g: {base_url: "http://host/a b"}
          h/i: {base_url: "http://host"}
        """,
        [
            f"config.yaml:2: upstreams.a.base_url: is missing; {URL}",
            f"config.yaml:3: upstreams.b.base_url: is not an http or https URL; {URL}",
            f"config.yaml:4: upstreams.c.base_url: holds a port 0, a user, a query or a fragment; {URL}",
            f"config.yaml:5: upstreams.d.base_url: holds a port 0, a user, a query or a fragment; {URL}",
            f"config.yaml:6: upstreams.e.base_url: Port out of range 0-65535; {URL}",
            f"config.yaml:7: upstreams.f.base_url: '::zz' does not appear to be an IPv4 or IPv6 address; {URL}",
            f"config.yaml:8: upstreams.g.base_url: holds spaces or characters outside ASCII; {URL}",
            "config.yaml:9: upstreams.h/i: an upstream's name is not empty and holds no slash; write another",
        ],
    ),
    "upstream fields that do not fit": (
        """\
        upstreams:
          a:
            base_url: http://a
            api_key: env:A
            api_keys: [env:B]
            api_version: 2024-10-21
            ca: /no/such/file.pem
            proxy: socks5://host:1080
          b: {base_url: http://b, proxy: "https://host:3128"}
          b2: {base_url: http://b, proxy: "http://host:port"}
          c: {base_url: http://c, headers: {Host: x}}
          d: {base_url: http://d, headers: {"x y": x}}
          e: {base_url: http://e, headers: {x: "1", X: "2"}}
          f: {base_url: http://f, headers: {x: "a\\r\\nb"}}
          g: [http://g]
        """,
        [
            "config.yaml:5: upstreams.a.api_keys: stands beside api_key; keep one of the two",
            "config.yaml:6: upstreams.a.api_version: is for upstreams of kind azure; leave it out",
            "config.yaml:7: upstreams.a.ca: there is no file /no/such/file.pem; write the path of a PEM file",
            "config.yaml:8: upstreams.a.proxy: is no proxy of this engine; write http://host:port",
            "config.yaml:9: upstreams.b.proxy: is no proxy of this engine; write http://host:port",
            "config.yaml:10: upstreams.b2.proxy: is no proxy of this engine; write http://host:port",
            f"config.yaml:11: upstreams.c.headers: host is the connection's business; {HEADERS}",
            f"config.yaml:12: upstreams.d.headers: 'x y' is not a header's name; {HEADERS}",
            f"config.yaml:13: upstreams.e.headers: a header stands there twice; {HEADERS}",
            f"config.yaml:14: upstreams.f.headers: x is empty or cannot stand in a header; {HEADERS}",
            "config.yaml:15: upstreams.g: is not a mapping; write {field: value}",
        ],
    ),
    "secrets that are no whole reference": (
        """\
        upstreams:
          a: {base_url: http://a, api_key: "Bearer ${KEY}"}
          b: {base_url: http://b, api_keys: [env:GOOD, "env:not a name", 5]}
          c: {base_url: http://c, api_keys: []}
        """,
        [
            f"config.yaml:2: upstreams.a.api_key: is not a whole reference; {REFERENCE}",
            f"config.yaml:3: upstreams.b.api_keys.1: is not a whole reference; {REFERENCES}",
            f"config.yaml:3: upstreams.b.api_keys.2: is not text; {REFERENCES}",
            f"config.yaml:4: upstreams.c.api_keys: is empty; {REFERENCES}",
        ],
    ),
    "targets": (
        f"""\
        {OPENAI}
        models:
          a: opnai/gpt-4o
          b: gpt-4o
          c:
            - openai/gpt-4o
            - locl/llama3
            - {{to: openai/gpt-4o, weight: 0}}
            - {{wieght: 1}}
            - 7
          d: {{targets: [{{to: openai/}}]}}
          e: []
          f:
          g: openai/gpt-*
          h: {{target: openai/gpt-4o}}
          i: 5
        """,
        [
            "config.yaml:3: models.a: there is no upstream 'opnai'; did you mean openai?",
            "config.yaml:4: models.b: 'gpt-4o' names no upstream and model; write UPSTREAM/MODEL",
            "config.yaml:7: models.c.1: there is no upstream 'locl'; known here: openai, echo",
            "config.yaml:8: models.c.2.weight: is too small; write a whole number from 1 up",
            "config.yaml:9: models.c.3.to: is missing; write UPSTREAM/MODEL",
            "config.yaml:9: models.c.3.wieght: unknown field; did you mean weight?",
            "config.yaml:10: models.c.4: is neither text nor a mapping; write UPSTREAM/MODEL",
            "config.yaml:11: models.d.targets.0.to: 'openai/' names no upstream and model; write UPSTREAM/MODEL",
            "config.yaml:12: models.e: has no target; write UPSTREAM/MODEL",
            "config.yaml:13: models.f: is neither text nor a mapping; write UPSTREAM/MODEL",
            "config.yaml:14: models.g: 'gpt-*' is no model; write openai/* for the name that was asked for",
            "config.yaml:15: models.h.targets: is missing; write a list of UPSTREAM/MODEL",
            "config.yaml:15: models.h.target: unknown field; did you mean targets?",
            "config.yaml:16: models.i: is neither text nor a mapping; write UPSTREAM/MODEL",
        ],
    ),
    "places in the order": (
        f"""\
        {OPENAI}
        models:
          a: [[], openai/a]
          b:
            - [openai/a, locl/b, 7, {{to: openai/c, weight: 0}}]
            - [openai/a, [openai/b]]
          c: {{targets: [[]]}}
          d: {{targets: [openai/a], strategy: fairest}}
          e:
            targets: [{{to: openai/a, weight: 9}}, openai/b]
            strategy: order
          f: {{targets: [[{{to: openai/a, weight: 1}}], openai/b], strategy: order}}
          g: {{targets: [], strategy: sticky}}
        """,
        [
            "config.yaml:3: models.a.0: has no target; write UPSTREAM/MODEL",
            "config.yaml:5: models.b.0.1: there is no upstream 'locl'; known here: openai, echo",
            "config.yaml:5: models.b.0.2: is neither text nor a mapping; write UPSTREAM/MODEL",
            "config.yaml:5: models.b.0.3.weight: is too small; write a whole number from 1 up",
            "config.yaml:6: models.b.1.1: is one list too deep; write its targets one level up",
            "config.yaml:7: models.c.targets.0: has no target; write UPSTREAM/MODEL",
            f"config.yaml:8: models.d.strategy: is none of the choices; {STRATEGY}",
            "config.yaml:11: models.e.strategy: order ignores weights; leave one out",
            "config.yaml:12: models.f.strategy: order ignores weights; leave one out",
            "config.yaml:13: models.g: has no target; write UPSTREAM/MODEL",
        ],
    ),
    "fallbacks": (
        f"""\
        {OPENAI}
        models:
          a:
            targets: [openai/a]
            fallback:
              context_window: [opnai/b]
              content_policy: []
          b: {{targets: [openai/a], fallback: {{context_windows: [openai/b], content_policy: openai/b}}}}
          c: {{targets: [openai/a], fallback: {{context_window: [{{to: openai/b, weight: 2}}, [openai/c]]}}}}
          d: {{targets: [openai/a], fallback: [openai/b]}}
        """,
        [
            "config.yaml:6: models.a.fallback.context_window.0: there is no upstream 'opnai'; did you mean openai?",
            "config.yaml:7: models.a.fallback.content_policy: has no target; write UPSTREAM/MODEL",
            "config.yaml:8: models.b.fallback.content_policy: is not a list; write a list of UPSTREAM/MODEL",
            "config.yaml:8: models.b.fallback.context_windows: unknown field; did you mean context_window?",
            f"config.yaml:9: models.c.fallback.context_window.0.weight: {IN_ORDER}",
            "config.yaml:9: models.c.fallback.context_window.1: is one list too deep; write its targets one level up",
            f"config.yaml:10: models.d.fallback: is not a mapping; {FALLBACK}",
        ],
    ),
    "tags": (
        f"""\
        {OPENAI}
        models:
          a: [{{to: openai/a, tags: []}}]
          b: [{{to: openai/a, tags: [eu, no]}}]
          c: [{{to: openai/a, tags: eu}}]
        keys:
          - {{name: a, key: env:A, tags: []}}
          - {{name: b, key: env:B, tags: [eu, "a b"]}}
        """,
        [
            f"config.yaml:3: models.a.0.tags: is empty; {TAGS}",
            f"config.yaml:4: models.b.0.tags.1: is not text; {TAGS}",
            f"config.yaml:5: models.c.0.tags: is not a list; {TAGS}",
            f"config.yaml:7: keys.0.tags: is empty; {TAGS}",
            f"config.yaml:8: keys.1.tags.1: 'a b' {NO_TAG}; {TAGS}",
        ],
    ),
    "parameters": (
        """\
        models:
          a:
            targets: [echo/echo]
            set: {model: x, temperature: .nan}
            default:
              stream: true
          b:
            targets: [echo/echo]
            response_model: both
            set: [1]
        """,
        [
            "config.yaml:4: models.a.set.model: is what the caller asks for, and cannot be set here; leave it out",
            "config.yaml:4: models.a.set.temperature: JSON has no such number; write a finite one",
            "config.yaml:6: models.a.default.stream: is what the caller asks for, and cannot be set here; leave it out",
            "config.yaml:9: models.b.response_model: is none of the choices; write upstream or alias",
            "config.yaml:10: models.b.set: is not a mapping; write a mapping such as {temperature: 0}",
        ],
    ),
    "the default model": (
        f"{OPENAI}\nmodels: {{fast: openai/gpt-4o-mini}}\ndefault_model: fats",
        ["config.yaml:3: default_model: there is no model 'fats'; did you mean fast?"],
    ),
    "a fault beside a fault": (
        f"""\
        {OPENAI}
        models:
          m:
            targets: [{{to: zzz/x, weight: -1}}]
            sett: 5
          n: {{targets: [openai/a, zzz/b], set: {{model: x}}, response_model: both}}
          "gpt-*": zzz/*
        default_model: gone
        keys:
          - {{name: a, key: env:A}}
          - {{name: a, key: env:B, rpm: 0}}
          - {{name: 5, key: env:C}}
          - {{name: 5, key: env:D}}
        """,
        [
            "config.yaml:4: models.m.targets.0.weight: is too small; write a whole number from 1 up",
            "config.yaml:4: models.m.targets.0.to: there is no upstream 'zzz'; known here: openai, echo",
            "config.yaml:5: models.m.sett: unknown field; did you mean set?",
            "config.yaml:6: models.n.response_model: is none of the choices; write upstream or alias",
            "config.yaml:6: models.n.targets.1: there is no upstream 'zzz'; known here: openai, echo",
            "config.yaml:6: models.n.set.model: is what the caller asks for, and cannot be set here; leave it out",
            "config.yaml:7: models.gpt-*: there is no upstream 'zzz'; known here: openai, echo",
            "config.yaml:8: default_model: there is no model 'gone'; known here: echo, m, n",
            "config.yaml:11: keys.1.rpm: is too small; write a whole number from 1 up",
            "config.yaml:11: keys.1.name: a second key 'a'; write another name",
            "config.yaml:12: keys.2.name: is not text; write a name",
            "config.yaml:13: keys.3.name: is not text; write a name",
        ],
    ),
    "a default model whose own entry has a fault": (
        f"{OPENAI}\nmodels: {{fast: zzz/a}}\ndefault_model: fast",
        ["config.yaml:2: models.fast: there is no upstream 'zzz'; known here: openai, echo"],
    ),
    "a default model by a pattern that has a fault": (
        f"{OPENAI}\nmodels: {{'gpt-*': zzz/*}}\ndefault_model: gpt-4",
        ["config.yaml:2: models.gpt-*: there is no upstream 'zzz'; known here: openai, echo"],
    ),
    "prices": (
        f"""\
        {OPENAI}
        prices:
          openai/a: {{input: 1}}
          openai/b: {{input: -1, output: cheap, cached_input: .inf}}
          opnai/c: {{input: 1, output: 1}}
          openai/*: {{input: 1, output: 1}}
        """,
        [
            f"config.yaml:3: prices.openai/a.output: is missing; {PRICE_OR_0}",
            f"config.yaml:4: prices.openai/b.input: is too small; {PRICE}",
            f"config.yaml:4: prices.openai/b.output: is not a number; {PRICE_OR_0}",
            f"config.yaml:4: prices.openai/b.cached_input: is not a number; {PRICE}",
            "config.yaml:5: prices.opnai/c: there is no upstream 'opnai'; did you mean openai?",
            "config.yaml:6: prices.openai/*: a price is that of one model; write UPSTREAM/MODEL",
        ],
    ),
    "keys": (
        """\
        keys:
          - {name: a, key: env:A, models: [], rpm: 0, budget: 20/fortnight, log: some}
          - {name: a, key: env:B}
          - {key: env:C}
          - ci
        """,
        [
            "config.yaml:2: keys.0.models: is empty; write a list of models, or leave it out to allow every one",
            "config.yaml:2: keys.0.rpm: is too small; write a whole number from 1 up",
            f"config.yaml:2: keys.0.budget: '20/fortnight' is not a budget; {BUDGET}",
            "config.yaml:2: keys.0.log: is none of the choices; write full, redacted or none",
            "config.yaml:3: keys.1.name: a second key 'a'; write another name",
            "config.yaml:4: keys.2.name: is missing; write a name",
            "config.yaml:5: keys.3: is not a mapping; write {field: value}",
        ],
    ),
    "a model without a name": (
        "models: {'': echo/echo}",
        ["config.yaml:1: models.: a model's name is empty; write one"],
    ),
    "keys of one name": (
        "keys:\n  - {name: a, key: env:A}\n  - {name: a, key: env:B}",
        ["config.yaml:3: keys.1.name: a second key 'a'; write another name"],
    ),
    "sections of another form": (
        "models: [a]\nkeys: {a: b}\nserver: 8000",
        [
            "config.yaml:1: models: is not a mapping; write a mapping from names to UPSTREAM/MODEL",
            "config.yaml:2: keys: is not a list; write a list of {name: …, key: env:NAME}",
            "config.yaml:3: server: is not a mapping; write {field: value}",
        ],
    ),
    "fields written twice": (
        "server: {port: 1}\nlog: {}\nserver: {port: 2}",
        ["config.yaml:3: server: written twice, first on line 1; keep one"],
    ),
    "a tab": (
        "server:\n\tport: 1",
        ["config.yaml:2: not YAML: found character '\\t' that cannot start any token"],
    ),
    "an open bracket": (
        "server: {port: 1\nlog: {}",
        ["config.yaml:2: not YAML: expected ',' or '}', but got ':'"],
    ),
    "a control character": (
        "log: {}\nserver: \x01",
        ["config.yaml:2: not YAML: a character that it does not allow (special characters are not allowed)"],
    ),
    "a list": ("- a", ["config.yaml:1: not a mapping; write fields such as `upstreams:` and `models:`"]),
    "two documents": ("log: {}\n---\nlog: {}", ["config.yaml:2: not YAML: but found another document"]),
    "a name that is a list": ("log: {}\n? [a]\n: b", ["config.yaml:2: a field's name must be text; put it in quotes"]),
    "a foreign tag": (
        "log: {}\nserver: !!python/object/apply:os.system [x]",
        ["config.yaml:2: the tag 'tag:yaml.org,2002:python/object/apply:os.system' is not known; leave it out"],
    ),
    "a number that is none": ("server: {port: !!int x}", ["config.yaml:1: not a value that YAML knows; quote it"]),
    "a truth that is none": ("server: {port: !!bool x}", ["config.yaml:1: not a value that YAML knows; quote it"]),
}


@pytest.mark.parametrize("name", FAULTY)
def test_every_fault_is_printed_with_its_line_its_field_and_what_would_be_right(name: str, tmp_path: Path) -> None:
    text, expected = FAULTY[name]
    actual = printed(tmp_path, text)

    assert expected == actual
    with pytest.raises(ConfigFault) as refused:
        load(tmp_path / "config.yaml", {})
    assert str(refused.value).startswith(f"{tmp_path}/{expected[0]}")
    assert "\n" not in str(refused.value)
    assert "hunter2" not in "".join(actual)


def test_no_fault_hides_another(tmp_path: Path) -> None:
    text = """\
    server: {prot: 1}
    stroe: x
    upstreams: {a: {kind: opneai}, b: {base_url: http://b}}
    models: {x: a/m, y: b/m, z: c/m}
    keys: [{name: k}]
    """

    actual = [line.split(": ")[1] for line in printed(tmp_path, text)]

    assert ["server.prot", "stroe", "upstreams.a.kind", "models.z", "keys.0.key"] == actual


def test_one_line_tells_how_many_faults_there_are(tmp_path: Path) -> None:
    path = write(tmp_path, "server: {prot: 1, hots: x}")

    with pytest.raises(ConfigFault) as refused:
        load(path, {})

    expected = f"{path}:1: server.prot: unknown field; did you mean port? (and 1 more: `relay check` prints them all)"
    assert expected == str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)),
        "a: &a [*a]",
        "a: " + "[" * 100 + "]" * 100,
        "a: " + "[" * 100_000,
        f"a: [{'x,' * MOST_NODES}]",
    ],
    ids=["nine to the ninth", "itself", "deep", "very deep", "long"],
)
def test_a_bomb_is_refused(text: str) -> None:
    with pytest.raises(ConfigFault, match="too"):
        parse(text, "config.yaml")


def test_anchors_may_be_used_with_measure(tmp_path: Path) -> None:
    config = read(tmp_path, "upstreams:\n  a: &a {base_url: http://a}\n  b: *a")

    assert config.upstreams["a"].base_url == config.upstreams["b"].base_url


@given(st.text(max_size=60) | st.text("ab:-[]{}&*!|>'\"#\n ,?%@`\t", max_size=40))
def test_any_text_is_a_mapping_or_a_fault(text: str) -> None:
    with suppress(ConfigFault):
        assert isinstance(parse(text, "config.yaml").data, dict)


@pytest.mark.parametrize("text", ["", "# nothing\n", "server:\nmodels:\nkeys:\n"])
def test_an_empty_file_is_every_default(text: str, tmp_path: Path) -> None:
    config, none = read(tmp_path, text), load(None, {})

    assert none.server == config.server == Server()
    assert (Retry(1, 600.0), Queue(1000, 5.0)) == (config.retry, config.queue)
    assert Policy(5, 0.5, 15.0, None) == config.health
    assert none.routes == config.routes
    assert none.upstreams == config.upstreams


def test_with_no_file_and_no_key_echo_answers() -> None:
    config = load(None, {})

    assert {"echo": Upstream("echo", kind="echo")} == config.upstreams
    assert (Target("echo", "echo"),) == config.routes.plan("echo").targets
    assert ["echo"] == config.routes.names()
    assert () == config.warnings


def test_a_file_without_certificates(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("none")

    (fault,) = printed(tmp_path, f"upstreams: {{a: {{base_url: https://a, ca: {tmp_path}/ca.pem}}}}")

    assert f"config.yaml:1: upstreams.a.ca: {tmp_path}/ca.pem cannot be used as a CA file: " in fault
    assert fault.endswith("; write the path of a PEM file")


def test_with_no_file_a_key_of_openai_serves_every_name() -> None:
    config = load(None, {"OPENAI_API_KEY": "sk-real"})

    expected = Upstream("openai", base_url="https://api.openai.com/v1", api_keys=(Secret("sk-real"),))
    assert expected == config.upstreams["openai"]
    assert (Target("openai", "gpt-4o"),) == config.routes.plan("gpt-4o").targets
    assert (Target("echo", "echo"),) == config.routes.plan("echo").targets


def test_an_empty_key_of_openai_is_none() -> None:
    assert load(None, {}) == load(None, {"OPENAI_API_KEY": ""})


def test_every_field_finds_its_place(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(ca))
    config = read(
        tmp_path,
        f"""\
        server: {{host: 0.0.0.0, port: 0, workers: 2, drain_timeout: 1m, max_body: 2KB, heartbeat: none,
          keep_alive: 1h}}
        store: sqlite:////var/lib/relay.db
        counters: memory
        log: {{bodies: none, retention: forever}}
        retry: {{per_target: 0, deadline: 2m}}
        queue: {{size: 0, wait: 250ms}}
        health: {{failures: 3, error_rate: 1, cooldown: 1m, first_byte: 2s}}
        upstreams:
          local:
            base_url: http://[::1]:8080/v1/
            api_keys: [env:ONE, "${{TWO}}"]
            timeouts: {{connect: 250ms, first_byte: 2d, idle: 1.5s, total: 1w, pace: 1KB}}
            max_connections: 7
            keep_alive: 40s
            proxy: env:PROXY
            ca: {ca}
            headers: {{X-Team: search, x-key: env:ONE}}
            engine: httpx
        models: {{fast: local/a/b:c}}
        default_model: fast
        prices: {{local/a/b:c: {{input: 0.10, output: 0.40, cached_input: 0.0375}}}}
        keys:
          - {{name: ci, key: env:CI, models: [fast], rpm: 60, tpm: 9, concurrency: 4, budget: 0.5/day, log: redacted,
             tags: [eu, "team:a-b_c.1"]}}
        """,
        ONE="key-1",
        TWO="key-2",
        PROXY="http://u:p@proxy:3128",
        CI="c" * 20,
    )

    assert Server("0.0.0.0", 0, 2, 60.0, 2048, None, 3600.0) == config.server  # noqa: S104  read, not bound
    assert Path("/var/lib/relay.db") == config.store
    assert ("none", None) == (config.log.bodies, config.log.retention)
    assert (Retry(0, 120.0), Queue(0, 0.25)) == (config.retry, config.queue)
    assert Policy(3, 1.0, 60.0, 2.0) == config.health
    assert {
        "local": Upstream(
            "local",
            "openai",
            "http://[::1]:8080/v1",
            (Secret("key-1"), Secret("key-2")),
            Timeouts(0.25, 172800.0, 1.5, 604800.0, 1024.0),
            7,
            40.0,
            "http://u:p@proxy:3128",
            ca,
            {"x-team": "search", "x-key": "key-1"},
            "httpx",
            ca.read_bytes(),
        ),
        "echo": Upstream("echo", kind="echo"),
    } == config.upstreams
    assert "fast" == config.routes.default_model
    assert {"local/a/b:c": Rate(100_000, 400_000, 37_500)} == config.prices
    tags = ("eu", "team:a-b_c.1")
    assert (StaticKey("ci", Secret("c" * 20), ("fast",), 60, 9, 4, "0.5/day", "redacted", tags),) == config.keys
    assert ("keys.0.budget, keys.0.tpm: kept, but not enforced by this version",) == config.warnings


LOCAL = Target("local", "a")
CHOOSING: tuple[Strategy, ...] = ("weighted", "least_busy", "fastest", "sticky")


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("local/a", Alias("x", ((LOCAL,),))),
        ("[local/a, echo/b]", Alias("x", ((LOCAL,), (Target("echo", "b"),)))),
        (
            "[local/a, {to: echo/b, weight: 3}]",
            Alias("x", ((LOCAL, Target("echo", "b", 3)),), strategy="weighted"),
        ),
        (
            "[[{to: local/a, weight: 9}, echo/b], echo/c]",
            Alias("x", ((Target("local", "a", 9), Target("echo", "b")), (Target("echo", "c"),)), strategy="weighted"),
        ),
        (
            "[[local/a, echo/b]]",
            Alias("x", ((LOCAL, Target("echo", "b")),), strategy="weighted"),
        ),
        *(
            (
                f"{{targets: [local/a, echo/b], strategy: {strategy}}}",
                Alias("x", ((LOCAL, Target("echo", "b")),), strategy=strategy),
            )
            for strategy in CHOOSING
        ),
        *(
            (
                f"{{targets: [[local/a, {{to: echo/b, weight: 2}}], echo/c], strategy: {strategy}}}",
                Alias("x", ((LOCAL, Target("echo", "b", 2)), (Target("echo", "c"),)), strategy=strategy),
            )
            for strategy in CHOOSING
        ),
        (
            "{targets: [local/a, echo/b], strategy: order}",
            Alias("x", ((LOCAL,), (Target("echo", "b"),))),
        ),
        (
            "[{to: local/a, tags: [eu, fast]}, echo/b]",
            Alias("x", ((Target("local", "a", tags=frozenset({"eu", "fast"})),), (Target("echo", "b"),))),
        ),
        (
            "{targets: [local/a], fallback: {content_policy: [echo/*], context_window: [{to: echo/b, tags: [e]}]}}",
            Alias(
                "x",
                ((LOCAL,),),
                fallback={
                    "context_window": (Target("echo", "b", tags=frozenset("e")),),
                    "content_policy": (Target("echo", "*"),),
                },
            ),
        ),
        (
            "{targets: [local/a], fallback: {context_window: [echo/b, echo/c]}}",
            Alias("x", ((LOCAL,),), fallback={"context_window": (Target("echo", "b"), Target("echo", "c"))}),
        ),
        ("{targets: [local/a], fallback: {}}", Alias("x", ((LOCAL,),))),
        (
            '{targets: [local/a], set: {temperature: 0, stop: [é, null]}, default: {n: 1.5, user: "1"}}',
            Alias(
                "x",
                ((LOCAL,),),
                {"temperature": b"0", "stop": b'["\\u00e9",null]'},
                {"n": b"1.5", "user": b'"1"'},
            ),
        ),
        (
            "{targets: [{to: local/a, weight: 9}], response_model: alias}",
            Alias("x", ((Target("local", "a", 9),),), response_model="alias", strategy="weighted"),
        ),
    ],
)
def test_an_alias_has_three_forms(form: str, expected: Alias, tmp_path: Path) -> None:
    config = read(tmp_path, f"upstreams: {{local: {{base_url: http://local}}}}\nmodels: {{x: {form}}}")

    assert expected == config.routes.exact["x"]


@pytest.mark.parametrize(
    ("written", "expected"),
    [("1", 1), ("1000", 1000), ("512KB", 2**19), ("64MB", 2**26), ("64 MiB", 2**26), ("1GB", 2**30), ("7B", 7)],
)
def test_sizes_count_in_1024s(written: str, expected: int, tmp_path: Path) -> None:
    assert expected == read(tmp_path, f"server: {{max_body: {written}}}").server.max_body


@pytest.mark.parametrize(
    ("written", "expected"), [("10", 10.0), ("10B", 10.0), ("2 KB", 2048.0), ("none", None), ("", None)]
)
def test_a_pace_is_a_size_a_second(written: str, expected: float | None, tmp_path: Path) -> None:
    config = read(tmp_path, f"upstreams:\n  a:\n    base_url: http://a\n    timeouts:\n      pace: {written}")

    assert expected == config.upstreams["a"].timeouts.pace


# Two files, and the fields whose change waits for the next start.
CHANGES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "nothing": ("server: {port: 1}", "server: {port: 1}", ()),
    "nothing but the words": ("", "server: {port: 8000}\nstore: sqlite:///relay.db", ()),
    "what is bound": (
        "",
        "server: {host: 0.0.0.0, port: 1, workers: 2}",
        ("server.host", "server.port", "server.workers"),
    ),
    "times of the server": (
        "server: {keep_alive: 1s, drain_timeout: 1s}",
        "server: {keep_alive: 2s, drain_timeout: 2s}",
        ("server.keep_alive", "server.drain_timeout"),
    ),
    "what is kept": (
        "log: {retention: 30d}",
        "store: sqlite:///b.db\nlog: {retention: forever}",
        ("store", "log.retention"),
    ),
    "what a request reads": (
        "models: {a: echo/echo}",
        """\
        server: {max_body: 1MB, heartbeat: none}
        log: {bodies: none}
        retry: {per_target: 0}
        queue: {size: 1}
        health: {failures: 1}
        upstreams: {a: {base_url: http://a}}
        models: {a: a/a}
        default_model: a
        prices: {a/a: {input: 1, output: 1}}
        """,
        (),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_some_changes_wait_for_the_next_start(name: str, tmp_path: Path) -> None:
    before, after, expected = CHANGES[name]
    old = read(tmp_path, before)

    assert expected == restarts(old, read(tmp_path, after))


def test_counters_wait_for_the_next_start() -> None:
    """There is but one kind so far, so no file can change it."""
    config = load(None, {})

    assert ("counters",) == restarts(config, replace(config, counters=cast("Any", "elsewhere")))


def test_a_models_name_is_text_whatever_yaml_makes_of_it(tmp_path: Path) -> None:
    config = read(tmp_path, "models: {on: echo/yes, 4: echo/four, 2024-10-21: echo/date, null: echo/none}")

    assert ["on", "4", "2024-10-21", "null", "echo"] == config.routes.names()


def test_patterns_give_way_to_exact_names(tmp_path: Path) -> None:
    config = read(tmp_path, f'{OPENAI}\nmodels: {{"gpt-*": openai/*, gpt-4o: echo/echo}}')

    assert (Target("openai", "gpt-5"),) == config.routes.plan("gpt-5").targets
    assert (Target("echo", "echo"),) == config.routes.plan("gpt-4o").targets


def test_echo_may_be_defined_by_the_user(tmp_path: Path) -> None:
    config = read(tmp_path, "upstreams: {echo: {base_url: http://mine}}\nmodels: {echo: echo/mine}")

    assert "http://mine" == config.upstreams["echo"].base_url
    assert (Target("echo", "mine"),) == config.routes.plan("echo").targets


def test_without_models_every_name_goes_to_the_first_upstream(tmp_path: Path) -> None:
    config = read(tmp_path, "upstreams: {b: {base_url: http://b}, a: {base_url: http://a}}")

    assert (Target("b", "any/name:x"),) == config.routes.plan("any/name:x").targets


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("env:ABSENT", "env:ABSENT is not set, or empty"),
        ("env:EMPTY", "env:EMPTY is not set, or empty"),
        ("${ABSENT}", "${ABSENT} is not set, or empty"),
        ("env:BLANK", "env:BLANK is empty"),
        ("env:LINES", "env:LINES holds characters that cannot stand in a header"),
        ("file:/no/such/file", "file:/no/such/file cannot be read (No such file or directory)"),
    ],
)
def test_an_unresolved_secret_disables_its_upstream_and_nothing_else(
    reference: str, reason: str, tmp_path: Path
) -> None:
    config = read(
        tmp_path,
        f"""\
        upstreams:
          a: {{base_url: http://a, api_key: "{reference}"}}
          b: {{base_url: http://b}}
        models: {{x: a/m}}
        """,
        EMPTY="",
        BLANK="  ",
        LINES="one\ntwo",
    )

    assert {"a": reason} == config.disabled
    assert ["b", "echo"] == list(config.upstreams)
    assert (f"upstreams.a: disabled, since {reason}",) == config.warnings
    assert (Target("a", "m"),) == config.routes.plan("x").targets


def test_a_proxy_by_reference_that_is_none_disables_its_upstream(tmp_path: Path) -> None:
    config = read(tmp_path, "upstreams: {a: {base_url: http://a, proxy: env:P}}", P="socks5://u:hunter2@host:1080")

    expected = "proxy: its reference leads to no proxy of this engine, which is http://host:port"
    assert {"a": expected} == config.disabled


def test_a_pool_goes_on_with_the_keys_that_are_there(tmp_path: Path) -> None:
    config = read(tmp_path, "upstreams: {a: {base_url: http://a, api_keys: [env:ABSENT, env:THERE]}}", THERE="k")

    assert (Secret("k"),) == config.upstreams["a"].api_keys
    assert (
        "upstreams.a.api_keys.0: env:ABSENT is not set, or empty; the upstream's other keys are used",
    ) == config.warnings


@pytest.mark.parametrize("text", ["hidden\n", "hidden\r\n", "hidden"])
def test_a_file_gives_its_text_without_the_last_newline(text: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(text.encode())
    config = read(tmp_path, f"upstreams: {{a: {{base_url: http://a, api_key: file:{tmp_path}/secret}}}}")

    assert ["hidden"] == [key.reveal() for key in config.upstreams["a"].api_keys]


def test_a_file_that_is_no_text_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\xff\xfe")
    config = read(tmp_path, f"upstreams: {{a: {{base_url: http://a, api_key: file:{tmp_path}/secret}}}}")

    assert {"a": f"file:{tmp_path}/secret is not text"} == config.disabled


def test_secrets_are_alike_when_their_texts_are() -> None:
    assert {Secret("a")} == {Secret("a"), Secret("a")}
    assert Secret("a") != Secret("b")


def test_a_literal_secret_works_with_a_warning_that_does_not_repeat_it(tmp_path: Path) -> None:
    config = read(tmp_path, "upstreams: {a: {base_url: http://a, api_key: hunter2}}")

    assert "hunter2" == config.upstreams["a"].api_keys[0].reveal()
    expected = "upstreams.a.api_key: a secret in the file itself; write env:NAME or file:/path instead"
    assert (expected,) == config.warnings


def test_keys_without_a_secret_of_their_own_are_left_out(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        "keys: [{name: a, key: env:A}, {name: b, key: env:B}, {name: c, key: env:A}, {name: d, key: env:D}]",
        A="a" * 16,
        D="short",
    )

    assert ["a", "d"] == [key.name for key in config.keys]
    assert (
        "keys.1: the key 'b' is disabled, since env:B is not set, or empty",
        "keys.2: the key 'c' is disabled, since its text is that of the key 'a'",
        "keys.3.key: shorter than 16 characters and easily guessed; use a longer one",
    ) == config.warnings


def test_a_static_key_lets_its_holder_in(tmp_path: Path) -> None:
    text = "keys: [{name: ci, key: env:CI, models: [fast], rpm: 60, tags: [eu]}]"
    config = read(tmp_path, text, CI="c" * 20)
    key = config.keys[0].key(b"pepper")

    assert key is authenticate(Keyring.of(b"pepper", [key]), b"c" * 20, 0)
    assert ("config-ci", "ci", ("fast",), 60, ("eu",)) == (key.id, key.name, key.models, key.rpm, key.tags)


def test_no_secret_shows_itself(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        """\
        upstreams: {a: {base_url: http://a, api_key: env:S, headers: {x-key: env:S}, proxy: "http://u:hunter2@p:1"}}
        keys: [{name: ci, key: env:S}]
        """,
        S="hunter2-and-more",
    )

    assert "hunter2" not in repr(config)
    assert "***" == str(config.keys[0].secret) == f"{config.keys[0].secret}"
    with pytest.raises(TypeError, match="a Secret is not written down"):
        pickle.dumps(config)


def test_the_file_is_the_options_then_the_environments_then_the_folders(tmp_path: Path) -> None:
    assert find(None, {}, tmp_path) is None
    folders = write(tmp_path, "")
    other = tmp_path / "other.yaml"
    other.touch()

    assert Path(folders.name) == find(None, {}, tmp_path)
    assert other == find(None, {"RELAY_CONFIG": str(other)}, tmp_path)
    assert folders == find(folders, {"RELAY_CONFIG": str(other)}, tmp_path)
    assert Path(folders.name) == find(None, {"RELAY_CONFIG": ""}, tmp_path)


@pytest.mark.parametrize(
    ("option", "environ", "expected"),
    [
        (Path("no.yaml"), {}, "no.yaml: there is no such file, but the command names it"),
        (None, {"RELAY_CONFIG": "no.yaml"}, "no.yaml: there is no such file, but RELAY_CONFIG names it"),
    ],
)
def test_a_named_file_must_exist(option: Path | None, environ: dict[str, str], expected: str, tmp_path: Path) -> None:
    write(tmp_path, "")
    with pytest.raises(ConfigFault) as refused:
        find(option, environ, tmp_path)

    assert expected == str(refused.value)


def test_a_file_that_cannot_be_read_is_one_fault(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"# caf\xe9")

    assert ["is not UTF-8; save it as that"] == [fault.message for fault in faults(tmp_path / "latin.yaml", {})]
    assert ["cannot be read: Is a directory"] == [fault.message for fault in faults(tmp_path, {})]


def test_the_reference_file_loads_without_any_environment() -> None:
    config = load(ROOT / "config.yaml", {})

    assert ["local", "echo"] == list(config.upstreams)
    assert ["openai"] == list(config.disabled)
    assert (
        "upstreams.openai: disabled, since env:OPENAI_API_KEY is not set, or empty",
        "keys.0: the key 'ci' is disabled, since env:CI_RELAY_KEY is not set, or empty",
    ) == config.warnings


def test_the_reference_file_names_every_field() -> None:
    text = (ROOT / "config.yaml").read_text()
    fields = {name for shape in Shape.__subclasses__() for name in shape.model_fields}

    assert {"api_version"} == {name for name in fields if f"{name}:" not in text}


def test_a_relays_key_in_the_environment_never_goes_to_openai() -> None:
    config = load(None, {"OPENAI_API_KEY": "sk-relay-abcdefghij"})

    assert {"echo"} == set(config.upstreams)
    assert {"openai": "env:OPENAI_API_KEY holds a key of a relay, not of OpenAI"} == config.disabled


def test_kinds_that_are_not_served_yet_disable_their_upstream_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "upstreams:\n"
        "  azure: {kind: azure, base_url: https://x.openai.azure.com, api_key: env:K, api_version: 2024-10-21}\n"
        "  claude: {kind: anthropic, api_key: env:K}\n"
        "models: {smart: [azure/gpt-4.1, claude/opus]}\n"
    )

    config = load(path, {"K": "secret"})

    assert {"azure", "claude"} == set(config.disabled)
    assert {"echo"} == set(config.upstreams)


def test_a_secret_file_that_is_there_and_cannot_be_read_is_a_fault_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"upstreams: {{a: {{base_url: 'http://a', api_key: 'file:{tmp_path}'}}}}\n")  # a folder

    with pytest.raises(SetupFault, match=r"config.yaml:1: upstreams.a.api_key: .* cannot be read: Is a directory"):
        load(path, {})
