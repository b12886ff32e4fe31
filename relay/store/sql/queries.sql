-- next_seq: The place of the next request. No place is used twice, also when the last ones are purged.
SELECT 1 + max(
    coalesce((SELECT max(seq) FROM requests), 0),
    coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'last_seq'), 0)
) AS seq;

-- note_last_seq: The place of the last request, before it may be purged.
INSERT INTO meta (name, value) SELECT 'last_seq', max(seq) FROM requests HAVING max(seq) NOT NULL
ON CONFLICT (name) DO UPDATE SET value = max(CAST(value AS INTEGER), CAST(excluded.value AS INTEGER));

-- insert_requests: One row a record.
INSERT INTO requests (seq, started_at, key, alias, model, status, record)
VALUES /* rows */;

-- place: How far a segment was read.
SELECT place FROM places WHERE segment = ?;

-- begin_segment: One of which nothing was read yet.
INSERT INTO places (segment, place) VALUES (?, 0) ON CONFLICT DO NOTHING;

-- move_place: On from where it is, and from nowhere else.
UPDATE places SET place = :end WHERE segment = :segment AND place = :offset;

-- segments: All that have a place.
SELECT segment FROM places;

-- forget_segment: One whose file is gone.
DELETE FROM places WHERE segment = ?;

-- insert_bodies: What is kept of one request's bodies.
INSERT INTO bodies (seq, request, response, response_size, truncated)
VALUES /* rows */;

-- touch_span: A span that is there already lasts at least as long as its newest request.
UPDATE spans SET day = max(day, :day) WHERE hash = :hash;

-- insert_span: A span that is new.
INSERT INTO spans (hash, day, size, data) VALUES (?, ?, ?, ?);

-- requests: Newest first, by id (a record begins with it) from where the page before ended; `filters` are those asked for.
SELECT seq, record FROM requests
WHERE started_at >= :since AND started_at <= :until AND (started_at < :until OR record < :last) /* filters */
ORDER BY started_at DESC, record DESC;

-- arrivals: In the order in which they were inserted, from a place on.
SELECT seq, record FROM requests WHERE seq > :place /* filters */ ORDER BY seq LIMIT :limit;

-- of_key: A filter.
AND key = :key;

-- of_model: A filter.
AND :model IN (model, alias);

-- of_status: A filter.
AND status BETWEEN :status_from AND :status_to;

-- newest_arrival: The place of the last request that was inserted.
SELECT coalesce(max(seq), 0) AS seq FROM requests;

-- request: Those that began in some time and whose record begins so: two are enough to see that it is not unique.
SELECT seq, record FROM requests
WHERE started_at BETWEEN :first AND :last AND substr(record, 1, length(:begin)) = :begin
LIMIT 2;

-- bodies: What is kept of one request's bodies.
SELECT request, response, response_size, truncated FROM bodies WHERE seq = ?;

-- span: The content of one span.
SELECT size, data FROM spans WHERE hash = ?;

-- purge_bodies: The bodies of at most 500 requests of those that started before a moment.
DELETE FROM bodies WHERE seq IN (SELECT seq FROM requests WHERE started_at < ? ORDER BY started_at, seq LIMIT 500);

-- purge_requests: The same requests themselves.
DELETE FROM requests WHERE seq IN (SELECT seq FROM requests WHERE started_at < ? ORDER BY started_at, seq LIMIT 500);

-- purge_spans: At most 500 spans that no request from a day on can have.
DELETE FROM spans WHERE rowid IN (SELECT rowid FROM spans WHERE day < ? LIMIT 500);

-- add_key: One key, by its digest alone.
INSERT INTO keys (
    id, name, digest, models, rpm, tpm, concurrency, budget, expires_at, revoked_at, log, created_at, tags
)
VALUES (
    :id, :name, :digest, :models, :rpm, :tpm, :concurrency, :budget, :expires_at, :revoked_at, :log, :created_at, :tags
);

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
