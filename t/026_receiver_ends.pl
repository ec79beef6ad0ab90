# The walreceiver is ended while it catches up, when it flushes seldom.  What it has written is
# replayed next, and the walreceiver after it says that all before its first segment is durable: so
# it must flush before it ends, as core's does.
use strict;
use warnings FATAL => 'all';

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;

my $tools = PostgreSQL::Test::Utils::tempdir;
my $log = "$tools/log";
my $term = "$tools/term";
system_or_bail('make', '-s', '-C', "$FindBin::RealBin/../test/tools", "build=$tools",
	"$tools/walsync.so");

my $alpha = make_primary('alpha', conf => "fsync = on\nautovacuum = off");
my $beta = make_standby('beta', $alpha);
$alpha->safe_psql('postgres', 'CREATE TABLE t (i int)');
$beta->stop;
$alpha->safe_psql('postgres',
	"SET synchronous_commit = local;
	 SELECT count(pg_logical_emit_message(true, 'x', repeat('x', 1024 * 1024))) FROM generate_series(1, 100);
	 INSERT INTO t VALUES (1)");

append_to_file($log, '');
append_to_file($term, '');
{
	local $ENV{LD_PRELOAD} = "$tools/walsync.so";
	local $ENV{WALSYNC_LOG} = $log;
	local $ENV{WALSYNC_TERM} = $term;

	$beta->start;
}
ok(wait_for_state($alpha, 'in sync'), 'the standby has caught up');
ok(!-e $term, 'one walreceiver was ended at its first write');

my ($first, %wrote, %flushed);
my $lines = 0;
foreach my $line (split /\n/, slurp_file($log))
{
	my ($pid, $what, $segment) = split / /, $line;

	$first //= $pid if $what eq 'write';
	next unless defined $first && $pid == $first;
	$what eq 'write' ? $wrote{$segment} = ++$lines : $flushed{$segment} = ++$lines;
}
cmp_ok(scalar(keys %wrote), '>', 0, 'it had written WAL');
isnt(walreceiver_pid($beta), $first, 'and is not the one that runs now');
is(join(' ', grep { ($flushed{$_} // 0) < $wrote{$_} } sort keys %wrote),
	'', 'it has flushed all that it wrote');
is_same_data($alpha, $beta, 'both hold the same');

#
# wal_sync_method is changed to one by which the write itself makes WAL durable, if the segment was
# opened for that.
#
sub opened_for_that
{
	my ($pid) = @_;

	foreach my $fd (glob "/proc/$pid/fd/*")
	{
		next unless (readlink($fd) // '') =~ m{/pg_wal/[0-9A-F]{24}$};
		my ($number) = $fd =~ /(\d+)$/;
		my ($flags) = slurp_file("/proc/$pid/fdinfo/$number") =~ /^flags:\s+(\d+)/m;
		return oct($flags) & 010000 ? 1 : 0; # O_DSYNC
	}
	return undef;
}

my $receiver = walreceiver_pid($beta);
is(opened_for_that($receiver), 0, 'with fdatasync it need not be');
$beta->safe_psql('postgres', "ALTER SYSTEM SET wal_sync_method = 'open_datasync'");
$beta->reload;
my $reloaded = "SELECT current_setting('wal_sync_method') = 'open_datasync'";
ok(wait_until($beta, $reloaded), 'the standby is told to use open_datasync');
foreach my $i (2 .. 1000)
{
	$alpha->safe_psql('postgres', "INSERT INTO t VALUES ($i)");
	last if opened_for_that($receiver);
}
is(walreceiver_pid($beta), $receiver, 'the same walreceiver takes more');
is(opened_for_that($receiver), 1, 'and its segment is opened for that');

done_testing();
