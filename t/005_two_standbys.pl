# Several standbys of one primary: the fastest one keeps commits going, and a slow one holds
# nobody.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;

# A long timeout: a standby that is frozen here is slow, not lost.
my $primary = make_primary('alpha', conf => "tandem.max_links = 3\ntandem.link_timeout = 5min");
my $fast = make_standby('beta', $primary);
my $slow = make_standby('gamma', $primary);

# Until all that the primary has flushed is durable on the standby.
sub wait_for_durable
{
	my ($node) = @_;
	my $lsn = $primary->lsn('flush');

	return wait_until($node, "SELECT durable_lsn >= '$lsn' FROM tandem.receiver");
}

sub commit_goes_on
{
	my ($level, $sentence) = @_;
	my $commit = start_psql($primary, "SET synchronous_commit = $level", "INSERT INTO t VALUES ('$sentence')");

	return ok($commit->finish && $commit->stderr eq '', $sentence);
}

# Memory of a process that it shares with no other, in MB.
sub private_memory
{
	my ($pid) = @_;
	my $kilobytes = 0;

	$kilobytes += $_ foreach slurp_file("/proc/$pid/smaps_rollup") =~ /^Private_(?:Clean|Dirty):\s+(\d+) kB/mg;
	return $kilobytes / 1024;
}

