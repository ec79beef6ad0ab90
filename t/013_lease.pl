# A primary under a lease.  tandemd is played by faketandemd (test/tools), which writes the lease
# and gives the gate its commands as this test says.  Commits are acknowledged only while the
# lease is valid, whoever is stopped meanwhile; they wait for the copy of the database that
# tandemd has named, or for none when it says so; and ordinary users are kept out until what they
# could see is safe.
use strict;
use warnings FATAL => 'all';

use FakeTandemd;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;
use Time::HiRes qw(time usleep);

sub poll
{
	my ($condition) = @_;
	my $end = time + $TandemPair::patience;

	while (time < $end)
	{
		return 1 if $condition->();
		usleep(20_000);
	}
	return 0;
}

# What an ordinary user is told: the value, or the error.  The query goes with the command: who is
# refused reads nothing.
sub as_app
{
	my ($node, $query) = @_;
	my ($out, $err) = run_command(
		[ 'psql', '-XAtq', '-U', 'app', '-d', $node->connstr('postgres'), '-c', $query ]);

	return $err eq '' ? $out : $err;
}

# Does this session's commit wait in core's queue, or at the lease?
sub waits_at
{
	my ($node, $session, $event) = @_;

	return wait_until($node,
		"SELECT wait_event = '$event' FROM pg_stat_activity WHERE application_name = '$session->{name}'"
	);
}

sub postmaster
{
	my ($node) = @_;

	return (split(/\n/, slurp_file($node->data_dir . '/postmaster.pid')))[0];
}

# What a process shows in its title.
sub shows
{
	my ($pid) = @_;

	open my $file, '<', "/proc/$pid/cmdline" or return '';
	return join('', <$file>);
}

# The server has gone by itself; the next start of it is an ordinary one.
sub has_gone
{
	my ($node, $pid) = @_;

	poll(sub { !kill(0, $pid) }) or return 0;
	(delete $node->{asker})->end if $node->{asker};
	$node->{_pid} = undef;
	return 1;
}

my $conf = under_lease() . 'max_prepared_transactions = 5';
my $not_yet = qr/FATAL:  not yet: waiting for the standby/;

#
# Before anything is authorised
#
my $td = start_tandemd('alpha');
my $alpha = make_primary('alpha', conf => $conf);
pass('a superuser comes in, and may write without waiting for a lease or a standby');
ok(wait_report($td, role => 'primary', term => 1, open => 0), 'without a lease a primary has the term it would have without tandemd');
ok(wait_until($alpha, "SELECT pg_postmaster_start_time() < now()"), 'who reads does not wait');
$alpha->stop('immediate');
order($td, 'hold 3 60000 0');
$alpha->start;
ok(wait_report($td, role => 'primary', term => 3, require => 1, open => 0, lease_required => 1),
	'a primary that starts has the term of the lease, waits, and is not open');
$alpha->safe_psql('postgres', 'SET synchronous_commit = local; CREATE ROLE app LOGIN;'
	  . ' CREATE TABLE t (i int); GRANT ALL ON t TO app');
like(as_app($alpha, 'SELECT 1'), $not_yet, 'an ordinary user is told that it is not time yet');
my $held = start_psql($alpha, 'INSERT INTO t VALUES (1)');
ok(wait_until_held($held), 'a commit is held while nothing is authorised');

my $tdb = start_tandemd('beta');
my $beta = make_standby('beta', $alpha, start => 0);
is(order($tdb, 'copy ' . $beta->data_dir . ' aaaa complete'), 'ok', 'the standby is copy aaaa');
$beta->start;
ok(wait_report($tdb, role => 'standby', link_up => 1, follows => 'alpha'),
	'the standby reports what it is and whom it follows');
ok(wait_report($td, 'beta.session' => sub { $_[0] > 0 }, 'beta.copy' => 'aaaa', 'beta.near_end' => 1),
	'the primary reports the standby, its session and its copy');
$alpha->safe_psql('postgres', 'SET synchronous_commit = local; CREATE EXTENSION IF NOT EXISTS pg_tandem');
ok(!$held->done, 'a standby that nobody has named releases nothing');

order($td, 'require 3 beta bbbb');
ok(wait_report($td, cmd => 1, peer => 'beta', peer_copy => 'bbbb'), 'another copy is named');
ok(wait_until($alpha, "SELECT reason LIKE '%is not the copy%' FROM tandem.status"),
	'the state says that this standby is not that copy');
