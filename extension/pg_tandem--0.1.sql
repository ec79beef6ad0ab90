/* pg_tandem 0.1 */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION pg_tandem" to load this file. \quit

CREATE SCHEMA tandem;

CREATE FUNCTION tandem.get_status(
	OUT node_name text,
	OUT role text,
	OUT term bigint,
	OUT incarnation integer,
	OUT timeline integer,
	OUT state text,
	OUT since timestamptz,
	OUT reason text,
	OUT released_lsn pg_lsn,
	OUT capture text,
	OUT capture_reason text,
	OUT unreplicated_commits bigint,
	OUT rdma text)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'tandem_status'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE;

CREATE FUNCTION tandem.get_links(
	OUT name text,
	OUT address text,
	OUT transport text,
	OUT encrypted boolean,
	OUT state text,
	OUT mode text,
	OUT in_sync boolean,
	OUT sent_lsn pg_lsn,
	OUT written_lsn pg_lsn,
	OUT flushed_lsn pg_lsn,
	OUT replayed_lsn pg_lsn,
	OUT lag_bytes bigint,
	OUT exposure_bytes bigint,
	OUT exposure interval,
	OUT write_lag interval,
	OUT flush_lag interval,
	OUT replay_lag interval,
	OUT wal_bytes bigint,
	OUT wire_bytes bigint,
	OUT compression text,
	OUT compression_ratio double precision,
	OUT compression_cpu interval,
	OUT congestion text,
	OUT max_rate bigint,
	OUT round_trip interval,
	OUT since timestamptz,
	OUT last_reply timestamptz,
	OUT connects bigint,
	OUT slot_name text,
	OUT backlog_bytes bigint,
	OUT backlog_limit bigint,
	OUT backlog_time_left interval,
	OUT pid integer,
	OUT nice integer,
	OUT walsender_pid integer,
	OUT last_error text,
	OUT transport_reason text,
	OUT rdma_memory bigint,
	OUT rdma_completions bigint,
	OUT rdma_bytes bigint,
	OUT rdma_fallbacks bigint,
	OUT rdma_last_fallback text,
	OUT rdma_credit_waits bigint)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'tandem_links'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE;

CREATE FUNCTION tandem.get_receiver(
	OUT state text,
	OUT since timestamptz,
	OUT primary_name text,
	OUT address text,
	OUT transport text,
	OUT encrypted boolean,
	OUT written_lsn pg_lsn,
	OUT durable_lsn pg_lsn,
	OUT bound_lsn pg_lsn,
	OUT replayed_lsn pg_lsn,
	OUT wal_bytes bigint,
	OUT flushes bigint,
	OUT connects bigint,
	OUT last_message timestamptz,
	OUT pid integer,
	OUT nice integer,
	OUT last_error text,
	OUT transport_reason text,
	OUT rdma_memory bigint,
	OUT rdma_completions bigint,
	OUT rdma_bytes bigint,
	OUT rdma_fallbacks bigint,
	OUT rdma_last_fallback text)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'tandem_receiver'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE;

CREATE FUNCTION tandem.get_capture(
	OUT point text,
	OUT reason text,
	OUT writes bigint,
	OUT short_writes bigint,
	OUT bytes_before_flush bigint,
	OUT bytes_at_flush bigint,
	OUT lead_median interval,
	OUT lead_p99 interval,
	OUT records_walked bigint,
	OUT walked_lsn pg_lsn,
	OUT walk_stop text,
	OUT walks_ended bigint,
	OUT wakeups bigint,
	OUT reads bigint)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'tandem_capture'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE;

CREATE FUNCTION tandem.get_events(
	OUT id bigint,
	OUT "time" timestamptz,
	OUT kind text,
	OUT name text,
	OUT message text)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'tandem_events'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE;

CREATE VIEW tandem.status AS SELECT * FROM tandem.get_status();
CREATE VIEW tandem.links AS SELECT * FROM tandem.get_links();
CREATE VIEW tandem.receiver AS SELECT * FROM tandem.get_receiver();
CREATE VIEW tandem.capture AS SELECT * FROM tandem.get_capture();
CREATE VIEW tandem.events AS SELECT * FROM tandem.get_events();

