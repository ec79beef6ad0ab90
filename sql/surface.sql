--
-- The SQL interface on a primary without a standby: what CREATE EXTENSION
-- makes, who may use it, what the functions answer, and that DROP EXTENSION
-- takes it all away again.
--
-- Nobody confirms commits here, so none may wait for it.
--
SET synchronous_commit = local;

CREATE EXTENSION pg_tandem;

-- Everything that belongs to it.
SELECT pg_describe_object(classid, objid, objsubid) COLLATE "C" AS object
  FROM pg_depend
 WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
   AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_tandem')
 ORDER BY 1;

-- The views.
SELECT c.relname AS view, a.attname AS column, format_type(a.atttypid, a.atttypmod) AS type
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
 WHERE c.relnamespace = 'tandem'::regnamespace AND c.relkind = 'v' AND a.attnum > 0
 ORDER BY c.relname COLLATE "C", a.attnum;

-- The functions.
SELECT p.oid::regprocedure AS function, pg_get_function_result(p.oid) LIKE 'SETOF%' AS set,
       provolatile, proisstrict, proparallel
  FROM pg_proc p WHERE pronamespace = 'tandem'::regnamespace
 ORDER BY p.oid::regprocedure::text COLLATE "C";

-- Every one of these has a comment, the schema and each column of a view too.
SELECT pg_describe_object(classid, objid, objsubid) AS without_comment
  FROM (SELECT 'pg_namespace'::regclass::oid AS classid, 'tandem'::regnamespace::oid AS objid, 0 AS objsubid
        UNION ALL
        SELECT 'pg_extension'::regclass, oid, 0 FROM pg_extension WHERE extname = 'pg_tandem'
        UNION ALL
        SELECT 'pg_proc'::regclass, oid, 0 FROM pg_proc WHERE pronamespace = 'tandem'::regnamespace
        UNION ALL
        SELECT 'pg_class'::regclass, oid, 0 FROM pg_class WHERE relnamespace = 'tandem'::regnamespace
        UNION ALL
        SELECT 'pg_class'::regclass, a.attrelid, a.attnum
          FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
         WHERE c.relnamespace = 'tandem'::regnamespace AND a.attnum > 0) AS object
 WHERE NOT EXISTS (SELECT FROM pg_description d
                    WHERE (d.classoid, d.objoid, d.objsubid) = (classid, objid, object.objsubid)
                      AND d.description <> '');

--
-- Who may do what
--
CREATE ROLE regress_tandem_user;
CREATE ROLE regress_tandem_monitor IN ROLE pg_monitor;

SELECT c.oid::regclass AS view,
       has_table_privilege('regress_tandem_user', c.oid, 'SELECT') AS anybody_reads,
       has_table_privilege('regress_tandem_monitor', c.oid, 'SELECT') AS monitor_reads,
       has_table_privilege('regress_tandem_monitor', c.oid, 'INSERT,UPDATE,DELETE,TRUNCATE') AS monitor_writes
  FROM pg_class c WHERE relnamespace = 'tandem'::regnamespace ORDER BY c.relname COLLATE "C";
SELECT p.oid::regprocedure AS function,
       has_function_privilege('regress_tandem_user', p.oid, 'EXECUTE') AS anybody,
       has_function_privilege('regress_tandem_monitor', p.oid, 'EXECUTE') AS monitor
  FROM pg_proc p WHERE pronamespace = 'tandem'::regnamespace
 ORDER BY p.oid::regprocedure::text COLLATE "C";

-- What they are told.
SET ROLE regress_tandem_user;
SELECT * FROM tandem.status;
SELECT tandem.set_alone('a stranger asks');
RESET ROLE;
SET ROLE regress_tandem_monitor;
SELECT role FROM tandem.status;
SELECT count(*) AS links FROM tandem.links;
SELECT count(*) AS receivers FROM tandem.receiver;
SELECT count(*) AS captures FROM tandem.capture;
SELECT count(*) > 0 AS events FROM tandem.events;
SELECT tandem.wait_for('0/1', '0');
SELECT tandem.pause_link('x');
SELECT tandem.resume_link('x');
SELECT tandem.set_alone('the monitor asks');
SELECT tandem.set_in_sync();
RESET ROLE;

-- With the schema opened to them, others still read nothing.
GRANT USAGE ON SCHEMA tandem TO regress_tandem_user;
SET ROLE regress_tandem_user;
SELECT * FROM tandem.status;
SELECT * FROM tandem.get_status();
SELECT tandem.wait_for('0/1', '0');
SELECT tandem.set_alone('a stranger asks');
RESET ROLE;
REVOKE USAGE ON SCHEMA tandem FROM regress_tandem_user;
DROP ROLE regress_tandem_user, regress_tandem_monitor;

