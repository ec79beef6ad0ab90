# The path between the two nodes is cut under load, in several ways.  Commits are held and none
# is acknowledged falsely; when the path is back, the standby catches up and the pair is in sync
# again without a hand.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;

my $primary = make_primary('alpha', path => 1, conf => 'tandem.link_timeout = 1s');
my $standby = make_standby('beta', $primary);
my $path = $primary->{path};

ok(wait_for_state($primary, 'in sync'), 'the pair is in sync');
my $walreceiver = walreceiver_pid($standby);
my $load = start_load([ $primary ], clients => 4, rate => 200);
ok($load->wait_for(100), 'the load runs');

sub write_wal
{
	my ($megabytes) = @_;

	# not transactional, so that nothing waits for the standby
	$primary->safe_psql('postgres',
		"SELECT count(pg_logical_emit_message(false, 'bulk', repeat('x', 1024 * 1024))) FROM generate_series(1, $megabytes)");
	return;
}

# No commit is acknowledged while the path is cut.
sub commits_are_held
{
	ok(wait_until($primary, "SELECT count(*) = 4 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"),
		'... all clients wait');
	my $acknowledged = $load->acknowledged;
	write_wal(20);
	$primary->safe_psql('postgres', 'CHECKPOINT');
	is($primary->safe_psql('postgres', "SELECT s.wal_status IN ('reserved', 'extended')
			AND EXISTS (SELECT FROM pg_ls_waldir() f WHERE f.name = pg_walfile_name(s.restart_lsn))
			AND s.restart_lsn <= l.flushed_lsn
		FROM pg_replication_slots s, tandem.links l WHERE s.slot_name = 'beta'"),
		't', '... the slot keeps the WAL that the standby will need');
	is($load->acknowledged, $acknowledged, '... nothing is acknowledged meanwhile');
	return;
}

sub all_is_well
{
	my ($what) = @_;

	ok(wait_for_state($primary, 'in sync'), "$what: the pair is in sync again");
	ok($load->wait_for(50), '... and commits go on');
	is(walreceiver_pid($standby), $walreceiver, '... in the same walreceiver');
	return;
}

# --- connections are reset

$path->cut;
ok(wait_for_state($primary, 'stalled'), 'path cut: nobody is in sync');
like($primary->safe_psql('postgres', 'SELECT reason FROM tandem.status'),
	qr/^standby "beta": /, '... tandem.status says who is missing');
ok(wait_for_receiver($standby, 'connecting'), '... the standby tries to connect again');
commits_are_held();
$path->restore;
all_is_well('path restored');
ok(wait_for_link($primary, 'beta', 'streaming'), '... over the link');

# --- silence

my $begin = $primary->safe_psql('postgres', 'SELECT clock_timestamp()');
$path->blackhole;
ok(wait_for_state($primary, 'stalled'), 'path silent: nobody is in sync');
like($primary->safe_psql('postgres', 'SELECT reason FROM tandem.status'),
	qr/^standby "beta": nothing was heard from the standby for tandem\.link_timeout/,
	'... and tandem.status says why');
is($primary->safe_psql('postgres', "SELECT since - '$begin' BETWEEN '0 s' AND '3 s' FROM tandem.status"),
	't', '... which was noticed after tandem.link_timeout (1 s), or little more');
ok(wait_until($standby, "SELECT state = 'connecting' AND last_error <> '' FROM tandem.receiver"),
	'... the standby has noticed as well');
commits_are_held();
$path->restore;
all_is_well('path restored');
ok(wait_for_link($primary, 'beta', 'streaming'), '... over the link');

# --- alone meanwhile

$path->blackhole;
ok(wait_for_state($primary, 'stalled'), 'path silent: nobody is in sync');
$primary->safe_psql('postgres', "SELECT tandem.set_alone('the path is cut')");
ok($load->wait_for(50), 'alone: commits go on');
write_wal(200);
ok(wait_until($primary, 'SELECT lag_bytes > 200 * 1024 * 1024 FROM tandem.links'),
	'... and 200 MB are written');
$path->restore;
$primary->safe_psql('postgres', 'SELECT tandem.set_in_sync()');
all_is_well('path restored and set in sync');
ok(wait_until($primary, 'SELECT lag_bytes < 1024 * 1024 FROM tandem.links'), '... with no lag');

# --- the PostgreSQL connection alone is cut: the standby is admitted by it

$path->cut('pg');
ok(wait_for_link($primary, 'beta', 'down'), 'PostgreSQL connection cut: its link ends');
$path->restore('pg');
all_is_well('connection restored');

# --- the link alone is cut: the standby streams as core does

$path->cut('link');
ok(wait_for_receiver($standby, 'streaming without the link'), 'link cut: the standby streams as core does');
all_is_well('without the link');
is($primary->safe_psql('postgres', 'SELECT reason FROM tandem.status'),
	'a standby holds all WAL and streams without the link', '... as tandem.status says');
$path->restore('link');
ok(wait_for_receiver($standby, 'streaming'), 'link restored: the standby finds that out');
ok(wait_for_link($primary, 'beta', 'streaming'), '... and the link carries the stream again');
all_is_well('with the link');

$path->blackhole('link');
ok(wait_for_receiver($standby, 'streaming without the link'), 'link silent: the standby streams as core does');
all_is_well('without the link');
$path->restore('link');
ok(wait_for_link($primary, 'beta', 'streaming'), 'link restored: it carries the stream again');
all_is_well('with the link');

# --- several addresses, the first of which lead nowhere

my $nowhere = PostgreSQL::Test::Cluster::get_free_port();
my $address = '127.0.0.1:' . $path->port('link');
$primary->safe_psql('postgres', "ALTER SYSTEM SET tandem.link_addresses = '127.0.0.1:$nowhere', '192.0.2.1', '$address'");
$primary->reload;
$path->cut;
ok(wait_for_link($primary, 'beta', 'down'), 'with addresses that lead nowhere: the path is cut');
$path->restore;
ok(wait_for_link($primary, 'beta', 'streaming'), '... and restored: the standby tries them all');
is($standby->safe_psql('postgres', 'SELECT address FROM tandem.receiver'),
	$address, '... and takes the one that leads to the primary');
all_is_well('by the last address');

# --- and nothing is lost

ok($load->finish, 'the load ends well');
ok(wait_for_replay($primary, $standby), 'the standby has replayed everything');
ok($load->check($standby), '... and has every acknowledged commit');
is_same_data($primary, $standby, 'the two nodes hold the same');

done_testing();
