-- The views: their columns, in this order, with these types, each with a
-- comment.  Monitoring is built on them, so a change here is a change for users.
SET client_min_messages = warning;
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS pg_tandem;

CREATE TEMPORARY TABLE wanted (view name, columns text);
INSERT INTO wanted VALUES
('status',
	'node_name text, role text, term bigint, incarnation integer, timeline integer, state text,
	 since timestamptz, reason text, released_lsn pg_lsn, capture text, capture_reason text,
	 unreplicated_commits bigint, rdma text'),
('links',
	'name text, address text, transport text, encrypted boolean, state text, mode text,
	 in_sync boolean, sent_lsn pg_lsn, written_lsn pg_lsn, flushed_lsn pg_lsn, replayed_lsn pg_lsn,
	 lag_bytes bigint, exposure_bytes bigint, exposure interval, write_lag interval, flush_lag interval, replay_lag interval,
	 wal_bytes bigint, wire_bytes bigint, compression text, compression_ratio float8,
	 compression_cpu interval, congestion text, max_rate bigint, round_trip interval, since timestamptz,
	 last_reply timestamptz, connects bigint, slot_name text, backlog_bytes bigint, backlog_limit bigint,
	 backlog_time_left interval, pid integer, nice integer, walsender_pid integer,
	 last_error text, transport_reason text, rdma_memory bigint, rdma_completions bigint,
	 rdma_bytes bigint, rdma_fallbacks bigint, rdma_last_fallback text, rdma_credit_waits bigint'),
('receiver',
	'state text, since timestamptz, primary_name text, address text, transport text,
	 encrypted boolean, written_lsn pg_lsn, durable_lsn pg_lsn, bound_lsn pg_lsn,
	 replayed_lsn pg_lsn, wal_bytes bigint, flushes bigint, connects bigint,
	 last_message timestamptz, pid integer, nice integer, last_error text, transport_reason text,
	 rdma_memory bigint, rdma_completions bigint, rdma_bytes bigint, rdma_fallbacks bigint,
	 rdma_last_fallback text'),
('capture',
	'point text, reason text, writes bigint, short_writes bigint, bytes_before_flush bigint,
	 bytes_at_flush bigint, lead_median interval, lead_p99 interval, records_walked bigint,
	 walked_lsn pg_lsn, walk_stop text, walks_ended bigint, wakeups bigint, reads bigint'),
('events',
	'id bigint, time timestamptz, kind text, name text, message text');

-- One row for each column that is wanted.
CREATE TEMPORARY VIEW wanted_column AS
SELECT view, position, split_part(btrim(def, E' \n\t'), ' ', 1)::name AS name,
	   split_part(btrim(def, E' \n\t'), ' ', 2)::regtype::text AS type
  FROM wanted, unnest(string_to_array(columns, ',')) WITH ORDINALITY AS c (def, position);

SELECT plan(2 + (SELECT count(*) FROM wanted)::int * 4 + (SELECT count(*) FROM wanted_column)::int * 2);

SELECT has_schema('tandem');
SELECT views_are('tandem', (SELECT array_agg(view) FROM wanted), 'these are the views of tandem');

SELECT columns_are('tandem', view, (SELECT array_agg(name) FROM wanted_column c WHERE c.view = w.view),
				   format('the view tandem.%s has these columns and no others', view))
  FROM wanted w;
SELECT is((SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute
			WHERE attrelid = ('tandem.' || view)::regclass AND attnum > 0),
		  (SELECT array_agg(name ORDER BY position) FROM wanted_column c WHERE c.view = w.view),
		  format('the columns of tandem.%s are in this order', view))
  FROM wanted w;
SELECT col_type_is('tandem', view, name, type, format('tandem.%s.%s is of type %s', view, name, type))
  FROM wanted_column;

SELECT isnt(obj_description(('tandem.' || view)::regclass, 'pg_class'), NULL,
			format('the view tandem.%s has a comment', view))
  FROM wanted;
SELECT isnt(col_description(('tandem.' || view)::regclass, attnum), NULL,
			format('the column tandem.%s.%s has a comment', view, name))
  FROM wanted_column JOIN pg_attribute ON attrelid = ('tandem.' || view)::regclass AND attname = name;

-- A view is no more than its function: a program may call either.
SELECT results_eq(
		   format('SELECT attname, atttypid::regtype FROM pg_attribute
					WHERE attrelid = %L::regclass AND attnum > 0 ORDER BY attnum', 'tandem.' || view),
		   format('SELECT unnest(proargnames)::name, unnest(proallargtypes)::regtype
					 FROM pg_proc WHERE oid = %L::regprocedure', 'tandem.get_' || view || '()'),
		   format('tandem.get_%s() gives the columns of tandem.%s', view, view))
  FROM wanted;

SELECT * FROM finish();
ROLLBACK;
