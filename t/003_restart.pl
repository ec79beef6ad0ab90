# Standby and primary are restarted, in every way, under load: the link comes back by itself,
# and no acknowledged commit is lost.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;

my $primary = make_primary('alpha', conf => 'restart_after_crash = on');
my $standby = make_standby('beta', $primary);
my $incarnation = 1;

ok(wait_for_state($primary, 'in sync'), 'the pair is in sync');
my $load = start_load([ $primary ], clients => 2, rate => 100);
ok($load->wait_for(50), 'the load runs');

# What is so after every restart.
sub all_is_well
{
	my ($what) = @_;

	ok(wait_for_link($primary, 'beta', 'streaming'), "$what: the link comes back");
	ok(wait_for_state($primary, 'in sync'), '... and the pair is in sync');
	ok($load->wait_for(50), '... and commits go on');
	is($primary->safe_psql('postgres', 'SELECT incarnation FROM tandem.status'),
		$incarnation, "... in the primary's incarnation $incarnation");
	ok(wait_until($standby, "SELECT incarnation = $incarnation FROM tandem.status"),
		'... which the standby follows');
	is(slurp_file($standby->data_dir . '/pg_tandem/incarnations'),
		slurp_file($primary->data_dir . '/pg_tandem/incarnations'),
		'... and both have the same history');
	return;
}

# --- the standby

$standby->restart;
all_is_well('after a restart of the standby');
is($primary->safe_psql('postgres', 'SELECT connects FROM tandem.links'), '2', 'that was the second connection');

$standby->stop('immediate');
ok(wait_for_state($primary, 'stalled'), 'without the standby nobody is in sync');
like($primary->safe_psql('postgres', 'SELECT reason FROM tandem.status'),
	qr/^standby "beta": /, '... and tandem.status says who is missing');
ok(wait_for_link($primary, 'beta', 'down'), '... and the link is down');
$standby->start;
all_is_well('after a crash of the standby');

# --- a process of the primary crashes: it restarts in place

my $walreceiver = walreceiver_pid($standby);
my $victim = start_psql($primary, 'SELECT pg_sleep(600)');
ok(wait_until($primary, "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE application_name = '$victim->{name}'"),
	'a session sleeps');
kill('KILL', $victim->pid);
ok(!$victim->finish, '... and crashes');
ok($primary->poll_query_until('postgres', 'SELECT true'), 'the primary is back');
$incarnation++;
all_is_well('after a crash of a session');
is(walreceiver_pid($standby), $walreceiver, "the standby's walreceiver has lived through it");

# The same while alone: whether that may go on is not for the primary to decide by itself.
$primary->safe_psql('postgres', "SELECT tandem.set_alone('until the crash')");
$standby->stop('immediate');
ok($load->wait_for(50), 'alone, commits go on without the standby');
$victim = start_psql($primary, 'SELECT pg_sleep(600)');
ok(wait_until($primary, "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE application_name = '$victim->{name}'"),
	'a session sleeps');
kill('KILL', $victim->pid);
ok(!$victim->finish, '... and crashes');
ok($primary->poll_query_until('postgres', 'SELECT true'), 'the primary is back');
$incarnation++;
ok(wait_for_state($primary, 'stalled'), 'alone does not survive a crash');
ok(wait_until($primary, "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"),
	'... commits are held');
$standby->start;
all_is_well('after the standby is back');

# --- the primary as a whole

$primary->stop('immediate');
$primary->start;
$incarnation++;
all_is_well('after an immediate shutdown of the primary');

$primary->safe_psql('postgres', "SELECT tandem.set_alone('until the restart')");
$primary->restart;
$incarnation++;
all_is_well('after a restart of the primary, which was alone');

# Both at once.
$standby->stop;
$primary->stop('immediate');
$primary->start;
$incarnation++;
$standby->start;
all_is_well('after a crash of the primary while the standby was down');

# --- and nothing is lost

ok($load->finish, 'the load ends well');
ok(wait_for_replay($primary, $standby), 'the standby has replayed everything');
ok($load->check($primary), 'every acknowledged commit is on the primary');
ok($load->check($standby), '... and on the standby');
is_same_data($primary, $standby, 'the two nodes hold the same');

done_testing();
