# A delayed standby, by recovery_min_apply_delay of PostgreSQL: the WAL is safe on its disk at
# once, it is shown later, commits that do not wait for replay are not held by it, and a promotion
# replays everything.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;

my $primary = make_primary('alpha', conf => 'tandem.max_links = 3');
my $beta = make_standby('beta', $primary);

$primary->safe_psql('postgres', 'CREATE TABLE t (i int)');
my $late = make_standby('late', $primary, conf => 'recovery_min_apply_delay = 1h');
ok(wait_until($primary, 'SELECT count(*) = 2 FROM tandem.links WHERE in_sync'), 'both standbys are in sync, one of them delayed by an hour');

sub commit_returns
{
	my ($level, $sentence) = @_;
	my $commit = start_psql($primary, "SET synchronous_commit = $level", 'INSERT INTO t VALUES (1)');

	return ok($commit->finish && $commit->stderr eq '', $sentence);
}

# --- with another one beside it

commit_returns('remote_apply', 'remote_apply waits for the one that is not delayed');
my $lsn = $primary->lsn('flush');
ok(wait_until($late, "SELECT durable_lsn >= '$lsn' FROM tandem.receiver"), 'the delayed one has it, durably');
is($late->safe_psql('postgres', 'SELECT count(*) FROM t'), '0', '... and does not show it');
ok(wait_until($primary, "SELECT exposure_bytes = 0 AND lag_bytes = 0 FROM tandem.links WHERE name = 'late'"), '... so nothing would be lost');
ok(wait_until($primary, "SELECT restart_lsn >= '$lsn' FROM pg_replication_slots WHERE slot_name = 'late'"), '... and the primary keeps no WAL for it');

# --- alone with it

$beta->stop;
ok(wait_for_link($primary, 'beta', 'down'), 'the other one is away');
is($primary->safe_psql('postgres', 'SELECT state FROM tandem.status'), 'in sync', 'the primary is in sync with the delayed one');
commit_returns($_, "... $_ returns") foreach qw(remote_write on);
is($late->safe_psql('postgres', 'SELECT count(*) FROM t'), '0', '... although that shows nothing yet');
my $commit = start_psql($primary, 'SET synchronous_commit = remote_apply', 'INSERT INTO t VALUES (2)');
ok(wait_until_held($commit), 'remote_apply waits, as it must: it is not replayed');
commit_returns('on', '... which holds nobody else');
$beta->start;
ok($commit->finish, '... until the other one is back and has replayed it');

# --- long streams, and a link that is lost, do not depend on replay

$primary->safe_psql('postgres', "SELECT count(pg_logical_emit_message(true, 'x', repeat('x', 1024 * 1024))) FROM generate_series(1, 100)");
$lsn = $primary->lsn('flush');
ok(wait_until($late, "SELECT durable_lsn >= '$lsn' FROM tandem.receiver"), '100 MB are durable on the delayed one');
my $pid = $primary->safe_psql('postgres', "SELECT pid FROM tandem.links WHERE name = 'late'");
$primary->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
commit_returns('on', 'a commit while its link is away');
$lsn = $primary->lsn('flush');
ok(wait_until($late, "SELECT durable_lsn >= '$lsn' AND state = 'streaming' FROM tandem.receiver"), 'the link is back and brings it');
is($late->safe_psql('postgres', 'SELECT count(*) FROM t'), '0', '... nothing of it is shown');

# --- the mistake: what it is for

$primary->safe_psql('postgres', 'DROP TABLE t');
ok(wait_until($beta, "SELECT to_regclass('t') IS NULL"), 'a table is dropped by mistake');
is($late->safe_psql('postgres', "SELECT to_regclass('t') IS NOT NULL"), 't', '... on the delayed standby it is still there');
$lsn = $primary->safe_psql('postgres', 'CREATE TABLE last AS SELECT 42 AS i; SELECT pg_current_wal_flush_lsn()');
ok(wait_until($late, "SELECT durable_lsn >= '$lsn' FROM tandem.receiver"), 'all WAL is there');

# --- the delay is changed by a reload, and a promotion does not wait for it

$late->safe_psql('postgres', 'ALTER SYSTEM SET recovery_min_apply_delay = 0');
$late->reload;
ok(wait_until($late, "SELECT to_regclass('t') IS NULL"), 'without the delay it replays at once');
$late->safe_psql('postgres', "ALTER SYSTEM SET recovery_min_apply_delay = '1h'");
$late->reload;
ok(wait_until($late, "SELECT current_setting('recovery_min_apply_delay') = '1h'"), 'with the delay again');
$primary->safe_psql('postgres', 'INSERT INTO last VALUES (43)');
$lsn = $primary->lsn('flush');
ok(wait_until($late, "SELECT durable_lsn >= '$lsn' FROM tandem.receiver"), 'a commit is durable there');
is($late->safe_psql('postgres', 'SELECT max(i) FROM last'), '42', '... and not shown');
$primary->stop('immediate');
$late->safe_psql('postgres', 'SELECT pg_promote(false)');
ok(wait_until($late, 'SELECT NOT pg_is_in_recovery()'), 'the primary is lost, the delayed one promoted');
is($late->safe_psql('postgres', 'SELECT max(i) FROM last'), '43', '... with every commit that was acknowledged');

done_testing();