ok(!$held->done, 'and its answers release nothing');
like(as_app($alpha, 'SELECT 1'), $not_yet, 'ordinary users are still kept out');

order($td, 'require 3 beta aaaa');
ok($held->finish, 'when its own copy is named the commit returns');
ok(wait_report($td, cmd => 2, open => 1, peer_copy => 'aaaa'), 'and the gate opens');
is(as_app($alpha, 'SELECT count(*) FROM t'), '1', 'ordinary users come in');
ok(wait_for_state($alpha, 'in sync'), 'the state is in sync');
($held) = $alpha->psql('postgres', "SELECT tandem.set_alone('by hand')");
isnt($held, 0, 'an operator cannot decide here what the watchdog decides');

#
# tandemd comes and goes; commits go on under the lease
#
order($td, 'deaf');
is(as_app($alpha, 'INSERT INTO t VALUES (2); SELECT 2'), '2', 'commits go on without the connection');
order($td, 'listen');
ok(wait_report($td, open => 1, cmd => 2), 'the worker comes back, and says which command it has carried out');
order($td, 'raw 10');
ok(wait_report($td, connected => 1, open => 1), 'after what is no command it begins anew');
order($td, 'lease 3 60000 0');
stop_tandemd($td);
is(as_app($alpha, 'INSERT INTO t VALUES (3); SELECT 3'), '3', 'commits go on without tandemd');
$td = start_tandemd('alpha');
order($td, 'hold 3 60000 0');
ok(wait_report($td, open => 1, instance => 1, cmd => 2), 'another tandemd is found');
order($td, 'alone 3');
ok(poll(sub { report($td)->{reports} >= 3 }), 'it has got several reports since');
is(report($td)->{require}, '1', 'its command with a number that has been is not carried out');
order($td, 'instance 2');

#
# A lease that cannot be read
#
foreach my $trick ([ 'tear', 'mend' ], [ 'version 9', 'version 1' ], [ 'node gamma', 'node alpha' ])
{
	order($td, $trick->[0]);
	my $sync = start_psql($alpha, 'INSERT INTO t VALUES (4)');
	ok(waits_at($alpha, $sync, 'SyncRep'), "after \"$trick->[0]\" a commit waits for the gate");
	my $async = start_psql($alpha, 'SET synchronous_commit = off', 'INSERT INTO t VALUES (5)');
	ok(waits_at($alpha, $async, 'Extension'), 'one that is not synchronous waits for the lease');
	my $prepare = start_psql($alpha, "BEGIN; INSERT INTO t VALUES (6); PREPARE TRANSACTION 'p'");
	ok(waits_at($alpha, $prepare, 'SyncRep'), 'PREPARE TRANSACTION waits');
	is($alpha->safe_psql('postgres', 'SELECT 7'), '7', 'who reads does not wait');
	order($td, $trick->[1]);
	ok($sync->finish && $async->finish && $prepare->finish, 'then all go on');
	order($td, $trick->[0]);
	my $second = start_psql($alpha, "COMMIT PREPARED 'p'");
	ok(waits_at($alpha, $second, 'SyncRep'), 'COMMIT PREPARED waits');
	order($td, $trick->[1]);
	ok($second->finish, 'and goes on');
}

#
# Alone, and back
#
my $frozen = walreceiver_pid($beta);
freeze($frozen);
my $stalled = start_psql($alpha, 'INSERT INTO t VALUES (8)');
ok(waits_at($alpha, $stalled, 'SyncRep'), 'without an answer of the standby a commit waits');
order($td, 'alone 2');
order($td, 'alone 3');
ok($stalled->finish, 'when alone is authorised it returns');
ok(wait_report($td, cmd => 2, instance => 2, require => 0), 'the gate says so; the command of another term was ignored');
is($alpha->safe_psql('postgres', 'SELECT state FROM tandem.status'), 'alone', 'the state is alone');
is(as_app($alpha, 'INSERT INTO t VALUES (9); SELECT 9'), '9', 'others commit, too');
order($td, 'tear');
my $lonely = start_psql($alpha, 'INSERT INTO t VALUES (10)');
ok(waits_at($alpha, $lonely, 'Extension'), 'while alone each session itself waits for the lease');
order($td, 'mend');
ok($lonely->finish, 'and goes on with it');

