# A standby that replays late, and a primary that comes back without WAL which the standby has shown
# to its recovery but not replayed.  Recovery reads ahead, and has those records in memory: zeroing
# them on the disk does not take them back.  So the standby has diverged and must say so.
use strict;
use warnings FATAL => 'all';

use File::Path qw(rmtree);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;

my $alpha = make_primary('alpha', conf => 'autovacuum = off');
$alpha->safe_psql('postgres', 'SET synchronous_commit = local; CREATE TABLE t (i int)');
my $late = make_standby('late', $alpha, conf => 'recovery_min_apply_delay = 1h');
my $copy = $alpha->basedir . '/copy';

# commits of which the standby has everything durably, and shown to recovery
sub commit_shown
{
	my ($sql, $sentence) = @_;

	$alpha->safe_psql('postgres', $sql);
	my $lsn = $alpha->lsn('flush');
	return ok(wait_until($late, "SELECT pg_last_wal_receive_lsn() >= '$lsn'"), $sentence);
}

ok(wait_for_state($alpha, 'in sync'), 'the pair is in sync');
commit_shown('INSERT INTO t VALUES (1)', 'recovery may replay a commit, and waits an hour first');

$alpha->stop('immediate');
system_or_bail('cp', '-a', $alpha->data_dir, $copy);
$alpha->start;
ok(wait_for_state($alpha, 'in sync'), 'the primary was restarted, and the pair is in sync again');
commit_shown("INSERT INTO t VALUES ($_)", "commit $_ is shown, too") foreach 2 .. 5;
is($late->safe_psql('postgres', 'SELECT count(*) FROM t'), '0', 'none of them has been replayed');

# the primary is set back
$alpha->stop('immediate');
rmtree($alpha->data_dir);
system_or_bail('cp', '-a', $copy, $alpha->data_dir);
my $from = -s $late->logfile;
$alpha->start;
$alpha->safe_psql('postgres', 'SET synchronous_commit = local; INSERT INTO t VALUES (-1)');
ok($late->wait_for_log(qr/link "late": |this standby has diverged from its primary/, $from),
	'the standby meets the primary that has lost them');
like(slurp_file($late->logfile, $from), qr/FATAL: +this standby has diverged from its primary\n.*is replaying WAL up to/,
	'it says that it has diverged');
is($alpha->safe_psql('postgres', 'SELECT count(*) FROM tandem.links WHERE in_sync'), '0',
	'and is not in sync');

$late->safe_psql('postgres', 'ALTER SYSTEM SET recovery_min_apply_delay = 0');
$late->reload;
ok(wait_until($late, 'SELECT count(*) > 0 FROM t'), 'without the delay it replays what it has');
ok(wait_until($late, 'SELECT count(*) = 5 FROM t'), 'all of it');
is($late->safe_psql('postgres', 'SELECT count(*) FROM t WHERE i < 0'), '0',
	'and nothing of the primary that has lost it');

done_testing();
