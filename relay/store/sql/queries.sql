-- known_requests: Those of a JSON list of ids that are there already.
SELECT id FROM requests WHERE id IN (SELECT value FROM json_each(?));

-- next_seq: The place of the next request. No place is used twice, also when the last ones are purged.
SELECT coalesce(max(seq), 0) + 1 AS seq FROM sqlite_sequence WHERE name = 'requests';

-- insert_requests: One row a record.
INSERT INTO requests (
    seq, id, started_at, key, alias, upstream, model, endpoint, stream, status, outcome, error, ttft_ms, duration_ms,
    overhead_us, input_tokens, output_tokens, cached_tokens, reasoning_tokens, cost_nano, usage_source, bytes_out, client,
    tags, tries, edits
)
VALUES /* rows */;

-- insert_bodies: What is kept of one request's bodies.
INSERT INTO bodies (seq, request, response, response_size, truncated) VALUES (?, ?, ?, ?, ?);

-- touch_span: A span that is there already lasts at least as long as its newest request.
UPDATE spans SET day = max(day, :day) WHERE hash = :hash;

-- insert_span: A span that is new.
INSERT INTO spans (hash, day, size, data) VALUES (?, ?, ?, ?);

-- requests: Newest first, from where the page before ended; `filters` are those of the three below that are asked for.
SELECT * FROM requests
WHERE started_at >= :since AND started_at <= :until AND (started_at < :until OR id < :last) /* filters */
ORDER BY started_at DESC, id DESC;

-- arrivals: In the order in which they were inserted, from a place on.
SELECT * FROM requests WHERE seq > :place /* filters */ ORDER BY seq LIMIT :limit;

-- of_key: A filter.
AND key = :key;

-- of_model: A filter.
AND :model IN (model, alias);

-- of_status: A filter.
AND status BETWEEN :status_from AND :status_to;

-- newest_arrival: The place of the last request that was inserted.
SELECT coalesce(max(seq), 0) AS seq FROM requests;

-- request: Those whose id is or begins with a name: two are enough to see that it is not unique.
SELECT * FROM requests WHERE id >= :name AND id < :name || char(1114111) ORDER BY id LIMIT 2;

-- bodies: What is kept of one request's bodies.
SELECT b.request, b.response, b.response_size, b.truncated FROM requests r LEFT JOIN bodies b ON b.seq = r.seq WHERE r.id = ?;

-- span: The content of one span.
SELECT size, data FROM spans WHERE hash = ?;

-- purge_bodies: The bodies of at most 500 requests of those that started before a moment.
DELETE FROM bodies WHERE seq IN (SELECT seq FROM requests WHERE started_at < ? ORDER BY started_at, seq LIMIT 500);

-- purge_requests: The same requests themselves.
DELETE FROM requests WHERE seq IN (SELECT seq FROM requests WHERE started_at < ? ORDER BY started_at, seq LIMIT 500);

-- purge_spans: At most 500 spans that no request from a day on can have.
DELETE FROM spans WHERE rowid IN (SELECT rowid FROM spans WHERE day < ? LIMIT 500);

-- add_key: One key, by its digest alone.
INSERT INTO keys (id, name, digest, models, rpm, tpm, concurrency, budget, expires_at, revoked_at, log, created_at)
VALUES (:id, :name, :digest, :models, :rpm, :tpm, :concurrency, :budget, :expires_at, :revoked_at, :log, :created_at);

-- keys: Every key, oldest first.
SELECT * FROM keys ORDER BY created_at, rowid;

-- revoke_key: By its id, or by its name where that key is still in force.
UPDATE keys SET revoked_at = :moment WHERE revoked_at IS NULL AND :name IN (id, name);

-- bump_keys: Tell whoever holds keys in memory that they have changed.
UPDATE meta SET value = value + 1 WHERE name = 'keys_version';

-- get_meta: One fact about the store.
SELECT value FROM meta WHERE name = ?;

-- set_meta: Remember one fact about the store.
INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value;
