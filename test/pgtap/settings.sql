-- The settings: types, units, bounds, defaults, and when they can be changed.
SET client_min_messages = warning;
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS pg_tandem;

CREATE TEMPORARY TABLE wanted
	(name text, vartype text, context text, unit text, min_val text, max_val text, boot_val text);
INSERT INTO wanted VALUES
('tandem.node_name', 'string', 'postmaster', NULL, NULL, NULL, ''),
('tandem.listen_addresses', 'string', 'postmaster', NULL, NULL, NULL, ''),
('tandem.port', 'integer', 'postmaster', NULL, '1', '65535', '5442'),
('tandem.link_addresses', 'string', 'sighup', NULL, NULL, NULL, ''),
('tandem.link', 'bool', 'sighup', NULL, NULL, NULL, 'on'),
('tandem.transport', 'enum', 'sighup', NULL, NULL, NULL, 'auto'),
('tandem.rdma_device', 'string', 'sighup', NULL, NULL, NULL, ''),
('tandem.rdma_gid_index', 'integer', 'sighup', NULL, '-1', '65535', '-1'),
('tandem.rdma_poll_us', 'integer', 'sighup', NULL, '0', '10000', '0'),
('tandem.rdma_ring_size', 'integer', 'sighup', 'kB', '2048', '1048576', '16384'),
('tandem.capture', 'enum', 'sighup', NULL, NULL, NULL, 'write'),
('tandem.max_links', 'integer', 'postmaster', NULL, '1', '64', '4'),
('tandem.link_timeout', 'integer', 'sighup', 'ms', '100', '3600000', '5000'),
('tandem.reconnect_interval', 'integer', 'sighup', 'ms', '10', '3600000', '1000'),
('tandem.tls', 'bool', 'sighup', NULL, NULL, NULL, 'on'),
('tandem.async_links', 'string', 'sighup', NULL, NULL, NULL, ''),
('tandem.lease_required', 'bool', 'postmaster', NULL, NULL, NULL, 'off'),
('tandem.watchdog_directory', 'string', 'postmaster', NULL, NULL, NULL, '/run/pg_tandem'),
('tandem.link_options', 'string', 'sighup', NULL, NULL, NULL, ''),
('tandem.fallback', 'bool', 'sighup', NULL, NULL, NULL, 'on'),
('tandem.nice', 'integer', 'sighup', NULL, '-20', '0', '-10');

SELECT plan(3 + 2 * (SELECT count(*) FROM wanted)::int);

SELECT bag_eq($$ SELECT name FROM pg_settings WHERE name LIKE 'tandem.%' $$, 'SELECT name FROM wanted',
			  'these are the settings, and the offer is not among them');
SELECT is((SELECT (vartype, context, unit, min_val, max_val, boot_val)::text FROM pg_settings s WHERE s.name = w.name),
		  (vartype, context, unit, min_val, max_val, boot_val)::text,
		  format('%s is what its users were told', name))
  FROM wanted w;
SELECT matches((SELECT short_desc FROM pg_settings s WHERE s.name = w.name), '^[A-Z].*\.$',
			   format('%s has a description, a sentence', name))
  FROM wanted w;

SELECT is(current_setting('tandem.link_offer'), '', 'an ordinary session is made no offer');
SELECT throws_ok($$ SELECT set_config('tandem.link_offer', 'x', true) $$, '55P02', NULL,
				 'nobody can set an offer');

SELECT * FROM finish();
ROLLBACK;
