--
-- The settings: what a DBA sees of them, and what is refused.
--
-- Needs a running primary that preloads pg_tandem.  Nothing here commits with
-- a transaction ID while it would have to wait for a standby.
--
SET synchronous_commit = local;

-- Every setting, with its type, when it can be changed, unit, bounds and default.
SELECT name, vartype, context, unit, min_val, max_val, enumvals, boot_val
  FROM pg_settings WHERE name LIKE 'tandem.%' ORDER BY name COLLATE "C";

-- What each is for.
SELECT name, short_desc
  FROM pg_settings WHERE name LIKE 'tandem.%' ORDER BY name COLLATE "C";
SELECT name, extra_desc
  FROM pg_settings WHERE name LIKE 'tandem.%' AND extra_desc IS NOT NULL ORDER BY name COLLATE "C";

-- A node always has a name, also when none was set.
SELECT current_setting('tandem.node_name') <> '' AS has_a_name;

-- None can be changed for one session.
SET tandem.node_name = 'other';
SET tandem.port = 5443;
SET tandem.link = off;
SET tandem.link_timeout = '1s';

-- A name that is not known is refused: the prefix is ours.
SET tandem.no_such_setting = 1;
ALTER SYSTEM SET tandem.no_such_setting = 1;

-- Numbers and their bounds.
ALTER SYSTEM SET tandem.port = 0;
ALTER SYSTEM SET tandem.port = 65536;
ALTER SYSTEM SET tandem.port = 'http';
ALTER SYSTEM SET tandem.max_links = 0;
ALTER SYSTEM SET tandem.max_links = 65;
ALTER SYSTEM SET tandem.link_timeout = '99ms';
ALTER SYSTEM SET tandem.link_timeout = '61min';
ALTER SYSTEM SET tandem.link_timeout = '5 parsecs';
ALTER SYSTEM SET tandem.reconnect_interval = '9ms';
ALTER SYSTEM SET tandem.reconnect_interval = '61min';

-- Switches and choices.
ALTER SYSTEM SET tandem.link = 'perhaps';
ALTER SYSTEM SET tandem.tls = 'perhaps';
ALTER SYSTEM SET tandem.transport = 'pigeon';
ALTER SYSTEM SET tandem.capture = 'later';

-- Names.
ALTER SYSTEM SET tandem.node_name = 'two words';
ALTER SYSTEM SET tandem.node_name = 'a,b';
ALTER SYSTEM SET tandem.node_name = 'a/b';
SELECT format('ALTER SYSTEM SET tandem.node_name = %L', repeat('n', 64)) \gexec
ALTER SYSTEM SET tandem.async_links = 'one', 't/wo';
ALTER SYSTEM SET tandem.async_links = 'one,,three';

-- Addresses.
ALTER SYSTEM SET tandem.listen_addresses = '127.0.0.1,,::1';
ALTER SYSTEM SET tandem.link_addresses = 'host:0';
ALTER SYSTEM SET tandem.link_addresses = 'host:65536';
ALTER SYSTEM SET tandem.link_addresses = 'host:http';
ALTER SYSTEM SET tandem.link_addresses = ':5442';
ALTER SYSTEM SET tandem.link_addresses = '[::1';
ALTER SYSTEM SET tandem.link_addresses = '[::1]5442';
ALTER SYSTEM SET tandem.link_addresses = 'good:5442', 'bad:port';

-- The limits themselves, and every kind of address, are accepted.  They are
-- not put into force: the file is put back before anybody reads it.
ALTER SYSTEM SET tandem.link_timeout = '60min';
ALTER SYSTEM SET tandem.reconnect_interval = '10ms';
ALTER SYSTEM SET tandem.link_addresses = 'host', 'host:65535', '192.0.2.1:1', '2001:db8::1', '[2001:db8::1]', '[2001:db8::1]:5442';
ALTER SYSTEM SET tandem.async_links = 'one', 'two.2', 'three-3';
ALTER SYSTEM SET tandem.transport = tcp;
SELECT name, setting, error FROM pg_file_settings
 WHERE sourcefile LIKE '%postgresql.auto.conf' AND name LIKE 'tandem.%' ORDER BY name COLLATE "C";
ALTER SYSTEM RESET tandem.link_timeout;
ALTER SYSTEM RESET tandem.reconnect_interval;
ALTER SYSTEM RESET tandem.link_addresses;
ALTER SYSTEM RESET tandem.async_links;
ALTER SYSTEM RESET tandem.transport;

-- An offer holds a one-time key.  An ordinary session gets none, however it
-- asks, and nobody can put one there.
SHOW tandem.link_offer;
SELECT current_setting('tandem.link_offer') = '' AS no_offer;
SELECT count(*) AS listed FROM pg_settings WHERE name = 'tandem.link_offer';
SET tandem.link_offer = 'x';
SELECT set_config('tandem.link_offer', 'x', true);
ALTER SYSTEM SET tandem.link_offer = 'x';
ALTER DATABASE contrib_regression SET tandem.link_offer = 'x';