ok(wait_for_state($primary, 'in sync'), 'the primary is in sync');
ok(wait_until($primary, "SELECT string_agg(name || ' ' || state || ' ' || in_sync, ', ' ORDER BY name) =
		'beta streaming true, gamma streaming true' FROM tandem.links"),
	'both standbys have a link, and hold all WAL');
$primary->safe_psql('postgres', 'CREATE TABLE t (x text)');
is($primary->safe_psql('postgres', 'SELECT count(DISTINCT pid) FROM tandem.links'),
	'2', 'each has a worker of its own');

# --- one is slow to receive

my $walreceiver = walreceiver_pid($slow);
freeze($walreceiver);
commit_goes_on($_, "$_ goes on with the other one") foreach qw(remote_write on remote_apply);
my $before = $primary->lsn('flush');
$primary->safe_psql('postgres',
	"SELECT count(pg_logical_emit_message(true, 'bulk', repeat('x', 1024 * 1024))) FROM generate_series(1, 300)");
is($fast->safe_psql('postgres', "SELECT durable_lsn - '$before' > 300 * 1024 * 1024 FROM tandem.receiver"),
	't', 'the fast one gets 300 MB meanwhile');
my $lag = query_row($primary, "SELECT lag_bytes / 1024 / 1024 AS mb, in_sync, pid FROM tandem.links WHERE name = 'gamma'");
cmp_ok($lag->{mb}, '>=', 300, 'the lag of the slow one is seen');
ok(!$lag->{in_sync}, '... and it does not count as in sync');
cmp_ok(private_memory($lag->{pid}), '<', 64, '... its worker has less than 64 MB of its own memory');
ok(wait_for_state($primary, 'in sync'), 'the primary is in sync all the same');
thaw($walreceiver);
ok(wait_until($primary, "SELECT lag_bytes = 0 AND state = 'streaming' AND in_sync FROM tandem.links WHERE name = 'gamma'"),
	'the slow one catches up');
cmp_ok(private_memory($lag->{pid}), '<', 64, '... and its worker still has less than 64 MB');
is($primary->safe_psql('postgres', 'SELECT sum(connects) FROM tandem.links'), '2', 'no link has been lost');

# --- one is slow to replay

$slow->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
ok(wait_until($slow, "SELECT pg_get_wal_replay_pause_state() = 'paused'"), 'replay is paused on one');
commit_goes_on('remote_apply', 'remote_apply goes on with the other one that replays');
$slow->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');

# --- one is asynchronous

$primary->safe_psql('postgres', "ALTER SYSTEM SET tandem.async_links = 'beta'");
$primary->reload;
ok(wait_until($primary, "SELECT string_agg(name || ' ' || mode, ', ' ORDER BY name) = 'beta async, gamma sync' FROM tandem.links"),
	'tandem.async_links: one is asynchronous');
ok(wait_until($primary, "SELECT NOT in_sync FROM tandem.links WHERE name = 'beta'"), '... and never in sync');
freeze($walreceiver);
my $commit = start_psql($primary, "INSERT INTO t VALUES ('async')");
ok(wait_until_held($commit), 'a commit waits for the synchronous one');
ok(wait_for_durable($fast), '... although the asynchronous one has it');
ok(!$commit->done, '... still');
thaw($walreceiver);
ok($commit->finish, '... until the synchronous one has it too');
$fast->stop;
commit_goes_on('on', 'no commit waits for the asynchronous one');
$fast->start;
$slow->stop;
ok(wait_for_state($primary, 'stalled'), 'without the synchronous one nobody is in sync');
$commit = start_psql($primary, "INSERT INTO t VALUES ('async is left')");
ok(wait_until_held($commit), '... and a commit is held');
ok(wait_for_durable($fast), '... although the asynchronous one has it');

# A standby is asynchronous by its node name, also while it streams as core does, and whatever
# its connection is called.
my $conninfo = $fast->safe_psql('postgres', 'SHOW primary_conninfo');
$fast->safe_psql('postgres', 'ALTER SYSTEM SET tandem.link = off');
$fast->safe_psql('postgres', "ALTER SYSTEM SET primary_conninfo = \$\$$conninfo application_name=other\$\$");
$fast->reload;
ok(wait_until($primary, "SELECT flush_lsn = pg_current_wal_flush_lsn() FROM pg_stat_replication WHERE application_name = 'other'"),
	'the asynchronous one streams without the link, under another name');
is($primary->safe_psql('postgres', "SELECT tandem.wait_for(pg_current_wal_flush_lsn(), '1500 ms')"),
	'f', '... and releases nothing');
ok(!$commit->done, '... the commit is still held');
$fast->safe_psql('postgres', 'ALTER SYSTEM RESET tandem.link');
$fast->safe_psql('postgres', "ALTER SYSTEM SET primary_conninfo = \$\$$conninfo\$\$");
$fast->reload;
ok(wait_for_link($primary, 'beta', 'streaming'), '... and it comes back to the link');

$primary->safe_psql('postgres', 'ALTER SYSTEM RESET tandem.async_links');
$primary->reload;
ok($commit->finish, 'made synchronous, the one that is left lets it go');
ok(wait_for_state($primary, 'in sync'), '... and is in sync');
$slow->start;
ok(wait_until($primary, "SELECT count(*) = 2 FROM tandem.links WHERE in_sync"), 'both are in sync again');

# --- one is lost, then the other

$slow->stop('immediate');
ok(wait_for_link($primary, 'gamma', 'down'), 'one standby is lost');
is($primary->safe_psql('postgres', 'SELECT state FROM tandem.status'), 'in sync', '... the other keeps the primary in sync');
commit_goes_on('remote_apply', '... and commits go on');
$fast->stop('immediate');
ok(wait_for_state($primary, 'stalled'), 'both are lost: nobody is in sync');
$commit = start_psql($primary, "INSERT INTO t VALUES ('both are lost')");
ok(wait_until_held($commit), '... and a commit is held');
$slow->start;
ok($commit->finish, 'one is back: the commit returns');
ok(wait_for_state($primary, 'in sync'), '... and the primary is in sync');
$fast->start;
ok(wait_until($primary, "SELECT count(*) = 2 FROM tandem.links WHERE in_sync"), 'the other one is back as well');

# --- names and numbers

my $third = make_standby('delta', $primary, conf => "tandem.node_name = 'beta'", wait => 0);
ok(wait_until($third, "SELECT last_error LIKE '%node name \"beta\" is in use by another link' FROM tandem.receiver"),
	'a standby that has the name of another is refused');
ok($primary->log_contains('link "beta": refused 127.0.0.1: node name "beta" is in use by another link'),
	'... which the primary logs');
is($primary->safe_psql('postgres', "SELECT state FROM tandem.links WHERE name = 'beta'"),
	'streaming', '... and the one that has the name keeps its link');
$third->append_conf('postgresql.conf', "tandem.node_name = 'delta'");
$third->restart;
ok(wait_for_link($primary, 'delta', 'streaming'), 'with a name of its own it is served');

my $fourth = make_standby('epsilon', $primary, wait => 0, conf => 'tandem.link_timeout = 1s');
ok(wait_until($fourth, "SELECT last_error LIKE '%all 3 links are in use' FROM tandem.receiver"),
	'a standby beyond tandem.max_links is refused');
ok(wait_until($primary, "SELECT count(*) > 0 FROM tandem.events WHERE name = 'epsilon' AND message LIKE 'refused %: all 3 links are in use'"),
	'... which the primary says, too');
is($primary->safe_psql('postgres', "SELECT count(*) FROM tandem.links WHERE state = 'streaming'"),
	'3', '... and the others keep their links');
$third->stop;
ok(wait_for_link($primary, 'epsilon', 'streaming'), 'when another one leaves it gets the link');

is_same_data($primary, $_, 'at the end "' . $_->name . '" holds the same') foreach ($fast, $slow, $fourth);

done_testing();
