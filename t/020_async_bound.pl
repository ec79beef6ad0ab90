# An asynchronous standby is never ahead of what the gate has released, no commit waits for it,
# and the primary tells what would be lost if it had to take over.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;

my $primary = make_primary('alpha', path => 1,
	conf => "tandem.async_links = 'far'\ntandem.max_links = 3\ntandem.link_timeout = 3s");
my $near = make_standby('near', $primary);
my $far = make_standby('far', $primary);

sub count_on
{
	my ($node) = @_;
	return $node->safe_psql('postgres', 'SELECT count(*) FROM t');
}

ok(wait_for_state($primary, 'in sync'), 'the primary is in sync with the near standby');
ok(wait_for_link($primary, 'far', 'streaming'), 'the far one has a link');
is($primary->safe_psql('postgres', "SELECT mode || ' ' || in_sync FROM tandem.links WHERE name = 'far'"),
	'async false', '... an asynchronous one');
$primary->safe_psql('postgres', 'CREATE TABLE t (i int)');
ok(wait_for_replay($primary, $far), 'it replays what the gate has released');
ok(wait_until($primary, "SELECT exposure_bytes = 0 AND exposure = '0' FROM tandem.links WHERE name = 'far'"),
	'... and nothing would be lost');

# --- the gate is stalled: the far one gets the WAL and does not show it

my $walreceiver = walreceiver_pid($near);
freeze($walreceiver);
my $commit = start_psql($primary, 'INSERT INTO t VALUES (1)');
ok(wait_until_held($commit), 'a commit waits for the near standby');
my $lsn = $primary->lsn('flush');
ok(wait_until($far, "SELECT durable_lsn >= '$lsn' FROM tandem.receiver"), '... the far one has it, durably');
ok(wait_for_state($primary, 'stalled'), '... the near one is given up for its silence, and the gate is stalled');
$lsn = $primary->lsn('flush');
my $released = $primary->safe_psql('postgres', 'SELECT released_lsn FROM tandem.status');
$primary->safe_psql('postgres', "SELECT pg_logical_emit_message(false, 'x', 'y'); CHECKPOINT");
ok(wait_until($far, "SELECT durable_lsn >= '$lsn' FROM tandem.receiver"), '... more WAL comes to the far one');
is($far->safe_psql('postgres',
	"SELECT bound_lsn <= '$released' AND pg_last_wal_replay_lsn() <= '$released' AND durable_lsn > bound_lsn FROM tandem.receiver"),
	't', '... but its bound is what the gate has released, and it has replayed no more');
is(count_on($far), '0', '... so the commit that was never acknowledged is not seen there');
is($primary->safe_psql('postgres', "SELECT exposure_bytes = 0 FROM tandem.links WHERE name = 'far'"),
	't', '... and nothing acknowledged would be lost');

thaw($walreceiver);
ok($commit->finish, 'the near one is back: the commit returns');
ok(wait_until($far, 'SELECT count(*) = 1 FROM t'), '... and is seen on the far one');

# --- alone: what is flushed is released

$primary->safe_psql('postgres', "SELECT tandem.set_alone('test')");
$near->stop;
$primary->safe_psql('postgres', 'INSERT INTO t VALUES (2)');
ok(wait_until($far, 'SELECT count(*) = 2 FROM t'), 'alone: the far standby shows what is flushed');
$primary->safe_psql('postgres', 'SELECT tandem.set_in_sync()');
ok(wait_for_state($primary, 'stalled'), 'no longer alone, and the near one is away: stalled');
my $held = start_psql($primary, 'INSERT INTO t VALUES (3)');
ok(wait_until_held($held), '... a commit is held');
$lsn = $primary->lsn('flush');
ok(wait_until($far, "SELECT durable_lsn >= '$lsn' FROM tandem.receiver"), '... the far one has it');
is(count_on($far), '2', '... and does not show it');

# --- the primary is stopped while the gate is stalled: the far one is not sent to core's stream

$primary->stop;
ok($primary->log_contains('link "far": down: this server is shutting down, and not all WAL has been released'),
	'a stop of the stalled primary does not send the far one back to its walsender');
is(count_on($far), '2', '... which shows the commit still not');
$near->start;
$primary->start;
ok($primary->poll_query_until('postgres', "SELECT state = 'in sync' FROM tandem.status"), 'both are back, and in sync');
ok(wait_until($far, 'SELECT count(*) = 3 FROM t'), '... now it is seen on the far one');
ok(wait_for_link($primary, 'far', 'streaming'), '... which has its link');
$held->finish;

# --- nobody waits

$primary->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = ''");
$primary->reload;
ok(wait_until($primary, "SELECT current_setting('synchronous_standby_names') = ''"), 'no commit is to wait for anybody');
$near->stop;
$primary->safe_psql('postgres', 'INSERT INTO t VALUES (4)');
ok(wait_until($far, 'SELECT count(*) = 4 FROM t'), '... then the far one shows what is flushed');

# --- cut off: commits go on, and the exposure grows

$primary->{path}->cut;
ok(wait_for_link($primary, 'far', 'down'), 'the path to the far one is cut');
my $begin = time;
$primary->safe_psql('postgres', "INSERT INTO t SELECT generate_series(5, 1000)");
ok(wait_until($primary, "SELECT exposure_bytes > 50000 AND exposure > '1.5 s' FROM tandem.links WHERE name = 'far'"),
	'commits go on, and what would be lost is told in bytes and in seconds');
my $exposure = query_row($primary,
	"SELECT extract(epoch FROM exposure) AS s, exposure_bytes AS b, lag_bytes FROM tandem.links WHERE name = 'far'");
cmp_ok($exposure->{s}, '<=', time - $begin + 3, '... not much more than the time since the first of them');
is($exposure->{b}, $exposure->{lag_bytes}, '... all that is flushed here and not durable there');
$primary->{path}->restore;
ok(wait_until($primary, "SELECT exposure_bytes = 0 FROM tandem.links WHERE name = 'far'"),
	'restored: nothing would be lost any more');
ok(wait_until($far, 'SELECT count(*) = 1000 FROM t'), '... and the far one shows it all');

# --- without the link

$far->safe_psql('postgres', 'ALTER SYSTEM SET tandem.fallback = off');
$far->reload;
ok(wait_until($far, "SELECT current_setting('tandem.fallback') = 'off'"), 'a standby is told to stream by its link only');
$primary->{path}->blackhole('link');
ok(wait_until($far, "SELECT last_error LIKE '%no answer%' AND state = 'connecting' FROM tandem.receiver"),
	'the port of its link is blocked: it goes on trying');
is($primary->safe_psql('postgres', "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'far' AND state = 'streaming'"),
	'0', '... and does not stream as core does');
$far->safe_psql('postgres', 'ALTER SYSTEM RESET tandem.fallback');
$far->reload;
ok(wait_for_receiver($far, 'streaming without the link'), 'told that it may, it streams without the link');
$primary->safe_psql('postgres', 'INSERT INTO t VALUES (1001)');
ok(wait_until($far, 'SELECT count(*) = 1001 FROM t'), '... and gets WAL');
ok(wait_until($primary, "SELECT exposure_bytes = 0 FROM tandem.links WHERE name = 'far'"),
	'... which the primary knows by its slot: nothing would be lost');
$primary->{path}->restore;
ok(wait_for_link($primary, 'far', 'streaming'), 'the port is open again: it takes the link');
is_same_data($primary, $far, 'at the end it holds the same');

done_testing();
