# The gate is, to PostgreSQL, one more walsender.  What that must not do: crash the server when
# all places are taken, lose its place to somebody who takes its name, or end for good when a
# worker is ended.
use strict;
use warnings FATAL => 'all';

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;
use Time::HiRes qw(usleep);

# One place is the gate's and one is beta's.  (PostgreSQL::Test::Cluster turns restarts off.)
my $places = 4;
my $free = $places - 2;
my $alpha = make_primary('alpha', conf => "max_wal_senders = $places\nrestart_after_crash = on");
my $beta = make_standby('beta', $alpha);
my @receivers;
my $received = 0;

# A client that receives WAL and says at once that it is durable.
sub start_receiver
{
	my ($name) = @_;
	my $directory = $alpha->basedir . '/received.' . ++$received;
	my $output = '';

	mkdir $directory or die $!;
	my $run = IPC::Run::start(
		[
			'pg_receivewal', '--no-loop', '--synchronous', '-D', $directory,
			'-d', $alpha->connstr('postgres') . " application_name=$name"
		],
		'<', \undef, '>&', \$output,
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	my $receiver = { run => $run, output => \$output };
	push @receivers, $receiver;
	return $receiver;
}

sub end_receivers
{
	foreach my $receiver (splice @receivers)
	{
		$receiver->{run}->signal('INT');
		$receiver->{run}->finish;
	}
	return wait_until($alpha, "SELECT count(*) = 0 FROM pg_stat_activity
							   WHERE backend_type = 'walsender' AND application_name <> 'beta'");
}

END
{
	my $status = $?;
	$_->{run}->kill_kill foreach @receivers;
	$? = $status;
}

sub one
{
	my ($query) = @_;

	return $alpha->safe_psql('postgres', $query);
}

# The log has a line like this, from this position on; it may take the gate a second.
sub log_has
{
	my ($node, $pattern, $from) = @_;

	for (1 .. 10 * $TandemPair::patience)
	{
		return 1 if slurp_file($node->logfile, $from) =~ $pattern;
		usleep(100_000);
	}
	return 0;
}

sub worker_pid
{
	my ($type) = @_;

	return one("SELECT pid FROM pg_stat_activity WHERE backend_type = '$type'");
}

# All places that are free can be used; then a client is told so, and nobody suffers.
sub exhaust
{
	my ($when) = @_;
	my $log = -s $alpha->logfile;

	start_receiver("receiver_$_") foreach (1 .. $free);
	ok( wait_until($alpha,
			"SELECT count(*) = $free FROM pg_stat_replication
			  WHERE application_name LIKE 'receiver%' AND state = 'streaming'"),
		"$when, $free of $places places are free besides the gate's and the standby's");
	my $one_more = start_receiver('one_more');
	ok(!$one_more->{run}->finish, 'one more client is refused');
	like(
		${ $one_more->{output} },
		qr/number of requested standby connections exceeds max_wal_senders \(currently $places\)/,
		'and told why');
	pop @receivers;
	ok(end_receivers(), 'the clients leave');
	unlike(slurp_file($alpha->logfile, $log), qr/terminated by signal|PANIC|crash/,
		'no process of the server crashed');
	is(one("SELECT state FROM tandem.links"), 'streaming', 'the link is up all the time');
	return;
}

#
# All places taken
#
ok(wait_for_state($alpha, 'in sync'), 'the pair is in sync');
one('CREATE TABLE kept (id int)');
exhaust('while the link is up');

# The standby itself may find all places taken when it comes.
$beta->stop;
start_receiver("receiver_$_") foreach (1 .. $free + 1);
ok( wait_until($alpha, "SELECT count(*) = $free + 1 FROM pg_stat_replication
						 WHERE application_name LIKE 'receiver%' AND state = 'streaming'"),
	'without the standby its place is free too');
my $log = -s $beta->logfile;
$beta->start;
ok(log_has($beta, qr/exceeds max_wal_senders/, $log), 'the standby is told that there is no place');
ok(end_receivers(), 'the clients leave');
ok(wait_for_link($alpha, 'beta', 'streaming'), 'then the standby has its link again');
ok(wait_for_state($alpha, 'in sync'), 'and the pair is in sync');

#
# A stranger who calls itself as the gate does.  It receives everything and says that it is
# durable: without the gate that would release every commit.
#
my $impostor = qr/WARNING: +replication client with PID \d+ calls itself "tandem" and is ignored/;

# A commit that is held although the stranger has confirmed it.
sub commit_for_stranger
{
	my $commit = start_psql($alpha, 'INSERT INTO kept VALUES (1)');

	ok(wait_until_held($commit), 'a commit is held');
	start_receiver('tandem') if !@receivers;
	my $lsn = one('SELECT pg_current_wal_insert_lsn()');
	ok( wait_until($alpha,
			"SELECT r.flush_lsn >= '$lsn'
			   FROM pg_stat_replication r JOIN pg_stat_activity a USING (pid)
			  WHERE a.backend_type = 'walsender' AND r.application_name = 'tandem'"),
		'the stranger confirms it');
	return $commit;
}

sub let_stranger_go
{
	$beta->start;
	ok($_->finish, 'it returns when the standby is back') foreach @_;
	ok(end_receivers(), 'the stranger leaves');
	ok(wait_for_state($alpha, 'in sync'), 'and the pair is in sync');
	return;
}

$beta->stop;
ok(wait_for_state($alpha, 'stalled'), 'without the standby commits are held');
my $from = -s $alpha->logfile;
my @commits = commit_for_stranger();
ok(log_has($alpha, $impostor, $from), 'the log warns of the stranger');
push @commits, commit_for_stranger();
# A reload makes every walsender look up its priority again.
$alpha->reload;
push @commits, commit_for_stranger();
is(held_commits($alpha), 3, 'none of these was released');
let_stranger_go(@commits);

# In a quorum list the gate is one among equals, so the stranger counts until it is found.  Such a
# list is not to be used; it is warned of.
$from = -s $alpha->logfile;
one("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (tandem)'");
$alpha->reload;
ok(log_has($alpha, qr/WARNING: +synchronous_standby_names is not "tandem"/, $from),
	'a quorum list is warned of');
$beta->stop;
ok(wait_for_state($alpha, 'stalled'), 'without the standby commits are held there, too');
start_receiver('tandem');
ok(log_has($alpha, $impostor, $from), 'the log warns of the stranger');
@commits = commit_for_stranger();
push @commits, commit_for_stranger();
is(held_commits($alpha), 2, 'none of these was released');
let_stranger_go(@commits);
one('ALTER SYSTEM RESET synchronous_standby_names');
$alpha->reload;

#
# Workers that are ended
#
my $gate = worker_pid('pg_tandem gate');
is(one("SELECT pg_terminate_backend($gate)"), 't', 'the gate worker is told to end');
ok( wait_until($alpha,
		"SELECT pid <> $gate FROM pg_stat_activity WHERE backend_type = 'pg_tandem gate'"),
	'another one takes its place');
one('INSERT INTO kept VALUES (4)');
is(one('SELECT state FROM tandem.status'),
	'in sync', 'commits are acknowledged by the standby, as before');

my $link = one("SELECT pid FROM tandem.links WHERE name = 'beta'");
is(one("SELECT pg_terminate_backend($link)"), 't', 'the link\'s worker is told to end');
ok(wait_for_receiver($beta, 'streaming without the link'),
	'the standby goes back to its walsender');
ok(wait_for_state($alpha, 'in sync'), 'commits can be acknowledged by it');
one('INSERT INTO kept VALUES (5)');
is(one("SELECT state FROM tandem.links WHERE name = 'beta'"), 'down', 'without the link');
ok(wait_for_receiver($beta, 'streaming'), 'later it has a link again');
ok(wait_for_link($alpha, 'beta', 'streaming'), 'as both sides say');
is_same_data($alpha, $beta, 'nothing was lost on the way');

# Killed, a worker may leave shared memory in any state: the server restarts all processes.
foreach my $type ('pg_tandem gate', 'pg_tandem link')
{
	my $pid = $type eq 'pg_tandem gate' ? worker_pid($type) : one('SELECT pid FROM tandem.links');
	my $before = query_row($alpha, 'SELECT term, incarnation FROM tandem.status');

	kill('KILL', $pid) == 1 or die "could not kill process $pid: $!";
	ok( wait_until($alpha, "SELECT incarnation > $before->{incarnation} FROM tandem.status"),
		"after its $type was killed the server has begun another incarnation");
	is(one('SELECT term FROM tandem.status'), $before->{term}, 'in the same term');
	ok(wait_for_link($alpha, 'beta', 'streaming'), 'the standby has its link again');
	ok(wait_for_state($alpha, 'in sync'), 'and the pair is in sync');
}
one('INSERT INTO kept VALUES (6)');
is_same_data($alpha, $beta, 'both hold the same');
exhaust('after a crash restart');

#
# Without room for a gate there is no replication by pg_tandem, and an ordinary server.
#
$beta->stop;
foreach my $number (0, 1)
{
	my $from = -s $alpha->logfile;

	$alpha->append_conf('postgresql.conf',
		"max_wal_senders = $number\nsynchronous_standby_names = ''");
	$alpha->restart;
	my $warning = qr/WARNING: +pg_tandem cannot replicate with max_wal_senders = $number\n/;
	like(
		slurp_file($alpha->logfile, $from),
		qr/$warning.*HINT: +Set max_wal_senders to/,
		"with max_wal_senders = $number the log says that and what to do");
	one("INSERT INTO kept VALUES (10 + $number)");
	is(one("SELECT id FROM kept WHERE id = 10 + $number"), 10 + $number, 'commits return');
	is(one('SELECT role FROM tandem.status'), 'primary', 'the view can be read');
	is(one('SELECT state IS NULL FROM tandem.status'),
		't', 'and claims no state of a gate that is not there');
	is(one('SELECT count(*) FROM tandem.links'), '0', 'there is no link');
	foreach my $function ("set_alone('nobody is here')", 'set_in_sync()')
	{
		my ($code, $out, $error) = $alpha->psql('postgres', "SELECT tandem.$function", timeout => 60);

		isnt($code, 0, "tandem.$function cannot be done");
		like($error, qr/max_wal_senders/, 'and says why');
	}
}
start_receiver('receiver');
ok(wait_until($alpha, "SELECT state = 'streaming' FROM pg_stat_replication"),
	'one client can receive WAL from it, as from any server');
ok(end_receivers(), 'and leave');
unlike(slurp_file($alpha->logfile), qr/PANIC|TRAP:/, 'there was no panic in all this');

done_testing();
