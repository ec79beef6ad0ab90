# A primary that comes back with less WAL than its standby has replayed: its data directory is set
# back to an earlier copy.  The standby cannot follow, and nothing but the history of incarnations
# and the WAL itself tells that the two are no longer the same: system identifier and timeline are.
# It must say so and stay as it is, whichever way it could stream, until it is seeded again.
use strict;
use warnings FATAL => 'all';

use File::Copy;
use File::Path qw(rmtree);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;
use Time::HiRes qw(time usleep);

# no WAL but what the test writes
my $alpha = make_primary('alpha', conf => 'autovacuum = off');
my $beta = make_standby('beta', $alpha);
my $copy = $alpha->basedir . '/copy';
my $history = $alpha->data_dir . '/pg_tandem/incarnations';
my $lsn = qr{[0-9A-F]+/[0-9A-F]+};

sub log_has
{
	my ($node, $pattern, $from) = @_;
	my $end = time + $TandemPair::patience;

	while (time < $end)
	{
		return 1 if slurp_file($node->logfile, $from) =~ $pattern;
		usleep(100_000);
	}
	return 0;
}

sub copy_directory
{
	my ($from, $to) = @_;

	rmtree($to);
	return system_or_bail('cp', '-a', $from, $to);
}

sub rows
{
	my ($node) = @_;

	return $node->safe_psql('postgres', 'SELECT count(*), max(i) FROM t');
}

