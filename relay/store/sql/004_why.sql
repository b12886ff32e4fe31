DROP VIEW log;

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
    json_extract(record, '$[24]') AS edits,
    json_extract(record, '$[25]') AS limits,
    json_extract(record, '$[26]') AS why
FROM requests;
