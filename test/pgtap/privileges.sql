-- Who may do what: pg_monitor reads, a superuser changes, nobody else anything.
SET client_min_messages = warning;
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS pg_tandem;

CREATE ROLE pgtap_tandem_anybody;
CREATE ROLE pgtap_tandem_watcher IN ROLE pg_monitor;

CREATE TEMPORARY TABLE wanted (name name, args text[], monitor bool);
INSERT INTO wanted VALUES
('get_status', '{}', true),
('get_links', '{}', true),
('get_receiver', '{}', true),
('get_capture', '{}', true),
('get_events', '{}', true),
('wait_for', '{pg_lsn,interval}', true),
('pause_link', '{text}', false),
('resume_link', '{text}', false),
('set_alone', '{text}', false),
('set_in_sync', '{}', false);

SELECT plan(9 + 2 * 5 + 3 * 10);

SELECT schema_privs_are('tandem', 'pgtap_tandem_anybody', '{}', 'the schema is closed to others');
SELECT schema_privs_are('tandem', 'pg_monitor', '{USAGE}', 'pg_monitor may look into the schema');

SELECT table_privs_are('tandem', view, 'pg_monitor', '{SELECT}', format('pg_monitor reads tandem.%s', view))
  FROM unnest('{status,links,receiver,capture,events}'::name[]) AS view;
SELECT table_privs_are('tandem', view, 'pgtap_tandem_anybody', '{}', format('others do not read tandem.%s', view))
  FROM unnest('{status,links,receiver,capture,events}'::name[]) AS view;

SELECT is((SELECT count(*) FROM wanted),
		  (SELECT count(*) FROM pg_proc WHERE pronamespace = 'tandem'::regnamespace),
		  'every function is looked at here');
SELECT function_privs_are('tandem', name, args, 'pgtap_tandem_anybody', '{}',
						  format('others do not call tandem.%s()', name))
  FROM wanted;
SELECT function_privs_are('tandem', name, args, 'pg_monitor', CASE WHEN monitor THEN '{EXECUTE}'::name[] ELSE '{}' END,
						  format('pg_monitor %s tandem.%s()', CASE WHEN monitor THEN 'calls' ELSE 'does not call' END, name))
  FROM wanted;
SELECT is((SELECT count(*) FROM aclexplode((SELECT proacl FROM pg_proc
			WHERE oid = format('tandem.%I(%s)', name, array_to_string(args, ','))::regprocedure))
			WHERE grantee = 0), 0::bigint,
		  format('PUBLIC is granted nothing on tandem.%s()', name))
  FROM wanted;

-- The grants are enough, and nothing goes around them.
SET LOCAL ROLE pgtap_tandem_watcher;
SELECT lives_ok('SELECT * FROM tandem.status, tandem.capture', 'a member of pg_monitor reads the status');
SELECT lives_ok('SELECT * FROM tandem.links, tandem.receiver, tandem.events', 'a member of pg_monitor reads links, receiver and events');
SELECT throws_ok($$ SELECT tandem.set_alone('x') $$, '42501', NULL, 'a member of pg_monitor cannot set alone');
SELECT throws_ok($$ SELECT tandem.pause_link('x') $$, '42501', NULL, 'a member of pg_monitor cannot pause a link');
RESET ROLE;
SET LOCAL ROLE pgtap_tandem_anybody;
SELECT throws_ok('SELECT * FROM tandem.status', '42501', NULL, 'others cannot read the status');
SELECT throws_ok('SELECT tandem.set_in_sync()', '42501', NULL, 'others cannot set in sync');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