# The primary goes on from a copy of its directory, and then is set back to it.
sub set_back
{
	my ($keep_history) = @_;

	$alpha->stop;
	copy_directory($alpha->data_dir, $copy);
	$alpha->start;
	ok(wait_for_state($alpha, 'in sync'), 'the pair goes on');
	$alpha->safe_psql('postgres',
		"INSERT INTO t SELECT generate_series(101, 200);
		 SELECT pg_logical_emit_message(true, '', repeat('x', 1000000))");
	ok(wait_for_replay($alpha, $beta), 'the standby has replayed what will be lost');
	is(rows($beta), '200|200', 'and shows it');

	$alpha->stop('immediate');
	copy($history, "$copy/pg_tandem/incarnations") or die $! if $keep_history;
	copy_directory($copy, $alpha->data_dir);
	$alpha->start;
	$alpha->safe_psql('postgres', 'SET synchronous_commit = local; INSERT INTO t VALUES (-1)');
	is(rows($alpha), '101|100', 'the primary has lost it');
	return;
}

# Nothing comes from the primary any more, by no way.
sub is_kept_out
{
	my ($sentence) = @_;

	is(rows($beta), '200|200', $sentence);
	is( $alpha->safe_psql('postgres',
			"SELECT count(*) FROM pg_stat_replication
			  WHERE application_name = 'beta' AND state = 'streaming'"),
		'0', 'and no walsender streams to it');
	is($alpha->safe_psql('postgres', "SELECT count(*) FROM tandem.links WHERE state = 'streaming'"),
		'0', 'nor does a link');
	return;
}

# Commits on the primary alone, until it has more WAL than the standby.
sub overtake
{
	my $end = $beta->safe_psql('postgres', 'SELECT pg_last_wal_replay_lsn()');

	is($alpha->safe_psql('postgres', 'SELECT state FROM tandem.status'),
		'stalled', 'commits on the primary are held');
	$alpha->safe_psql('postgres', "SELECT tandem.set_alone('the standby is to be seeded again')");
	$alpha->safe_psql('postgres', "SELECT pg_logical_emit_message(true, '', repeat('y', 2000000))");
	is($alpha->safe_psql('postgres', "SELECT pg_current_wal_flush_lsn() > '$end'"), 't',
		'alone the primary writes more WAL than the standby has');
	return;
}

ok(wait_for_state($alpha, 'in sync'), 'the pair is in sync');
$alpha->safe_psql('postgres',
	'CREATE TABLE t (i int); INSERT INTO t SELECT generate_series(1, 100)');
ok(wait_for_replay($alpha, $beta), 'the standby follows');

#
# The history of incarnations has survived, as it does when a disk loses what it was told to flush:
# every start of a primary is there, and where its WAL begins.
#
my $from = -s $beta->logfile;
set_back(1);
my $diverged = qr{
	FATAL:\ +this\ standby\ has\ diverged\ from\ its\ primary\n
	.*DETAIL:\ +The\ primary's\ WAL\ begins\ anew\ at\ $lsn,\ but\ this\ standby\ has
	\ replayed\ WAL\ up\ to\ $lsn\ that\ the\ primary\ does\ not\ have\.\n
	.*HINT:\ +Seed\ this\ standby\ again\ with\ pg_basebackup}x;
ok(log_has($beta, $diverged, $from),
	'the standby says that it has diverged, where, and what to do');
is_kept_out('it keeps what it has');

overtake();
$from = -s $beta->logfile;
ok(log_has($beta, $diverged, $from), 'that the primary has overtaken it does not make it follow');
is_kept_out('it keeps what it has still');

# Core's streaming would not notice.
$beta->append_conf('postgresql.conf', 'tandem.link = off');
$beta->restart;
$from = -s $beta->logfile;
ok(log_has($beta, $diverged, $from), 'without the link it says the same');
is_kept_out('and does not stream as core does');

# Seeded again, with the configuration it had.
$beta->stop;
my $conf = slurp_file($beta->data_dir . '/postgresql.conf');
$conf =~ s/^tandem.link = off$//m;
rmtree($beta->data_dir);
{
	local $ENV{PGPASSWORD} = 'standby';
	system_or_bail(
		'pg_basebackup', '-R', '--checkpoint=fast', '--no-sync', '--slot', 'beta',
		'-D', $beta->data_dir,
		'-d', 'host=127.0.0.1 user=replicator port=' . $alpha->port);
}
unlink $beta->data_dir . '/postgresql.conf';
append_to_file($beta->data_dir . '/postgresql.conf', $conf);
$beta->start;
ok(wait_for_link($alpha, 'beta', 'streaming'), 'after pg_basebackup it streams over the link');
$alpha->safe_psql('postgres', 'SELECT tandem.set_in_sync()');
ok(wait_for_state($alpha, 'in sync'), 'and the pair is in sync');
is_same_data($alpha, $beta, 'both hold the same');

#
# The history has been set back with the rest, as by a restored snapshot: both nodes tell of as many
# incarnations, but the last one is not the same.
#
$alpha->safe_psql('postgres', 'DELETE FROM t WHERE i NOT BETWEEN 1 AND 100');
$from = -s $beta->logfile;
set_back(0);
is($alpha->safe_psql('postgres', 'SELECT term, incarnation FROM tandem.status'),
	$beta->safe_psql('postgres', 'SELECT term, incarnation FROM tandem.status'),
	'both nodes know of as many incarnations');
ok(log_has($beta, $diverged, $from), 'the standby says that it has diverged all the same');
is_kept_out('it keeps what it has');

#
# Worse, somebody has copied that file too: the histories are the same.  The WAL itself differs.
#
$beta->stop;
copy($history, $beta->data_dir . '/pg_tandem/incarnations') or die $!;
$from = -s $beta->logfile;
$beta->start;
my $refused = qr/FATAL: +the primary refused the link: /;
my $hint = qr/.*HINT: +Seed the standby again with pg_basebackup/;
ok( log_has($beta,
		qr{${refused}the standby holds WAL up to $lsn, which is beyond the primary's end at $lsn\n$hint},
		$from),
	'the standby is told that it holds more than the primary');
is_kept_out('it keeps what it has');
overtake();
$from = -s $beta->logfile;
ok( log_has($beta,
		qr{${refused}the standby's WAL between $lsn and $lsn differs from the primary's\n$hint},
		$from),
	'when the primary has overtaken it, the standby is told that its WAL differs');
is_kept_out('it keeps what it has still');

done_testing();