order($td, 'require 3 beta aaaa');
ok(wait_report($td, require => 1, waits_from => sub { $_[0] > 0 }), 'the gate waits for the standby again, and says from where');
my $from = report($td)->{waits_from};
cmp_ok(report($td)->{'beta.flush'}, '<', $from, 'which the standby does not hold');
my $again = start_psql($alpha, 'INSERT INTO t VALUES (11)');
ok(waits_at($alpha, $again, 'SyncRep'), 'so commits wait again');
thaw($frozen);
ok($again->finish, 'until the standby answers');
ok(wait_report($td, 'beta.flush' => sub { $_[0] >= $from }), 'and holds all that was let through');
is_same_data($alpha, $beta, 'the two are the same');

#
# A higher term in place, under load
#
my $load = start_load([$alpha]);
ok($load->wait_for(50), 'there is a load');
my $incarnation = report($td)->{inc};
order($td, 'hold 4 60000 0');
$held = start_psql($alpha, 'INSERT INTO t VALUES (12)');
ok(waits_at($alpha, $held, 'SyncRep'), 'commits wait while the lease is of a higher term than the gate');
order($td, 'term 4 ' . ($incarnation + 5));
ok(wait_report($td, term => 4, inc => $incarnation + 5, open => 1), 'the gate takes the higher term');
ok($held->finish && $load->wait_for(50), 'and the commits go on');
ok(wait_until($beta, 'SELECT term = 4 FROM tandem.status'), 'the standby has the new incarnation');
is($beta->safe_psql('postgres', 'SELECT count(*) FROM tandem.events WHERE message LIKE \'%discard%\''),
	'0', 'and had nothing to discard');
order($td, 'term 4 99');
order($td, 'require 3 beta aaaa');
ok($load->wait_for(20), 'commands for the same term, and under an earlier one, change nothing');
is(report($td)->{term} . '.' . report($td)->{inc}, '4.' . ($incarnation + 5), 'term and incarnation stay');

# the standby's own tandemd has promised another term
order($tdb, 'lease 0 -1000 5');
ok(wait_report($td, 'beta.session' => 0), 'a standby that has promised a higher term ends the link');
ok(wait_until($beta, "SELECT last_error = 'the primary''s term is over' FROM tandem.receiver"), 'and says why');
order($td, 'hold 5 60000 0');
order($td, 'term 5 0');
ok($load->wait_for(50), 'it comes back when the primary has that term');
ok($load->finish, 'the load has ended well');
ok($load->check($alpha), 'no acknowledged commit is missing');

#
# Paused over the end of the lease
#
order($td, 'budget 600000');
freeze($frozen = walreceiver_pid($beta));
my $paused = start_psql($alpha, 'INSERT INTO t VALUES (13)');
ok(waits_at($alpha, $paused, 'SyncRep'), 'a commit waits for the standby');
my $backend = $paused->pid;
freeze($backend);
thaw($frozen);
ok(wait_until($alpha, "SELECT released_lsn >= pg_current_wal_flush_lsn() FROM tandem.status"),
	'its process is stopped, and the gate releases it meanwhile');
my $locker = start_psql($alpha, 'SELECT pg_advisory_lock(1)', 'SELECT pg_sleep(600)');
ok(waits_at($alpha, $locker, 'PgSleep'), 'another has a lock');
my $reader = start_psql($alpha, 'SELECT pg_advisory_lock(1), 14');
ok(waits_at($alpha, $reader, 'advisory'), 'and a third, which only reads, waits for it');
my ($locking, $reading) = ($locker->pid, $reader->pid);
order($td, 'lease 5 -1000 0');
thaw($backend);
kill('TERM', $locking) == 1 or die "could not end process $locking: $!\n";
ok(poll(sub { shows($backend) =~ /waiting for the lease/ }), 'when it wakes up after the lease it does not acknowledge');
ok(poll(sub { shows($reading) =~ /waiting for the lease/ }), 'nor does one that has read');
ok(!$paused->done && !$reader->done, 'their clients have been told nothing');
my $pid = postmaster($alpha);
freeze($pid);
order($td, 'budget 100');
ok(has_gone($alpha, $pid), 'after the stop budget the server is killed, although its postmaster is stopped');
thaw($pid);
ok(!$paused->finish && !$reader->finish, 'no client was told that it has committed');
is($paused->stdout . $reader->stdout, '', 'not with a single word');
ok(poll(sub { !kill(0, $backend) && !kill(0, $reading) }), 'none of its processes is left');
like(slurp_file($alpha->logfile), qr/killed because the lease of term 5 ended/, 'the log says why');

