# Every level of synchronous_commit waits for what PostgreSQL documents, a wait can be
# cancelled, and the operator can let commits go on without a standby.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;

# A long timeout: a standby that is frozen here is to be waited for, not given up.
my $primary = make_primary('alpha', conf => 'tandem.link_timeout = 5min');
my $standby = make_standby('beta', $primary, conf => 'fsync = on');
my $all = "SELECT string_agg(level, ' ' ORDER BY level) FROM t";

sub insert
{
	my ($level, $value) = @_;

	return ("SET synchronous_commit = $level", "INSERT INTO t VALUES ('$value')");
}

sub unreplicated
{
	return $primary->safe_psql('postgres', 'SELECT unreplicated_commits FROM tandem.status');
}

ok(wait_for_state($primary, 'in sync'), 'the pair is in sync');
$primary->safe_psql('postgres', 'CREATE TABLE t (level text)');
$primary->safe_psql('postgres', 'CREATE UNLOGGED TABLE u (i int)');

# --- which levels wait

my $walreceiver = walreceiver_pid($standby);
freeze($walreceiver);
foreach my $level (qw(off local))
{
	my $commit = start_psql($primary, insert($level, $level));
	ok($commit->finish, "$level does not wait for the standby");
	is($commit->stderr, '', '... and there is no warning');
}
my %commit = map { $_ => start_psql($primary, insert($_, $_)) } qw(remote_write on remote_apply);
foreach my $level (sort keys %commit)
{
	ok(wait_until_held($commit{$level}), "$level waits for the standby");
}
is($primary->safe_psql('postgres', $all), 'local off', '... and nobody sees it meanwhile');
is(held_commits($primary), 3, '... all three still');
thaw($walreceiver);
foreach my $level (sort keys %commit)
{
	ok($commit{$level}->finish, "$level returns when the standby answers");
	is($commit{$level}->stderr, '', '... and there is no warning');
}
is($primary->safe_psql('postgres', $all), 'local off on remote_apply remote_write', 'all are there');

# --- replay

$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
ok(wait_until($standby, "SELECT pg_get_wal_replay_pause_state() = 'paused'"), 'replay is paused');
foreach my $level (qw(remote_write on))
{
	my $commit = start_psql($primary, insert($level, "$level, paused"));
	ok($commit->finish, "$level does not wait for replay");
}
my $commit = start_psql($primary, insert('remote_apply', 'remote_apply, paused'));
ok(wait_until_held($commit), 'remote_apply waits for replay');
ok(wait_until($primary, 'SELECT flushed_lsn = pg_current_wal_flush_lsn() AND replayed_lsn < flushed_lsn FROM tandem.links'),
	'... of what is durable on the standby already');
is($standby->safe_psql('postgres', "SELECT count(*) FROM t WHERE level LIKE '%paused'"),
	'0', '... and not visible there');
is(held_commits($primary), 1, '... still');
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
ok($commit->finish, 'remote_apply returns when replay goes on');
is($standby->safe_psql('postgres', "SELECT count(*) FROM t WHERE level LIKE '%paused'"),
	'3', '... and what was committed is visible on the standby');
my $seen = 0;
for my $i (1 .. 10)
{
	$primary->safe_psql('postgres', join(';', insert('remote_apply', "seen at once $i")));
	$seen += $standby->safe_psql('postgres', "SELECT count(*) FROM t WHERE level = 'seen at once $i'");
}
is($seen, 10, 'after each of 10 commits with remote_apply the standby shows it at once');

# --- written is not yet flushed

# The standby says that WAL is written before it flushes it, if somebody waits for that: so
# hearing of the one comes earlier than hearing of the other.
my $load = start_load([ $primary ], clients => 2, 'sync-commit' => 'remote_write');
ok(wait_until($primary, 'SELECT write_lag < flush_lag AND flush_lag <= replay_lag FROM tandem.links'),
	'with remote_write the standby answers before it flushes');
ok($load->wait_for(100), '... and commits go on');
ok($load->finish, 'the load ends well');
ok($load->check($primary), '... and all its commits are there');

# --- a wait that is cancelled

is(unreplicated(), 0, 'until now no commit was acknowledged without the standby');
freeze($walreceiver);
$commit = start_psql($primary, insert('on', 'cancelled'), 'SELECT level FROM t ORDER BY ctid DESC LIMIT 1');
ok(wait_until_held($commit), 'a commit is held');
$commit->cancel;
ok($commit->finish, 'cancelling its wait ends it, and not with an error');
like($commit->stderr, qr/WARNING:  canceling wait for synchronous replication due to user request\n.*DETAIL:  The transaction has already committed locally, but might not have been replicated to the standby\./s,
	'... with the warning of PostgreSQL');
is($commit->stdout, 'cancelled', '... and it is committed here');
is(unreplicated(), 1, '... and counted');
$primary->wait_for_log(qr/LOG:  a commit ending at .* was acknowledged without the standby/);
pass('... and logged');

$commit = start_psql($primary, insert('on', 'terminated'));
ok(wait_until_held($commit), 'another commit is held');
$primary->safe_psql('postgres', 'SELECT pg_terminate_backend(' . $commit->pid . ')');
ok(!$commit->finish, 'terminating its session ends it');
ok(wait_until($primary, 'SELECT unreplicated_commits = 2 FROM tandem.status'), '... and it is counted');

