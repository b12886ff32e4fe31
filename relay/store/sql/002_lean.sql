-- seq is the order of arrival, which `relay tail` follows; it is never used twice. record is the record as the journal
-- has it, a JSON array of its fields; the columns before it repeat what is looked for.
CREATE TABLE lean (
    seq INTEGER PRIMARY KEY,
    started_at INTEGER NOT NULL,
    key TEXT,
    alias TEXT,
    model TEXT,
    status INTEGER NOT NULL,
    record TEXT NOT NULL
);

INSERT INTO meta (name, value) SELECT 'last_seq', seq FROM sqlite_sequence WHERE name = 'requests';

INSERT INTO lean (seq, started_at, key, alias, model, status, record)
SELECT seq, started_at, key, alias, model, status, json_array(
    id, started_at, key, alias, upstream, model, endpoint, json(iif(stream, 'true', 'false')), status, outcome, error,
    ttft_ms, duration_ms, overhead_us, input_tokens, output_tokens, cached_tokens, reasoning_tokens, cost_nano,
    usage_source, bytes_out, client, json(tags), json(tries), json(edits)
)
FROM requests ORDER BY seq;

DROP TABLE requests;

ALTER TABLE lean RENAME TO requests;

-- An id begins with its time, so it is found by this as well.
CREATE INDEX requests_by_time ON requests (started_at, key, alias, model, status);

-- How far each segment of the journal was read.
CREATE TABLE places (
    segment TEXT PRIMARY KEY,
    place INTEGER NOT NULL
) WITHOUT ROWID;

-- For people who ask in SQL: a column for each of a record's fields.
CREATE VIEW log AS SELECT
    json_extract(record, '$[0]') AS id,
    started_at,
    key,
    alias,
    json_extract(record, '$[4]') AS upstream,
    model,
    json_extract(record, '$[6]') AS endpoint,
    json_extract(record, '$[7]') AS stream,
    status,
    json_extract(record, '$[9]') AS outcome,
    json_extract(record, '$[10]') AS error,
    json_extract(record, '$[11]') AS ttft_ms,
    json_extract(record, '$[12]') AS duration_ms,
    json_extract(record, '$[13]') AS overhead_us,
    json_extract(record, '$[14]') AS input_tokens,
    json_extract(record, '$[15]') AS output_tokens,
    json_extract(record, '$[16]') AS cached_tokens,
    json_extract(record, '$[17]') AS reasoning_tokens,
    json_extract(record, '$[18]') AS cost_nano,
    json_extract(record, '$[19]') AS usage_source,
    json_extract(record, '$[20]') AS bytes_out,
    json_extract(record, '$[21]') AS client,
    json_extract(record, '$[22]') AS tags,
    json_extract(record, '$[23]') AS tries,
    json_extract(record, '$[24]') AS edits
FROM requests;
