# Who is refused a link, and is told why: a standby of another database system, one that holds
# other WAL, one that cannot prove its key, a node whose name is taken, strangers.  Most of them
# are played by linkpeer (test/tools), a standby's side of the handshake that can be made to lie.
# All the while the link of a real standby must not notice anything.
use strict;
use warnings FATAL => 'all';

use FindBin;
use IO::Select;
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;
use Time::HiRes qw(time usleep);

my $tools = PostgreSQL::Test::Utils::tempdir;
system_or_bail('make', '-s', '-C', "$FindBin::RealBin/../test/tools", "build=$tools",
	"$tools/linkpeer");

my $alpha = make_primary('alpha', conf => "max_wal_senders = 10\nmax_replication_slots = 10");
my $beta = make_standby('beta', $alpha);
ok(wait_for_state($alpha, 'in sync'), 'the pair is in sync');

# What a peer that lies so is answered; in list context with what it says when it gets no offer.
sub peer
{
	my ($node, @lies) = @_;
	my $connection = 'replication=true';

	$connection = pop @lies if @lies && $lies[-1] =~ /^replication/;
	my ($out, $err) =
	  run_command([ "$tools/linkpeer", @lies, $node->connstr('postgres') . " $connection" ]);
	return ($out, $err) if wantarray;
	diag($err) if $err ne '';
	return $out;
}

sub poll
{
	my ($condition) = @_;
	my $end = time + $TandemPair::patience;

	while (time < $end)
	{
		return 1 if $condition->();
		usleep(50_000);
	}
	return 0;
}

# The log gets a line like this.
sub log_has
{
	my ($node, $pattern, $from) = @_;

	return poll(sub { slurp_file($node->logfile, $from) =~ $pattern });
}

sub stranger
{
	return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $alpha->{tandem_port}) || die $!;
}