--
-- What a primary without a standby shows
--
SELECT node_name = current_setting('tandem.node_name') AS node_name, role, term > 0 AS term,
       incarnation > 0 AS incarnation, timeline, state, since <= now() AS since,
       reason IS NOT NULL AS reason, released_lsn <= pg_current_wal_flush_lsn() AS released_lsn,
       capture IN ('write', 'flush') AS capture, capture_reason IS NOT NULL AS capture_reason,
       unreplicated_commits >= 0 AS unreplicated_commits
  FROM tandem.status \gx
SELECT point = (SELECT capture FROM tandem.status) AS point, reason IS NOT NULL AS reason,
       bytes_before_flush >= 0 AS bytes_before_flush, bytes_at_flush >= 0 AS bytes_at_flush,
       wakeups >= 0 AS wakeups, reads >= 0 AS reads
  FROM tandem.capture \gx
SELECT * FROM tandem.links;
SELECT * FROM tandem.receiver;

-- It said so when it started.
SELECT kind, name = current_setting('tandem.node_name') AS this_node,
       regexp_replace(message, '\d+(/[0-9A-F]+)?', 'N', 'g') AS message
  FROM tandem.events ORDER BY id LIMIT 2;
SELECT array_agg(id ORDER BY id) = array_agg(id ORDER BY time, id) AS in_order FROM tandem.events;

--
-- Links that are not there
--
SELECT tandem.pause_link('nobody');
SELECT tandem.resume_link('nobody');
SELECT tandem.pause_link('');
SELECT tandem.pause_link(NULL) IS NULL AS does_nothing;

--
-- Alone, and back.  Without a standby "in sync" cannot be reached: commits
-- are held again.
--
SELECT tandem.set_alone('');
SELECT tandem.set_alone(NULL) IS NULL AS does_nothing;
SELECT state FROM tandem.status;

SELECT tandem.set_alone('a regression test');
SELECT state, reason FROM tandem.status;
-- While alone what is flushed here is released.
CREATE TABLE written (id int);
SELECT tandem.wait_for(pg_current_wal_flush_lsn(), '1 min');
SELECT released_lsn >= pg_current_wal_flush_lsn() AS all_released FROM tandem.status;

SELECT tandem.set_in_sync();
SELECT state, regexp_replace(reason, '[0-9A-F]+/[0-9A-F]+', 'LSN') AS reason FROM tandem.status;
-- Nothing changes the second time.
SELECT tandem.set_in_sync();
SELECT kind, regexp_replace(message, '[0-9A-F]+/[0-9A-F]+', 'LSN') AS message
  FROM tandem.events ORDER BY id DESC LIMIT 2;

--
-- Waiting for WAL to be released
--
-- What was released while alone stays so; what is written now is held.
SELECT tandem.wait_for(released_lsn, '0') FROM tandem.status;
INSERT INTO written VALUES (1);
SELECT tandem.wait_for(pg_current_wal_flush_lsn(), '20 ms');
SELECT tandem.wait_for('FFFFFFFF/FFFFFFFF', '0');
SELECT tandem.wait_for('FFFFFFFF/FFFFFFFF', '-1 hour');
SELECT tandem.wait_for(NULL, '1 hour') IS NULL AS null_lsn, tandem.wait_for('0/1', NULL) IS NULL AS null_timeout;
SELECT tandem.wait_for('0/1', '1000000 years');
-- It can be interrupted.
SET statement_timeout = '50ms';
SELECT tandem.wait_for('FFFFFFFF/FFFFFFFF', '1 hour');
RESET statement_timeout;
DROP TABLE written;

--
-- The interface cannot be taken apart, only dropped as a whole
--
DROP VIEW tandem.status;
ALTER EXTENSION pg_tandem SET SCHEMA public;
DROP EXTENSION pg_tandem;
SELECT count(*) AS schemas FROM pg_namespace WHERE nspname = 'tandem';
SELECT count(*) AS functions FROM pg_proc WHERE probin LIKE '%pg_tandem';
SELECT count(*) AS comments FROM pg_description WHERE description LIKE '%tandem%';

-- And it can be had again.
CREATE EXTENSION pg_tandem;
SELECT role FROM tandem.status;
DROP EXTENSION pg_tandem;