# What core does not wait for is not counted.
my %no_wait = (
	'a query' => 'SELECT count(*) FROM t',
	'a commit with synchronous_commit = off' => join(';', insert('off', 'off again')),
	'a commit with synchronous_commit = local' => join(';', insert('local', 'local again')),
	'a transaction that is rolled back' => "BEGIN; INSERT INTO t VALUES ('rolled back'); ROLLBACK",
	'a transaction that wrote nothing but has an ID' => 'SELECT pg_current_xact_id()',
	# the table itself is DDL, which would wait
	'a commit in a temporary table' =>
	  'SET synchronous_commit = local; CREATE TEMP TABLE x (i int);'
	  . ' SET synchronous_commit = on; INSERT INTO x VALUES (1)',
	'a commit in an unlogged table' => 'INSERT INTO u VALUES (1)');
foreach my $what (sort keys %no_wait)
{
	my $before = unreplicated();
	my $psql = start_psql($primary, split(/; ?/, $no_wait{$what}));

	ok($psql->finish, "$what does not wait");
	is(unreplicated(), $before, '... and is not counted');
}
thaw($walreceiver);
my $counted = unreplicated();
$primary->safe_psql('postgres', "INSERT INTO t VALUES ('after all that')");
is(unreplicated(), $counted, 'nor is a commit that has waited');
is_same_data($primary, $standby, 'in the end the standby has those that were cancelled too');

# --- alone

my ($ret, $out, $err) = $primary->psql('postgres', "SELECT tandem.set_alone('')");
like($err, qr/a reason is required/, 'set_alone wants a reason');
freeze($walreceiver);
$commit = start_psql($primary, insert('remote_apply', 'held before alone'));
ok(wait_until_held($commit), 'a commit is held');
$primary->safe_psql('postgres', "SELECT tandem.set_alone('the standby is being repaired')");
ok($commit->finish, 'set_alone lets it go');
my $status = query_row($primary, 'SELECT state, reason FROM tandem.status');
is_deeply($status, { state => 'alone', reason => 'set by an operator: the standby is being repaired' },
	'... and tandem.status says that, and why');
foreach my $level (qw(remote_write on remote_apply))
{
	my $commit = start_psql($primary, insert($level, "$level, alone"));
	ok($commit->finish, "alone, $level does not wait");
	is($commit->stderr, '', '... and there is no warning');
}
is($primary->safe_psql('postgres', 'SELECT released_lsn = pg_current_wal_flush_lsn() FROM tandem.status'),
	't', 'alone, what is durable here is released');
is(unreplicated(), $counted, 'what was committed alone is not counted: that was allowed');

# Going back: from then on commits wait, until the standby holds everything, also what was
# written while it did not count.
my $promised = $primary->lsn('insert');
$primary->safe_psql('postgres', 'SELECT tandem.set_in_sync()');
ok(wait_for_state($primary, 'stalled'), 'set_in_sync: nobody is in sync yet');
$commit = start_psql($primary, insert('remote_write', 'held after alone'));
ok(wait_until_held($commit), '... so a commit is held');
is($primary->safe_psql('postgres', "SELECT tandem.wait_for('$promised', '100 ms')"),
	't', '... what was let through remains released');
is($primary->safe_psql('postgres', "SELECT tandem.wait_for(pg_current_wal_flush_lsn(), '100 ms')"),
	'f', '... and what is held is not');
thaw($walreceiver);
ok($commit->finish, 'when the standby answers, the commit returns');
ok(wait_for_state($primary, 'in sync'), '... and the pair is in sync');
is($standby->safe_psql('postgres', "SELECT durable_lsn >= '$promised' FROM tandem.receiver"),
	't', '... with a standby that holds all that was let through');
is_same_data($primary, $standby, '... and has it');

# The same with a standby that is far behind.
freeze($walreceiver);
$primary->safe_psql('postgres', "SELECT tandem.set_alone('the standby is slow')");
$primary->safe_psql('postgres',
	"SELECT count(pg_logical_emit_message(true, 'bulk', repeat('x', 1024 * 1024))) FROM generate_series(1, 40)");
$promised = $primary->lsn('insert');
$primary->safe_psql('postgres', 'SELECT tandem.set_in_sync()');
$commit = start_psql($primary, insert('remote_write', 'held far behind'));
ok(wait_until_held($commit), 'with a standby that is far behind a commit is held');
ok(wait_until($primary, 'SELECT lag_bytes > 30000000 FROM tandem.links'), '... whose lag is seen');
thaw($walreceiver);
ok($commit->finish, '... until the standby has caught up');
is($standby->safe_psql('postgres', "SELECT durable_lsn >= '$promised' FROM tandem.receiver"),
	't', '... with all that was let through');
ok(wait_for_state($primary, 'in sync'), '... and the pair is in sync');
is($primary->safe_psql('postgres', 'SELECT tandem.set_in_sync(); SELECT state FROM tandem.status'),
	"\nin sync", 'set_in_sync changes nothing when it is not alone');

# Alone next to a standby that is well: commits do not wait, and the standby gets everything.
$primary->safe_psql('postgres', "SELECT tandem.set_alone('for a load')");
$load = start_load([ $primary ], clients => 2, rate => 200);
ok($load->wait_for(100), 'alone, with the standby connected, commits go on');
$primary->safe_psql('postgres', 'SELECT tandem.set_in_sync()');
ok($load->wait_for(100), '... and after set_in_sync as well');
ok(wait_for_state($primary, 'in sync'), '... in sync');
ok($load->finish, 'the load ends well');
ok(wait_for_replay($primary, $standby), 'the standby has replayed everything');
ok($load->check($standby), '... and has every acknowledged commit');
is(unreplicated(), $counted, 'no other commit was acknowledged without the standby');
is_same_data($primary, $standby, 'at the end the two nodes hold the same');

done_testing();
