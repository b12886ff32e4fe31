-- A row is a page: records that came together, as one JSON array of theirs. `first` is the place of the first of them in
-- the order of arrival, which `relay tail` follows, and by which a record's bodies are found; no place is used twice.
CREATE TABLE pages (
    first INTEGER PRIMARY KEY,
    number INTEGER NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER NOT NULL,
    records TEXT NOT NULL
);

-- What filters look at: each combination that some record of a page has.
CREATE TABLE facets (
    page INTEGER NOT NULL,
    nth INTEGER NOT NULL,
    key TEXT,
    alias TEXT,
    model TEXT,
    status INTEGER NOT NULL,
    PRIMARY KEY (page, nth)
) WITHOUT ROWID;

-- The answers of a page, one behind the other: together they are packed better, and in a fifth of the time.
CREATE TABLE answers (
    page INTEGER PRIMARY KEY,
    size INTEGER NOT NULL,
    data BLOB NOT NULL
);

-- Where among them an answer begins; NULL: it is in `response`, as older versions had it, or not kept.
ALTER TABLE bodies ADD COLUMN begin INTEGER;

INSERT INTO pages (first, number, since, until, records)
SELECT seq, 1, started_at, started_at, '[' || record || ']' FROM requests ORDER BY seq;

INSERT INTO facets (page, nth, key, alias, model, status)
SELECT seq, 0, key, alias, model, status FROM requests ORDER BY seq;

DROP VIEW log;

DROP TABLE requests;

CREATE INDEX pages_by_time ON pages (until, since);

-- For people who ask in SQL: a column for each of a record's fields.
CREATE VIEW log AS SELECT
    json_extract(value, '$[0]') AS id,
    json_extract(value, '$[1]') AS started_at,
    json_extract(value, '$[2]') AS key,
    json_extract(value, '$[3]') AS alias,
    json_extract(value, '$[4]') AS upstream,
    json_extract(value, '$[5]') AS model,
    json_extract(value, '$[6]') AS endpoint,
    json_extract(value, '$[7]') AS stream,
    json_extract(value, '$[8]') AS status,
    json_extract(value, '$[9]') AS outcome,
    json_extract(value, '$[10]') AS error,
    json_extract(value, '$[11]') AS ttft_ms,
    json_extract(value, '$[12]') AS duration_ms,
    json_extract(value, '$[13]') AS overhead_us,
    json_extract(value, '$[14]') AS input_tokens,
    json_extract(value, '$[15]') AS output_tokens,
    json_extract(value, '$[16]') AS cached_tokens,
    json_extract(value, '$[17]') AS reasoning_tokens,
    json_extract(value, '$[18]') AS cost_nano,
    json_extract(value, '$[19]') AS usage_source,
    json_extract(value, '$[20]') AS bytes_out,
    json_extract(value, '$[21]') AS client,
    json_extract(value, '$[22]') AS tags,
    json_extract(value, '$[23]') AS tries,
    json_extract(value, '$[24]') AS edits,
    json_extract(value, '$[25]') AS limits,
    json_extract(value, '$[26]') AS why
FROM pages, json_each(pages.records);
