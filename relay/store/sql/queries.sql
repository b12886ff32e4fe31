-- next_place: The place of the next record. None is used twice, also when the last ones are purged.
SELECT 1 + max(
    coalesce((SELECT first + number - 1 FROM pages ORDER BY first DESC LIMIT 1), 0),
    coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'last_seq'), 0)
) AS place;

-- note_last_place: The place of the last record, before it may be purged.
INSERT INTO meta (name, value) SELECT 'last_seq', first + number - 1 FROM pages
WHERE first = (SELECT max(first) FROM pages)
ON CONFLICT (name) DO UPDATE SET value = max(CAST(value AS INTEGER), CAST(excluded.value AS INTEGER));

-- insert_page: The records that came together.
INSERT INTO pages (first, number, since, until, records) VALUES (?, ?, ?, ?, ?);

-- insert_facets: What filters look at in a page.
INSERT INTO facets (page, nth, key, alias, model, status)
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
INSERT INTO bodies (seq, request, begin, response_size, truncated)
VALUES /* rows */;

-- insert_answers: The answers of a page, packed.
INSERT INTO answers (page, size, data) VALUES (?, ?, ?);

-- touch_span: A span that is there already lasts at least as long as its newest request.
UPDATE spans SET day = max(day, :day) WHERE hash = :hash;

-- insert_span: A span that is new.
INSERT INTO spans (hash, day, size, data) VALUES (?, ?, ?, ?);

-- pages: In which there may be records of that time, the one that goes on the longest first; `filters` are those asked for.
SELECT first, until, records FROM pages
WHERE until >= :since AND since <= :until AND (/* filters */)
ORDER BY until DESC, first DESC;

-- arrivals: The pages behind a place, and the one in which it is.
SELECT first, records FROM pages
WHERE first >= coalesce((SELECT max(first) FROM pages WHERE first <= :place), 0) AND (/* filters */)
ORDER BY first;

-- some: The pages with a record that all filters let through.
EXISTS (SELECT 1 FROM facets WHERE page = first /* asked */)

-- of_key: A filter.
AND key = :key

-- of_model: A filter.
AND (:model IN (model, alias) OR model = :served)

-- of_status: A filter.
AND status BETWEEN :status_from AND :status_to

-- newest_arrival: The place of the last record that was inserted.
SELECT coalesce((SELECT first + number - 1 FROM pages ORDER BY first DESC LIMIT 1), 0) AS place;

-- request: The pages of some time in which an id begins so. What is looked for whole is mostly in one of the first.
SELECT first, records FROM pages
WHERE until >= :first AND since <= :last AND instr(records, :begin)
ORDER BY until LIMIT :most;

-- bodies: What is kept of one request's bodies.
SELECT request, response, response_size, begin, truncated FROM bodies WHERE seq = ?;

-- answers: Those of the page in which a place is.
SELECT page, size, data FROM answers WHERE page = (SELECT max(first) FROM pages WHERE first <= ?);

-- span: The content of one span.
SELECT size, data FROM spans WHERE hash = ?;

-- old_pages: The oldest of those that have nothing from a moment on, at most 500.
SELECT first, number FROM pages WHERE until < ? ORDER BY until, first LIMIT 500;

-- purge_bodies: The bodies of a page.
DELETE FROM bodies WHERE seq BETWEEN ? AND ?;

-- purge_answers: The answers of a page.
DELETE FROM answers WHERE page = ?;

-- purge_facets: The facets of a page.
DELETE FROM facets WHERE page = ?;

-- purge_page: A page.
DELETE FROM pages WHERE first = ?;

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
