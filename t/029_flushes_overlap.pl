# Flushes of received WAL overlap when WAL comes quickly.  One counts only when all before it have
# ended well; if one fails nothing of it or behind it may have been acknowledged.
use strict;
use warnings FATAL => 'all';

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;
use Time::HiRes qw(time usleep);

my $tools = PostgreSQL::Test::Utils::tempdir;
my $order = "$tools/order";
mkdir $order or die $!;
system_or_bail('make', '-s', '-C', "$FindBin::RealBin/../test/tools", "build=$tools",
	"$tools/flushorder.so");

my $alpha = make_primary('alpha', conf => "fsync = on\nautovacuum = off");
my $beta = make_standby('beta', $alpha, start => 0, conf => 'fsync = on');
{
	local $ENV{LD_PRELOAD} = "$tools/flushorder.so";
	local $ENV{FLUSHORDER} = $order;

	$beta->start;
}
$alpha->safe_psql('postgres',
	'SET synchronous_commit = local; CREATE EXTENSION pg_tandem; CREATE TABLE t (i int)');
ok(wait_for_state($alpha, 'in sync'), 'the standby is in sync');

sub wait_for_it
{
	my ($true) = @_;
	my $end = time + $TandemPair::patience;

	while (!$true->())
	{
		return 0 if time >= $end;
		usleep(10_000);
	}
	return 1;
}

# The walreceiver flushes by itself until WAL comes so quickly that it starts two threads for it.
my $walreceiver = walreceiver_pid($beta);
my $load = start_load([ $alpha, $beta ], clients => 8, rate => 4000);
ok(wait_for_it(sub { scalar(my @tasks = glob "/proc/$walreceiver/task/*") == 3 }),
	'when WAL comes quickly, flushes may overlap');
$alpha->safe_psql('postgres', 'SELECT pg_switch_wal()') foreach 1 .. 3;
ok($load->wait_for(500), 'commits are acknowledged, also across segments');
ok($load->finish, 'the load ends');

# A commit whose flush on the standby is held: it makes the file $number.
sub held_commit
{
	my ($number) = @_;
	my $session = start_psql($alpha, "INSERT INTO t VALUES ($number)");

	ok(wait_for_it(sub { -e "$order/$number" }), "flush $number begins");
	ok(wait_until_held($session), 'its commit waits');
	return $session;
}

# Let a flush end.  It has been noticed when the walreceiver has taken more WAL.
sub ends
{
	my ($number) = @_;
	my $written = $beta->safe_psql('postgres', 'SELECT written_lsn FROM tandem.receiver');

	unlink "$order/$number" or die $!;
	$alpha->safe_psql('postgres', 'SET synchronous_commit = local; INSERT INTO t VALUES (0)');
	return wait_until($beta, "SELECT written_lsn > '$written' FROM tandem.receiver");
}

my $durable = 'SELECT durable_lsn FROM tandem.receiver';

#
# The later one ends first.
#
append_to_file("$order/hold", '');
my $first = held_commit(1);
my $second = held_commit(2);
my $before = $beta->safe_psql('postgres', $durable);
ok(ends(2), 'the later flush ends while the earlier one is under way');
is($beta->safe_psql('postgres', $durable), $before, 'but it does not count as durable');
ok(!$first->done && !$second->done, 'and neither commit is acknowledged');
unlink "$order/hold" or die $!;
unlink "$order/1" or die $!;
ok($first->finish, 'the earlier one ends: its commit is acknowledged');
ok($second->finish, 'and so is the other');

#
# The link is lost while flushes are under way.
#
append_to_file("$order/hold", '');
$first = held_commit(3);
$second = held_commit(4);
$alpha->safe_psql('postgres', "ALTER SYSTEM SET tandem.link_options = 'beta: compression=lz4'");
$alpha->reload; # it is opened again for that
ok(wait_for_state($alpha, 'stalled'), 'the primary has lost its link');
ok(!$first->done && !$second->done, 'neither commit is acknowledged');
unlink "$order/hold" or die $!;
unlink "$order/4" or die $!;
unlink "$order/3" or die $!;
ok($first->finish, 'they end, the link is opened again: the one commit is acknowledged');
ok($second->finish, 'and the other');
ok(wait_for_state($alpha, 'in sync'), 'in sync again');

#
# The earlier one fails after the later one has ended.
#
append_to_file("$order/hold", '');
$first = held_commit(5);
$second = held_commit(6);
ok(ends(6), 'again the later flush ends first');
append_to_file("$order/5.fails", '');
unlink "$order/5" or die $!;
my $panic = qr/PANIC: +could not fsync a WAL segment: Input\/output error/;
ok(wait_for_it(sub { slurp_file($beta->logfile) =~ $panic }),
	'the earlier one fails: the standby stops');
ok(wait_for_state($alpha, 'stalled'), 'the primary has lost it');
ok(!$first->done && !$second->done, 'and neither commit was acknowledged');
unlink glob("$order/*");
$beta->stop('immediate', fail_ok => 1);
$beta->start;
ok($first->finish, 'it is started again: the one commit is acknowledged');
ok($second->finish, 'and the other');
ok($load->check($_), 'all that was acknowledged is on ' . $_->name) foreach $alpha, $beta;
is_same_data($alpha, $beta, 'both hold the same');

done_testing();