CREATE FUNCTION tandem.pause_link(name text) RETURNS void
AS 'MODULE_PATHNAME', 'tandem_pause_link'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE FUNCTION tandem.resume_link(name text) RETURNS void
AS 'MODULE_PATHNAME', 'tandem_resume_link'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE FUNCTION tandem.set_alone(reason text) RETURNS void
AS 'MODULE_PATHNAME', 'tandem_set_alone'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE FUNCTION tandem.set_in_sync() RETURNS void
AS 'MODULE_PATHNAME', 'tandem_set_in_sync'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE FUNCTION tandem.wait_for(lsn pg_lsn, timeout interval) RETURNS boolean
AS 'MODULE_PATHNAME', 'tandem_wait_for'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

REVOKE ALL ON FUNCTION tandem.get_status() FROM PUBLIC;
REVOKE ALL ON FUNCTION tandem.get_links() FROM PUBLIC;
REVOKE ALL ON FUNCTION tandem.get_receiver() FROM PUBLIC;
REVOKE ALL ON FUNCTION tandem.get_capture() FROM PUBLIC;
REVOKE ALL ON FUNCTION tandem.get_events() FROM PUBLIC;
REVOKE ALL ON FUNCTION tandem.pause_link(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION tandem.resume_link(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION tandem.set_alone(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION tandem.set_in_sync() FROM PUBLIC;
REVOKE ALL ON FUNCTION tandem.wait_for(pg_lsn, interval) FROM PUBLIC;

GRANT USAGE ON SCHEMA tandem TO pg_monitor;
GRANT SELECT ON tandem.status, tandem.links, tandem.receiver, tandem.capture, tandem.events
	TO pg_monitor;
GRANT EXECUTE ON FUNCTION tandem.get_status(), tandem.get_links(), tandem.get_receiver(),
	tandem.get_capture(), tandem.get_events(), tandem.wait_for(pg_lsn, interval) TO pg_monitor;

COMMENT ON SCHEMA tandem IS 'pg_tandem: two servers, one database';
COMMENT ON FUNCTION tandem.get_status() IS 'rows of the view tandem.status';
COMMENT ON FUNCTION tandem.get_links() IS 'rows of the view tandem.links';
COMMENT ON FUNCTION tandem.get_receiver() IS 'rows of the view tandem.receiver';
COMMENT ON FUNCTION tandem.get_capture() IS 'rows of the view tandem.capture';
COMMENT ON FUNCTION tandem.get_events() IS 'rows of the view tandem.events';
COMMENT ON FUNCTION tandem.pause_link(text) IS 'stop sending WAL to a standby; it no longer counts for commits';
COMMENT ON FUNCTION tandem.resume_link(text) IS 'send WAL to a paused standby again';
COMMENT ON FUNCTION tandem.set_alone(text) IS 'let commits go on local durability only';
COMMENT ON FUNCTION tandem.set_in_sync() IS 'let commits wait for a standby again';
COMMENT ON FUNCTION tandem.wait_for(pg_lsn, interval) IS 'wait until WAL up to lsn is released by the gate, or on a standby replayed; false on timeout';

COMMENT ON VIEW tandem.status IS 'this node: role, term, and whether commits wait for a standby';
COMMENT ON COLUMN tandem.status.node_name IS 'tandem.node_name of this node';
COMMENT ON COLUMN tandem.status.role IS 'primary or standby';
COMMENT ON COLUMN tandem.status.term IS 'grows with every change of primary';
COMMENT ON COLUMN tandem.status.incarnation IS 'start of the primary within its term';
COMMENT ON COLUMN tandem.status.timeline IS 'timeline being written or replayed';
COMMENT ON COLUMN tandem.status.state IS 'in sync: commits wait for a standby; alone: they wait for the local flush only; stalled: they are held; null on a standby';
COMMENT ON COLUMN tandem.status.since IS 'when the state began';
COMMENT ON COLUMN tandem.status.reason IS 'why the state began';
COMMENT ON COLUMN tandem.status.released_lsn IS 'commits up to here may be acknowledged';
COMMENT ON COLUMN tandem.status.capture IS 'where WAL is captured: write or flush';
COMMENT ON COLUMN tandem.status.capture_reason IS 'why it is captured there';
COMMENT ON COLUMN tandem.status.unreplicated_commits IS 'commits acknowledged without a standby because their wait was canceled, since the start';

COMMENT ON COLUMN tandem.status.rdma IS 'whether this pg_tandem was built with RDMA';

COMMENT ON VIEW tandem.links IS 'the standbys of this primary';
COMMENT ON COLUMN tandem.links.name IS 'tandem.node_name of the standby';
COMMENT ON COLUMN tandem.links.address IS 'address and port the standby connects from';
COMMENT ON COLUMN tandem.links.transport IS 'what carries the WAL: tcp or rdma';
COMMENT ON COLUMN tandem.links.encrypted IS 'whether the WAL is encrypted on its way';
COMMENT ON COLUMN tandem.links.state IS 'down, catching up, streaming, paused, handing over (to the walsender, at shutdown), or needs resync (down, and its slot keeps no WAL any more)';
COMMENT ON COLUMN tandem.links.mode IS 'sync: commits may wait for it; async: they never do';
COMMENT ON COLUMN tandem.links.in_sync IS 'whether it holds every commit that was acknowledged';
COMMENT ON COLUMN tandem.links.sent_lsn IS 'WAL sent';
COMMENT ON COLUMN tandem.links.written_lsn IS 'WAL written by the standby';
COMMENT ON COLUMN tandem.links.flushed_lsn IS 'WAL durable on the standby';
COMMENT ON COLUMN tandem.links.replayed_lsn IS 'WAL replayed by the standby';
COMMENT ON COLUMN tandem.links.lag_bytes IS 'WAL flushed here and not durable there, in bytes';
COMMENT ON COLUMN tandem.links.exposure_bytes IS 'WAL released by the gate and not durable there: what would be lost if the standby took over now, in bytes';
COMMENT ON COLUMN tandem.links.exposure IS 'how long ago the oldest of it was flushed here: what would be lost, in time';
COMMENT ON COLUMN tandem.links.write_lag IS 'time from sending WAL to hearing that it is written';
COMMENT ON COLUMN tandem.links.flush_lag IS 'time from sending WAL to hearing that it is durable';
COMMENT ON COLUMN tandem.links.replay_lag IS 'time from sending WAL to hearing that it is replayed';
COMMENT ON COLUMN tandem.links.wal_bytes IS 'bytes of WAL sent since the start';
COMMENT ON COLUMN tandem.links.wire_bytes IS 'bytes given to the transport since the start';
COMMENT ON COLUMN tandem.links.compression IS 'compression in force: none, lz4, or zstd with its level';
COMMENT ON COLUMN tandem.links.compression_ratio IS 'WAL compressed since the start, divided by what it became';
COMMENT ON COLUMN tandem.links.compression_cpu IS 'CPU time spent on compression since the start';
COMMENT ON COLUMN tandem.links.congestion IS 'TCP congestion control in force';
COMMENT ON COLUMN tandem.links.max_rate IS 'limit of the sending rate in force, bytes a second; null: none';
COMMENT ON COLUMN tandem.links.round_trip IS 'round trip of the last keepalive';
COMMENT ON COLUMN tandem.links.since IS 'when the state began';
COMMENT ON COLUMN tandem.links.last_reply IS 'when the standby was last heard';
COMMENT ON COLUMN tandem.links.connects IS 'times the link was opened since the start';
COMMENT ON COLUMN tandem.links.slot_name IS 'replication slot that keeps WAL for the standby';
COMMENT ON COLUMN tandem.links.backlog_bytes IS 'WAL that the slot keeps for the standby, in bytes';
COMMENT ON COLUMN tandem.links.backlog_limit IS 'how much it may keep: max_backlog of the link or max_slot_wal_keep_size, the smaller one; null: no limit';
COMMENT ON COLUMN tandem.links.backlog_time_left IS 'when the limit is reached if it grows as it does; null if it does not grow';
COMMENT ON COLUMN tandem.links.pid IS 'link worker';
COMMENT ON COLUMN tandem.links.nice IS 'its nice value: tandem.nice, or as near to it as RLIMIT_NICE permits';
COMMENT ON COLUMN tandem.links.walsender_pid IS 'walsender that admitted the standby; idle while the link is up';
COMMENT ON COLUMN tandem.links.last_error IS 'why the link ended last';
COMMENT ON COLUMN tandem.links.transport_reason IS 'the RDMA device in use, or why RDMA is not';
COMMENT ON COLUMN tandem.links.rdma_memory IS 'bytes of memory registered here for RDMA';
COMMENT ON COLUMN tandem.links.rdma_completions IS 'RDMA writes completed since the start';
COMMENT ON COLUMN tandem.links.rdma_bytes IS 'bytes sent by RDMA since the start';
COMMENT ON COLUMN tandem.links.rdma_fallbacks IS 'times RDMA was left for TCP since the start';
COMMENT ON COLUMN tandem.links.rdma_last_fallback IS 'why it was left last';
COMMENT ON COLUMN tandem.links.rdma_credit_waits IS 'times a frame had to wait for room in the ring since the start';

COMMENT ON VIEW tandem.receiver IS 'this standby: its link to the primary, and how far WAL is here';
COMMENT ON COLUMN tandem.receiver.state IS 'streaming, connecting, streaming without the link, or none';
COMMENT ON COLUMN tandem.receiver.since IS 'when the state began';
COMMENT ON COLUMN tandem.receiver.primary_name IS 'tandem.node_name of the primary';
COMMENT ON COLUMN tandem.receiver.address IS 'address and port of the link';
COMMENT ON COLUMN tandem.receiver.transport IS 'what carries the WAL: tcp or rdma';
COMMENT ON COLUMN tandem.receiver.encrypted IS 'whether the WAL is encrypted on its way';
COMMENT ON COLUMN tandem.receiver.written_lsn IS 'WAL received and written';
COMMENT ON COLUMN tandem.receiver.durable_lsn IS 'WAL received and durable: what a promotion would replay';
COMMENT ON COLUMN tandem.receiver.bound_lsn IS 'WAL durable on the primary: recovery is shown no more';
COMMENT ON COLUMN tandem.receiver.replayed_lsn IS 'WAL replayed';
COMMENT ON COLUMN tandem.receiver.wal_bytes IS 'bytes of WAL received over the link by this walreceiver';
COMMENT ON COLUMN tandem.receiver.flushes IS 'flushes of received WAL by this walreceiver';
COMMENT ON COLUMN tandem.receiver.connects IS 'times the link was opened since the start';
COMMENT ON COLUMN tandem.receiver.last_message IS 'when the primary was last heard';
COMMENT ON COLUMN tandem.receiver.pid IS 'walreceiver';
COMMENT ON COLUMN tandem.receiver.nice IS 'its nice value: tandem.nice, or as near to it as RLIMIT_NICE permits';
COMMENT ON COLUMN tandem.receiver.last_error IS 'why the link was lost or could not be opened last';
COMMENT ON COLUMN tandem.receiver.transport_reason IS 'the RDMA device in use, or why RDMA is not';
COMMENT ON COLUMN tandem.receiver.rdma_memory IS 'bytes of memory registered here for RDMA';
COMMENT ON COLUMN tandem.receiver.rdma_completions IS 'RDMA writes that arrived since the start';
COMMENT ON COLUMN tandem.receiver.rdma_bytes IS 'bytes received by RDMA since the start';
COMMENT ON COLUMN tandem.receiver.rdma_fallbacks IS 'times RDMA was left for TCP since the start';
COMMENT ON COLUMN tandem.receiver.rdma_last_fallback IS 'why it was left last';

COMMENT ON VIEW tandem.capture IS 'how WAL is learned of and read for the links';
COMMENT ON COLUMN tandem.capture.point IS 'where WAL is captured: write or flush';
COMMENT ON COLUMN tandem.capture.reason IS 'why it is captured there';
COMMENT ON COLUMN tandem.capture.writes IS 'writes of WAL pages seen';
COMMENT ON COLUMN tandem.capture.short_writes IS 'of them, cut short by the kernel';
COMMENT ON COLUMN tandem.capture.bytes_before_flush IS 'bytes of WAL sent before they were flushed here, over all links';
COMMENT ON COLUMN tandem.capture.bytes_at_flush IS 'bytes of WAL sent after they were flushed here, over all links';
COMMENT ON COLUMN tandem.capture.lead_median IS 'how long before the flush WAL is sent, median of samples';
COMMENT ON COLUMN tandem.capture.lead_p99 IS 'the same, 99th percentile';
COMMENT ON COLUMN tandem.capture.records_walked IS 'records found final by the present walk';
COMMENT ON COLUMN tandem.capture.walked_lsn IS 'WAL before this is final';
COMMENT ON COLUMN tandem.capture.walk_stop IS 'why the walk stopped last; most reasons are ordinary at the end of WAL';
COMMENT ON COLUMN tandem.capture.walks_ended IS 'walks that could not go on; WAL was captured at flush until the next one began';
COMMENT ON COLUMN tandem.capture.wakeups IS 'times a link worker found new WAL';
COMMENT ON COLUMN tandem.capture.reads IS 'reads from WAL segments for sending';

COMMENT ON VIEW tandem.events IS 'the last changes of role, links and gate';
COMMENT ON COLUMN tandem.events.id IS 'number of the event since the start';
COMMENT ON COLUMN tandem.events."time" IS 'when it happened';
COMMENT ON COLUMN tandem.events.kind IS 'node, link or gate';
COMMENT ON COLUMN tandem.events.name IS 'node it is about';
COMMENT ON COLUMN tandem.events.message IS 'what happened and why';