#
# Starting again
#
$alpha->start(fail_ok => 1);
$pid = eval { postmaster($alpha) };
ok(!defined $pid || has_gone($alpha, $pid), 'a primary that starts after its lease is killed at once');
unlink($alpha->data_dir . '/postmaster.pid');
$alpha->{_pid} = undef;

order($td, 'budget 1000');
order($td, 'hold 6 60000 0');
$alpha->start;
ok(wait_report($td, role => 'primary', term => 6, open => 0, require => 1, instance => 0),
	'with another lease it starts in the term of that, closed');
like(as_app($alpha, 'SELECT 1'), $not_yet, 'ordinary users are kept out after a restart');
ok(wait_report($td, 'beta.session' => sub { $_[0] > 0 }), 'the standby is there again');
like(as_app($alpha, 'SELECT 1'), $not_yet, 'that alone lets nobody in');
order($td, 'instance 3');
order($td, 'require 6 beta aaaa');
ok(wait_report($td, open => 1), 'the gate opens when the named standby holds all WAL');
is(as_app($alpha, 'SELECT count(*) FROM t WHERE i = 13'), '1', 'what was not acknowledged may be there');
ok($load->check($alpha), 'and what was acknowledged is');

$beta->stop('immediate');
$alpha->stop('immediate');
$alpha->start;
ok(wait_report($td, role => 'primary', open => 0), 'restarted it is not open');
order($td, 'require 6 beta aaaa');
ok(wait_report($td, require => 1, cmd => 2, open => 0), 'restarted without its standby it waits');
like(as_app($alpha, 'SELECT 1'), $not_yet, 'and keeps ordinary users out');
order($td, 'alone 6');
ok(wait_report($td, open => 1, require => 0), 'until alone is authorised');
is(as_app($alpha, 'SELECT 16'), '16', 'then they come in');
like(slurp_file($alpha->logfile), qr/gate "alpha": open for clients in term 6/, 'the log has it');

#
# A standby is promoted with its users connected; a copy that is being rebuilt is none
#
$beta->start;
ok(wait_report($td, 'beta.session' => sub { $_[0] > 0 }), 'the standby streams again');
$beta->stop;
is(order($tdb, 'copy ' . $beta->data_dir . ' cccc rebuilding'), 'ok', 'the standby is being rebuilt');
$beta->start;
ok(wait_until($beta, "SELECT last_error LIKE '%being rebuilt%' FROM tandem.receiver"), 'then it opens no link');
is(report($td)->{'beta.session'}, '0', 'and the primary knows of none');
is(order($tdb, 'copy ' . $beta->data_dir . ' cccc complete'), 'ok', 'it has been rebuilt');
ok(wait_report($td, 'beta.copy' => 'cccc', 'beta.session' => sub { $_[0] > 0 }), 'then it is another copy');
ok(wait_for_replay($alpha, $beta), 'it has all WAL');

$alpha->stop('immediate');
my $app = IPC::Run::start(
	[ 'psql', '-XAtq', '-U', 'app', '-d', $beta->connstr('postgres') ],
	'<', \my $app_in, '>', \my $app_out, '2>&1', IPC::Run::timeout(170));
$app_in = "SELECT 17;\n";
$app->pump until $app_out =~ /17/;
pass('a user is connected to the standby');
order($tdb, 'hold 7 60000 7');
$beta->promote;
ok(wait_report($tdb, role => 'primary', term => 7, open => 0), 'it is promoted, in the term of its lease');
$app_out = '';
$app_in = "SELECT 18;\n";
$app->pump until $app_out =~ /\n/;
like($app_out, qr/ERROR:  not yet: waiting for the standby/, 'the user is told that it is not time yet');
order($tdb, 'alone 7');
ok(wait_report($tdb, open => 1), 'when the gate has opened');
$app_out = '';
$app_in = "SELECT 19;\n";
$app->pump until $app_out =~ /19/;
pass('the same session goes on');
$app_in = "\\q\n";
$app->finish;
ok($load->check($beta), 'no acknowledged commit is missing on the new primary');

done_testing();