# A peer that has proved its key, and is told why it is refused; the primary's log says it, too.
sub is_refused
{
	my ($what, $lies, $reason, $message, $hint) = @_;
	my $from = -s $alpha->logfile;
	my $answer = peer($alpha, @$lies);

	like($answer, qr/^refused \($reason\): $message/, "refused: $what");
	like($answer, qr/\(hint: .*$hint/, 'and told what to do') if defined $hint;
	ok(log_has($alpha, qr/LOG: .*$message/, $from), 'and the primary tells it, too');
	return;
}

# A peer that could be anybody.  Only one a second gets into the log, so this one comes until it
# does.
sub is_logged
{
	my ($what, $lies, $answer, $message) = @_;
	my $from = -s $alpha->logfile;
	my $line = qr/LOG: +refused a link connection from 127\.0\.0\.1:\d+: $message/;
	my $end = time + $TandemPair::patience;
	my $log;

	do
	{
		my $told = peer($alpha, @$lies);

		like($told, $answer, $what) if !defined $log;
		usleep(200_000);
		$log = slurp_file($alpha->logfile, $from);
	} while (() = $log =~ /refused a link connection/g) < 2 && $log !~ $line && time < $end;
	like(join('', grep { /refused a link/ } split /^/, $log), $line, 'and the primary\'s log says why');
	return;
}

my $link = "SELECT pid, connects, walsender_pid, state FROM tandem.links WHERE name = 'beta'";
my $workers = "SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity
				WHERE backend_type LIKE 'pg_tandem%'";
my $link_before = $alpha->safe_psql('postgres', $link);
my $workers_before = $alpha->safe_psql('postgres', $workers);
$alpha->safe_psql('postgres',
	'CREATE TABLE t (i int); INSERT INTO t SELECT generate_series(1, 1000)');

#
# Who gets an offer, and with it a key?
#
my $offer = qr/^offer:\ proto=1\ id=[0-9a-f]{16}\ key=[0-9a-f]{64}\ tls=1\ tli=1\ sys=\d+
	\ addr=127\.0\.0\.1:$alpha->{tandem_port}\ hist=1\.1\.1\.[0-9a-f]+\.[0-9a-f]+$/x;
my $first = peer($alpha, '--show-offer');
my $second = peer($alpha, '--show-offer');
like($_, $offer, 'a primary makes an offer on a replication connection') foreach ($first, $second);
isnt($first, $second, 'each time another one');
is(scalar(peer($alpha, '--show-offer', 'replication=database')),
	'offer: ', 'not on one that belongs to a database');
is(scalar(peer($beta, '--show-offer')), 'offer: standby', 'a standby says that it is one');
$alpha->safe_psql('postgres', 'CREATE ROLE nobody LOGIN');
my ($out, $err) = peer($alpha, '--show-offer', 'replication=true user=nobody');
is($out, '', 'a user without the attribute REPLICATION gets none');
like($err, qr/must be superuser or replication role/, 'but an error');

#
# Standbys that are admitted, but may not have the stream
#
my $lsn = qr{[0-9A-F]+/[0-9A-F]+};
like(scalar(peer($alpha)), qr/^welcome: node "alpha", term 1, incarnation 1, from $lsn$/,
	'a peer that does not lie is welcome');

is_refused('another system identifier', ['--system=1'], 'another database system',
	qr/database system identifier differs: the primary's is \d{10,}, the standby's is 1/,
	'pg_basebackup');
is_refused('another timeline', ['--timeline=2'], 'not a primary',
	qr/timeline differs: the primary's is 1, the standby's is 2/);
is_refused('another history of the timeline', ['--wrong-timeline-history'], 'another timeline',
	qr/timeline 1 has another history on the standby/, 'pg_basebackup');
is_refused('another history of incarnations', ['--history=1.1.1.1000028.1,1.2.1.1000060.2'],
	'not a primary', qr/the standby's incarnation history is not this primary's/);
is_refused('a standby that is ahead', ['--start=FFF/28'], 'diverged',
	qr{the standby holds WAL up to FFF/28, which is beyond the primary's end at $lsn},
	'pg_basebackup');
is_refused('other WAL before the resume point', ['--wrong-tail=1000'], 'diverged',
	qr{the standby's WAL between $lsn and $lsn differs from the primary's}, 'pg_basebackup');
is_refused('a node name in use', ['--name=beta'], 'node name in use',
	qr/node name "beta" is in use by another link/, 'tandem.node_name');
is_refused('a slot that does not exist', ['--slot=nowhere'], 'replication slot',
	qr/replication slot "nowhere" does not exist/, 'primary_slot_name');
is_refused('a slot that another one uses', ['--slot=beta'], 'replication slot',
	qr/replication slot "beta" is active for PID \d+/, 'primary_slot_name');
is_refused('no node name', ['--name='], 'protocol violation', qr/the standby has no node name/);

my $message = qr/malformed node name/;
is_logged('a node name that would make two lines in a log', ["--name=two\nlines"],
	qr/^refused \(protocol violation\): $message/, $message);
$message = qr/malformed greeting/;
is_logged('a greeting that is cut short', ['--truncate=1'],
	qr/^refused \(protocol violation\): $message/, $message);
$message = qr/unexpected frame instead of a greeting/;
is_logged('something else than a greeting', ['--wrong-frame'],
	qr/^refused \(protocol violation\): $message/, $message);
my $version = qr/protocol version 2 is not supported; this node speaks version 1/;
is_logged('a future version of the protocol', ['--version=2'],
	qr/^refused \(protocol version\): $version/, $version);

# What a standby says when it is welcome is not believed, either.
my $from = -s $alpha->logfile;
$message = 'protocol violation: an answer that cannot be true';
like(scalar(peer($alpha, '--acknowledge=FFF/28')), qr/^welcome: .*\nclosed: /s,
	'who claims to hold what was never sent is thrown out');
ok(log_has($alpha, qr/link "linkpeer": down: $message/, $from), 'and the log says why');
is($alpha->safe_psql('postgres', "SELECT last_error FROM tandem.links WHERE name = 'linkpeer'"),
	$message, 'and the view');

#
# Peers that do not prove the key
#
foreach my $tls ('on', 'off')
{
	$alpha->append_conf('postgresql.conf', "tandem.tls = $tls");
	$alpha->reload;
	my $number = $tls eq 'on' ? 1 : 0;
	ok(poll(sub { peer($alpha, '--show-offer') =~ / tls=$number / }), "tandem.tls is $tls");

	is_logged('a wrong key', ['--wrong-key'], qr/^closed: /,
		$tls eq 'on'
		? qr/could not agree on TLS with the peer: binder does not verify/
		: qr/the peer closed the connection/);
	my $unknown = qr/unknown or used one-time key/;
	is_logged('an offer that was never made', ['--id=1234567890abcdef'], qr/^closed: /, $unknown);
	is_logged('a key that has been used', ['--use-key-twice'], qr/^welcome: .*\nclosed: /s, $unknown);
	is_logged('a link without encryption though the offer is for one with', ['--no-tls-in-offer'],
		qr/^closed: $unknown/, $unknown)
	  if $tls eq 'on';
	is_logged('a future version of the protocol, without encryption', ['--version=2'],
		qr/^closed: $version/, $version)
	  if $tls eq 'off';
}
$alpha->append_conf('postgresql.conf', 'tandem.tls = on');
$alpha->reload;

#
# Strangers
#
$from = -s $alpha->logfile;
my $begin = time;
my @lines;
do
{
	foreach my $count (0, 1, 5, 55, 56, 57, 1000, 100_000)
	{
		# as it comes, and beginning as a frame of ours does
		my $noise = join('', map { chr(int rand 256) } 1 .. $count);
		my $frame = substr("TNDM\1" . 'x' x $count, 0, $count);

		foreach my $bytes ($noise, $frame)
		{
			local $SIG{PIPE} = 'IGNORE';
			my $socket = stranger();

			syswrite($socket, $bytes);
			shutdown($socket, 1);
			IO::Select->new($socket)->can_read(10)
			  or fail("$count bytes do not end in a closed connection");
		}
	}
	@lines = slurp_file($alpha->logfile, $from) =~ /LOG: +refused a link connection/g;
} while @lines == 0 && time < $begin + $TandemPair::patience;
my $seconds = time - $begin;
cmp_ok(scalar(@lines), '>=', 1, 'connections that bring nothing sensible are logged');
cmp_ok(scalar(@lines), '<=', int($seconds) + 2, 'at most one a second');

# Connections that say nothing are closed, and do not keep a standby out.
my @silent = map { stranger() } 1 .. 100;
like(scalar(peer($alpha)), qr/^welcome: /,
	'with a hundred connections that say nothing, a peer is still served');
is(scalar(grep { !IO::Select->new($_)->can_read(10) } @silent),
	0, 'those are closed after a while');

is($alpha->safe_psql('postgres', $link),
	$link_before, 'all this did nothing to the link of the real standby');
is($alpha->safe_psql('postgres', $workers), $workers_before, 'and no worker has ended');
is_same_data($alpha, $beta, 'the standby has followed all the time');

#
# Real standbys that are refused
#
my $last_error = "SELECT regexp_replace(last_error, '^the primary refused the link: ', '')";

# Of two nodes with the same name the second one is kept out, and told so.
my $gamma = make_standby('gamma', $alpha, conf => "tandem.node_name = 'beta'", wait => 0);
ok( wait_until($gamma,
		"$last_error = 'node name \"beta\" is in use by another link' FROM tandem.receiver"),
	'a standby with the name of another one says why it has no link');
is($alpha->safe_psql('postgres', $link), $link_before, 'the first one keeps its link');
$gamma->append_conf('postgresql.conf', "tandem.node_name = 'gamma'");
$gamma->safe_psql('postgres', "ALTER SYSTEM SET primary_slot_name = 'lost'");
$gamma->restart;
ok( wait_until($gamma,
		"$last_error = 'replication slot \"lost\" does not exist' FROM tandem.receiver"),
	'with a name of its own but no slot it says that');
$alpha->safe_psql('postgres', q(SELECT pg_create_physical_replication_slot('lost')));
ok(wait_for_link($alpha, 'gamma', 'streaming'), 'with both it streams, without another restart');

# A standby whose history says that it has replayed WAL of a primary that this one knows nothing of.
my $file = $gamma->data_dir . '/pg_tandem/incarnations';

sub start_with_history
{
	$gamma->stop('fast', fail_ok => 1);
	unlink $file;
	append_to_file($file, join('', @_));
	$from = -s $gamma->logfile;
	$gamma->start;
	return;
}

my ($history, $crc) = slurp_file($file) =~ /^(.*\n)(crc .*\n)$/s;
is(crc_line($history), $crc, 'the history of incarnations ends with a checksum');
$history .= "1 2 1 0/2000028\n";
start_with_history($history, $crc);
ok( log_has($gamma,
		qr{FATAL: +file "pg_tandem/incarnations" is damaged: its checksum does not match\n.*HINT: },
		$from),
	'one that was changed by hand is noticed');
start_with_history($history =~ s/format 1/format 2/r, $crc);
ok( log_has($gamma,
		qr{FATAL: +file "pg_tandem/incarnations" has a format that .*\n.*HINT: +Install the version of pg_tandem},
		$from),
	'one of a later version is, too, and it is not called damaged');
my $foreign = $history =~ s/^1 1 .*\n1 2 .*\n/1 1 1 0\/1000028 00000000000000ab\n/mr;
start_with_history($foreign, crc_line($foreign));
ok( log_has($gamma,
		qr{FATAL: +this\ standby\ has\ diverged.*\n.*DETAIL: +The histories of the two .* have nothing in common\.\n.*HINT: +Seed},
		$from),
	'a standby whose history is that of another database has diverged');

my $diverged = qr{
	FATAL:\ +this\ standby\ has\ diverged\ from\ its\ primary\n
	.*DETAIL:\ +The\ primary's\ WAL\ begins\ anew\ at\ 0/2000028,\ but\ this\ standby\ has
	\ replayed\ WAL\ up\ to\ $lsn\ that\ the\ primary\ does\ not\ have\.\n
	.*HINT:\ +Seed\ this\ standby\ again}x;
start_with_history($history, crc_line($history));
ok(log_has($gamma, $diverged, $from),
	'a standby that has replayed WAL the primary does not have says so, and what to do');
$gamma->append_conf('postgresql.conf', 'tandem.link = off');
$gamma->restart;
$from = -s $gamma->logfile;
ok(log_has($gamma, $diverged, $from), 'not even without the link does it follow');
is( $alpha->safe_psql('postgres',
		"SELECT count(*) FROM pg_stat_replication
		  WHERE application_name = 'gamma' AND state = 'streaming'"),
	'0', 'as the primary says, too');
$gamma->stop;

is($alpha->safe_psql('postgres', $link),
	$link_before, 'the first standby has had its link all the time');

# A segment that the primary cannot read now is not one that it has removed: the standby is told, and
# comes again.
$beta->stop;
my $segment = $alpha->data_dir . '/pg_wal/'
  . $alpha->safe_psql('postgres', 'SELECT pg_walfile_name(pg_current_wal_lsn())');
$alpha->safe_psql('postgres',
	"SELECT pg_logical_emit_message(false, 't', 't'); SELECT pg_switch_wal()");
chmod 0000, $segment or die $!;
$from = -s $beta->logfile;
$beta->start;
ok(wait_until($beta, "SELECT last_error LIKE '%could not read WAL at %: Permission denied' FROM tandem.receiver"),
	'a standby is told that WAL cannot be read, and why');
my $receiver = walreceiver_pid($beta);
chmod 0600, $segment or die $!;
ok(wait_for_link($alpha, 'beta', 'streaming'), 'when it can be read the standby streams');
is(walreceiver_pid($beta), $receiver, 'with the same walreceiver');
unlike(slurp_file($beta->logfile, $from), qr/already been removed/, 'nothing was called removed');

# The primary tells its standbys an address where somebody else answers.  No link can be had there,
# which must not keep a standby from the WAL.
$alpha->append_conf('postgresql.conf',
	"tandem.link_addresses = '127.0.0.1:" . $alpha->port . "'");
$alpha->reload;
$beta->restart;
ok(wait_for_receiver($beta, 'streaming without the link'),
	'a standby that finds no link at the address streams as core does');
ok(wait_for_replay($alpha, $beta), 'and follows');

done_testing();
