-- The W3C trace context of the request that wrote the row; null where nothing was traced.
ALTER TABLE outbox ADD COLUMN traceparent text;
