-- The functions: signatures, and how the planner may treat them.
SET client_min_messages = warning;
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS pg_tandem;

CREATE TEMPORARY TABLE wanted (name name, args text[], returns text, parallel "char");
INSERT INTO wanted VALUES
('get_status', '{}', 'setof record', 's'),
('get_links', '{}', 'setof record', 's'),
('get_receiver', '{}', 'setof record', 's'),
('get_capture', '{}', 'setof record', 's'),
('get_events', '{}', 'setof record', 's'),
('pause_link', '{text}', 'void', 'u'),
('resume_link', '{text}', 'void', 'u'),
('set_alone', '{text}', 'void', 'u'),
('set_in_sync', '{}', 'void', 'u'),
('wait_for', '{pg_lsn,interval}', 'boolean', 'u');

SELECT plan(3 + (SELECT count(*) FROM wanted)::int * 8);

SELECT functions_are('tandem', (SELECT array_agg(name) FROM wanted), 'these are the functions of tandem');
SELECT has_function('tandem', name, args) FROM wanted;
SELECT function_returns('tandem', name, args, returns) FROM wanted;
SELECT function_lang_is('tandem', name, args, 'c') FROM wanted;
SELECT is_strict('tandem', name, args) FROM wanted;
-- They tell and change what is outside the database: nothing may be remembered.
SELECT volatility_is('tandem', name, args, 'volatile') FROM wanted;
-- They run with the rights of who calls them.
SELECT isnt_definer('tandem', name, args) FROM wanted;
SELECT is((SELECT proparallel FROM pg_proc
			WHERE oid = format('tandem.%I(%s)', name, array_to_string(args, ','))::regprocedure),
		  parallel, format('tandem.%s() is parallel %s', name,
						   CASE parallel WHEN 's' THEN 'safe' ELSE 'unsafe' END))
  FROM wanted;
SELECT isnt(obj_description(format('tandem.%I(%s)', name, array_to_string(args, ','))::regprocedure, 'pg_proc'),
			NULL, format('the function tandem.%s() has a comment', name))
  FROM wanted;

-- Callers may name the arguments.
SELECT lives_ok($$ SELECT tandem.wait_for(lsn => '0/1', timeout => '0') $$,
				'the arguments of wait_for() are lsn and timeout');
SELECT is((SELECT string_agg(format('%s(%s)', proname, array_to_string(proargnames, ',')), ' ' ORDER BY proname)
			 FROM pg_proc WHERE pronamespace = 'tandem'::regnamespace AND prorettype = 'void'::regtype),
		  'pause_link(name) resume_link(name) set_alone(reason) set_in_sync()',
		  'the arguments of the operator''s functions have these names');

SELECT * FROM finish();
ROLLBACK;
