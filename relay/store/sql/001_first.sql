CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

INSERT INTO meta (name, value) VALUES ('keys_version', '1');

CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    digest BLOB NOT NULL,
    models TEXT,
    rpm INTEGER,
    tpm INTEGER,
    concurrency INTEGER,
    budget TEXT,
    expires_at INTEGER,
    revoked_at INTEGER,
    log TEXT,
    created_at INTEGER NOT NULL
);

CREATE UNIQUE INDEX keys_in_force ON keys (name) WHERE revoked_at IS NULL;

-- seq is the order of arrival, which `relay tail` follows; it is never used twice.
CREATE TABLE requests (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    started_at INTEGER NOT NULL,
    key TEXT,
    alias TEXT,
    upstream TEXT,
    model TEXT,
    endpoint TEXT NOT NULL,
    stream INTEGER NOT NULL,
    status INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    error TEXT,
    ttft_ms REAL,
    duration_ms REAL NOT NULL,
    overhead_us INTEGER NOT NULL,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cached_tokens INTEGER,
    reasoning_tokens INTEGER,
    cost_nano INTEGER,
    usage_source TEXT NOT NULL,
    bytes_out INTEGER NOT NULL,
    client TEXT,
    tags TEXT NOT NULL,
    tries TEXT NOT NULL,
    edits TEXT NOT NULL
);

CREATE INDEX requests_by_time ON requests (started_at);
CREATE INDEX requests_by_key ON requests (key, started_at);

-- request is a list of spans, 16 bytes of hash each; response is itself, since no two are alike. NULL: not kept.
-- Here and in spans, data is zstd where it is shorter than its size.
CREATE TABLE bodies (
    seq INTEGER PRIMARY KEY,
    request BLOB,
    response BLOB,
    response_size INTEGER,
    truncated TEXT NOT NULL
);

-- day is the last day (since 1970) of a request that has the span.
CREATE TABLE spans (
    hash BLOB NOT NULL UNIQUE,
    day INTEGER NOT NULL,
    size INTEGER NOT NULL,
    data BLOB NOT NULL
);

CREATE INDEX spans_by_day ON spans (day);
