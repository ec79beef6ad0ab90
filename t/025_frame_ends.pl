# Where a frame of WAL ends. Recovery reads a record that goes on on the next page as soon as its
# header is there, and takes it that the rest of the page is there, too; so a frame that is not the
# last must not end within a page. Here recovery is as fast as the line, and is shown the WAL of
# each frame by itself.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;

my $primary = make_primary('alpha');
my $standby = make_standby('beta', $primary);

ok(wait_for_state($primary, 'in sync'), 'the primary is in sync');
my $pid = walreceiver_pid($standby);

foreach my $kind ('none', 'lz4', 'zstd:1')
{
	$primary->safe_psql('postgres', "ALTER SYSTEM SET tandem.link_options = 'beta: compression=$kind max_rate=8MB'");
	$primary->reload;
	ok(wait_until($primary, "SELECT state = 'streaming' AND compression = '$kind' AND max_rate IS NOT NULL FROM tandem.links"),
		"compression $kind, a line of 8 MB/s");

	# Records of all lengths up to three pages, of what is hard to compress.
	$primary->safe_psql('postgres', q{
		SELECT count(pg_logical_emit_message(false, 'x', string_agg))
		FROM (SELECT i, string_agg(sha512((i * 1000 + n)::text::bytea)::text, '') FROM generate_series(1, 1000) i,
			generate_series(1, 1 + i * 7919 % 180) n GROUP BY i) AS message});
	ok(wait_for_replay($primary, $standby), '... the standby replays all of it');
}
is(walreceiver_pid($standby), $pid, 'the walreceiver was never asked to begin again');
unlike(slurp_file($standby->logfile), qr/incorrect resource manager data checksum|invalid magic number|terminating walreceiver/,
	'recovery met no record of which a part was missing');

done_testing();
