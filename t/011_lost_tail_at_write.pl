# The standby is ahead of its primary: with capture at write it holds WAL that the primary has
# written but not flushed, and the primary's host loses it.  The loss is honest: flushes of WAL
# are held (test/tools/holdflush.c), all processes are killed, and of pg_wal only what had been
# flushed is kept.
use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;
use Time::HiRes qw(usleep);

my $tools = abs_path(PostgreSQL::Test::Utils::tempdir());
system_or_bail('make', '-s', '-C', "$FindBin::Bin/../test/tools", "build=$tools",
	"$tools/holdflush.so");
my $flag = "$tools/flag";
my $segment_size = 16 * 1024 * 1024;

sub lsn_number { my ($h, $l) = map { hex } split m{/}, $_[0]; return ($h << 32) + $l; }
sub lsn_text { return sprintf('%X/%X', $_[0] >> 32, $_[0] & 0xffffffff); }

# The server's flushes of WAL can be held.
sub start_holdable
{
	my ($node) = @_;
	local $ENV{LD_PRELOAD} = "$tools/holdflush.so";
	local $ENV{HOLDFLUSH_FLAG} = $flag;

	return $node->start;
}

sub hold_flushes { append_to_file($flag, ''); return; }
sub let_flushes_go { unlink $flag; return; }

# Kills all of a server at once, as a crash of its host does.
sub kill_host
{
	my ($node) = @_;
	my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	my @children = split ' ', `ps -o pid= --ppid $postmaster`;

	kill 'KILL', $postmaster, @children;
	for (1 .. 100 * $TandemPair::patience)
	{
		last if !grep { kill(0, $_) } $postmaster, @children;
		usleep(10_000);
	}
	die 'a killed server process is still there' if grep { kill(0, $_) } $postmaster, @children;
	let_flushes_go();
	$node->{_pid} = undef;
	remove_shared_memory($node);
	unlink $node->data_dir . '/postmaster.pid';
	return;
}

# Of pg_wal only what was flushed is on the disk after the crash.
sub lose_wal_from
{
	my ($node, $timeline, $flushed) = @_;
	my $number = lsn_number($flushed);
	my $first = int($number / $segment_size);

	for (my $segment = $first;; $segment++)
	{
		my $path = sprintf('%s/pg_wal/%08X%08X%08X',
			$node->data_dir, $timeline, $segment >> 8, $segment & 0xff);
		my $from = $segment == $first ? $number % $segment_size : 0;

		last unless -f $path;
		open my $file, '+<', $path or die "could not open $path: $!";
		seek $file, $from, 0;
		print $file "\0" x ($segment_size - $from);
		close $file;
	}
	return;
}

# WAL that the standby holds and the primary has not flushed: some asynchronous commits, and
# a synchronous one whose write carries them all.  Returns the session, and the bound.
sub go_ahead
{
	my ($primary, $standby, $n) = @_;
	my $bound = $primary->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
	my $session;

	ok(wait_until($standby, "SELECT bound_lsn >= '$bound' FROM tandem.receiver"),
		'the standby knows the bound');
	hold_flushes();
	$session = start_psql($primary,
		'SET synchronous_commit = off;'
		  . join('', map { "BEGIN; INSERT INTO t VALUES ($_); COMMIT;" } $n .. $n + 79)
		  . 'SET synchronous_commit = on;'
		  . 'BEGIN; INSERT INTO t VALUES (' . ($n + 80) . '); COMMIT');
	ok(wait_until($standby, "SELECT durable_lsn > '$bound'::pg_lsn + 2000 FROM tandem.receiver"),
		'the standby holds WAL that the primary has not flushed');

	# something of the server's own may have been flushed before flushes were held
	$bound = $primary->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
	ok(wait_until($standby, "SELECT bound_lsn = '$bound' FROM tandem.receiver"),
		'and knows how much it has flushed');
	return ($session, $bound);
}

sub rows
{
	my ($node) = @_;

	return $node->safe_psql('postgres', 'SELECT count(*), sum(a) FROM t');
}

my $conf = q(
fsync = on
tandem.capture = write
wal_writer_delay = 10s
autovacuum = off
wal_log_hints = on
checkpoint_timeout = 1h
tandem.link_timeout = 1s
tandem.tls = off
);
# so that an insert's record has one length
my $alpha = make_primary('alpha', conf => $conf . "full_page_writes = off\n");
my $beta = make_standby('beta', $alpha);

$alpha->stop;
start_holdable($alpha);
ok(wait_for_state($alpha, 'in sync'), 'the pair is in sync');
is($alpha->safe_psql('postgres', 'SELECT capture FROM tandem.status'),
	'write', 'WAL is captured at write');
$alpha->safe_psql('postgres', 'CREATE TABLE t (a int); INSERT INTO t VALUES (0); CHECKPOINT');

# (a) what is not flushed on the primary is not replayed
my ($session, $bound) = go_ahead($alpha, $beta, 1);
is(rows($beta), '1|0', 'nothing beyond the bound has been replayed');
is($beta->safe_psql('postgres', 'SELECT pg_last_wal_receive_lsn()'),
	$bound, 'pg_last_wal_receive_lsn() shows the bound');
ok(!$session->done, 'the commit is not acknowledged before the local flush');
my $walreceiver = walreceiver_pid($beta);

# (b) the host crashes; the old records, of which the new WAL must leave none
my $tail = $beta->safe_psql('postgres', 'SELECT durable_lsn FROM tandem.receiver');
kill_host($alpha);
lose_wal_from($alpha, 1, $bound);
my ($old) = run_command(
	[ 'pg_waldump', '-p', $beta->data_dir . '/pg_wal', '-s', $bound, '-e', $tail ]);
my @starts = map { lsn_number($_) } $old =~ /lsn: ([0-9A-F]+\/[0-9A-F]+)/g;
my @commits = map { lsn_number($_) } $old =~ /lsn: ([0-9A-F]+\/[0-9A-F]+).*desc: COMMIT/g;
cmp_ok(scalar(@commits), '>=', 20, 'the lost tail has many commits');
is(rows($beta), '1|0', 'losing the link shows recovery nothing more');

start_holdable($alpha);
ok(wait_for_link($alpha, 'beta', 'streaming'), 'the standby is back');
is(walreceiver_pid($beta), $walreceiver, 'the walreceiver never ended');
like(slurp_file($beta->logfile), qr/discarded received WAL of timeline 1 from/,
	'the standby has discarded what was lost');
like(slurp_file($beta->logfile), qr/discarded received WAL.*link "beta": up/s,
	'before it took anything new');

# New WAL that ends exactly where an old record begins, behind a record of the same place and
# length: had the tail only been overwritten, the old records would go on from there.
my $message = "SET synchronous_commit = off; SELECT pg_logical_emit_message(false, 'm', repeat('x', %d))";
my $insert_lsn = sub {
	return lsn_number($alpha->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()'));
};
my $before = $insert_lsn->();
$alpha->safe_psql('postgres', sprintf($message, 8));
my $overhead = $insert_lsn->() - $before - 8;
my $aligned = 0;
foreach my $commit (@commits)
{
	my ($start) = grep { $_ < $commit } reverse @starts;
	my $at = $insert_lsn->();
	my $gap = $start - $at;
	my $end;

	next if $gap < $overhead + 8 || $gap > $overhead + 200;
	$alpha->safe_psql('postgres', sprintf($message, $gap - $overhead));
	next if $insert_lsn->() != $start;
	$alpha->safe_psql('postgres', 'INSERT INTO t VALUES (1000)');
	$end = $insert_lsn->();
	$aligned = grep { $_ == $end } @starts;
	diag('the new WAL ends at ' . lsn_text($end)) unless $aligned;
	last;
}
ok($aligned, 'the new WAL ends where an old record began');
ok(wait_for_replay($alpha, $beta), 'the standby replays the new WAL');
is(rows($beta), rows($alpha), 'the two are the same');
my $expected = rows($alpha);
kill_host($alpha);
$beta->promote;
is(rows($beta), $expected, 'after promotion there is nothing of the lost tail');
unlike(slurp_file($beta->logfile), qr/PANIC/, 'and redo did not stumble');
$beta->stop;

# (c) a standby that was restarted has replayed the tail, which has nobody to tell it not to
my $gamma = make_primary('gamma', conf => $conf);
my $delta = make_standby('delta', $gamma);
my $epsilon = make_standby('epsilon', $gamma);

$gamma->stop;
start_holdable($gamma);
ok(wait_for_link($gamma, $_, 'streaming'), "$_ streams") foreach qw(delta epsilon);
$gamma->safe_psql('postgres', 'CREATE TABLE t (a int); INSERT INTO t VALUES (0); CHECKPOINT');
($session, $bound) = go_ahead($gamma, $delta, 1);
ok( wait_until($epsilon, "SELECT durable_lsn > '$bound' FROM tandem.receiver"),
	'the other standby is ahead, too');
kill_host($gamma);
lose_wal_from($gamma, 1, $bound);
$delta->restart;
is(rows($delta), '82|3321', 'a restarted standby replays all it has');

# (f) another boot of the host: the primary must not go on on the same timeline
my $boot_id = $gamma->data_dir . '/pg_tandem/boot_id';
unlink $boot_id;
append_to_file($boot_id, "a boot before this one\n");
start_holdable($gamma);
ok(wait_for_link($gamma, 'epsilon', 'streaming'),
	'the standby that was not restarted follows, without a hand');
is($gamma->safe_psql('postgres', 'SELECT timeline FROM tandem.status'),
	2, 'after a crash of its host the primary is on a new timeline');
ok(!-e $gamma->data_dir . '/standby.signal', 'and is no standby');
ok(wait_until($epsilon, 'SELECT timeline = 2 FROM tandem.status'),
	'the standby, too, once it has replayed the switch');
$gamma->safe_psql('postgres', 'INSERT INTO t VALUES (2000)');
is_same_data($gamma, $epsilon, 'the two are the same');

ok( wait_until($epsilon, 'SELECT true')
	  && do
	{
		my $log;

		for (1 .. 600)
		{
			$log = slurp_file($delta->logfile);
			last if $log =~ /this standby has diverged/;
			usleep(100_000);
		}
		$log =~ /FATAL:  this standby has diverged from its primary/;
	},
	'the standby that has replayed lost WAL is refused');
like(
	slurp_file($delta->logfile),
	qr/HINT:  Seed this standby again with pg_basebackup, or use pg_rewind/,
	'and is told the way out');
is(rows($delta), '82|3321', 'it has taken nothing of the new WAL');

# pg_rewind finds the fork, because the loss is a timeline
my $delta_conf = slurp_file($delta->data_dir . '/postgresql.conf');
my $delta_auto = slurp_file($delta->data_dir . '/postgresql.auto.conf');
my $port = $gamma->port;
my $host = $gamma->host;
$delta->stop;
my ($out, $err) = run_command(
	[   'pg_rewind', '--target-pgdata', $delta->data_dir, '--source-server',
		"host=$host port=$port dbname=postgres", '--no-ensure-shutdown' ]);
like($err, qr/servers diverged at WAL location/, 'pg_rewind finds where it diverged')
  or diag($out);
like($err, qr/Done!/, 'and rewinds it');
foreach my $file ([ 'postgresql.conf', $delta_conf ], [ 'postgresql.auto.conf', $delta_auto ])
{
	unlink $delta->data_dir . "/$file->[0]";
	append_to_file($delta->data_dir . "/$file->[0]", $file->[1]);
}
append_to_file($delta->data_dir . '/standby.signal', '');
$delta->start;
ok(wait_for_link($gamma, 'delta', 'streaming'), 'the rewound standby streams again');
is_same_data($gamma, $delta, 'the two are the same');

# (d) promotion instead of a restart keeps all that was acknowledged; (e) a plain reconnect
# never discards
$epsilon->stop;
foreach my $how (qw(pg_promote pg_ctl))
{
	my $name = $how eq 'pg_ctl' ? 'zeta' : 'eta';
	my $primary = make_primary("p_$name", conf => $conf, path => 1);
	my $standby = make_standby($name, $primary);
	my $load = start_load([ $primary, $standby ], clients => 4);

	ok($load->wait_for(50), 'commits are acknowledged');
	foreach my $try (1 .. 3)
	{
		$primary->{path}->cut;
		ok(wait_for_receiver($standby, 'connecting'), "cut $try");
		$primary->{path}->restore;
		ok($load->wait_for(50), 'restored, and commits go on');
	}
	unlike(slurp_file($standby->logfile), qr/discarded/, 'a reconnect discards nothing');
	kill_host($primary);
	if ($how eq 'pg_promote')
	{
		$standby->safe_psql('postgres', 'SELECT pg_promote()');
	}
	else
	{
		$standby->promote;
	}
	$load->finish;
	ok($load->check($standby), "after $how() every acknowledged commit is there");
	$standby->stop;
}

# (i) what the primary has flushed ends within a record: the standby was shown a part of it, and
# follows all the same
my $mu = make_primary('mu', conf => $conf);
my $nu = make_standby('nu', $mu);
ok(wait_for_state($mu, 'in sync'), 'another pair is in sync');
$bound = $mu->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
$mu->safe_psql('postgres',
	"SET synchronous_commit = off; SELECT pg_logical_emit_message(true, 'm', repeat('x', 30000))");
ok(wait_until($mu, "SELECT pg_current_wal_flush_lsn() > '$bound'"), 'whole pages are flushed');
$bound = $mu->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
is(lsn_number($bound) % 8192, 0, 'and no more than that');
ok(wait_until($nu, "SELECT pg_last_wal_receive_lsn() = '$bound'"), 'which recovery is shown');
$walreceiver = walreceiver_pid($nu);
kill_host($mu);
lose_wal_from($mu, 1, $bound);
$mu->start;
ok(wait_for_link($mu, 'nu', 'streaming'), 'the standby follows the primary that has lost the rest');
$mu->safe_psql('postgres', 'CREATE TABLE t (i int); INSERT INTO t VALUES (1)');
is_same_data($mu, $nu, 'the two are the same');
is(walreceiver_pid($nu), $walreceiver, 'the walreceiver never ended');

# (g) the primary comes back without the library, and so cannot tell what it has lost: the standby,
# which then streams by core, must not claim to hold it
my $theta = make_primary('theta', conf => $conf);
my $iota = make_standby('iota', $theta);
$theta->stop;
start_holdable($theta);
ok(wait_for_state($theta, 'in sync'), 'another pair is in sync');
$theta->safe_psql('postgres', 'CREATE TABLE t (a int); INSERT INTO t VALUES (0); CHECKPOINT');
($session, $bound) = go_ahead($theta, $iota, 1);
kill_host($theta);
lose_wal_from($theta, 1, $bound);
$theta->append_conf('postgresql.conf',
	"shared_preload_libraries = ''\nsynchronous_standby_names = 'iota'");
$theta->start;
my $of_iota = "FROM pg_stat_replication WHERE application_name = 'iota' AND state = 'streaming'";
ok(wait_until($theta, "SELECT flush_lsn IS NOT NULL $of_iota"), 'the standby streams by core');
is( $theta->safe_psql('postgres', "SELECT flush_lsn <= pg_current_wal_flush_lsn() $of_iota"),
	't', 'and does not claim to hold WAL that the primary has lost');

# (h) capture at write is turned off while a flush takes long, and the link is cut: what the standby
# holds is not flushed yet, which does not make it diverged
my $kappa = make_primary('kappa', conf => $conf, path => 1);
my $lambda = make_standby('lambda', $kappa);
$kappa->stop;
start_holdable($kappa);
ok(wait_for_state($kappa, 'in sync'), 'one more pair is in sync');
$kappa->safe_psql('postgres', 'CREATE TABLE t (a int); INSERT INTO t VALUES (0); CHECKPOINT');
($session, $bound) = go_ahead($kappa, $lambda, 1);
$walreceiver = walreceiver_pid($lambda);
$kappa->safe_psql('postgres', "ALTER SYSTEM SET tandem.capture = 'flush'");
$kappa->reload;
ok(wait_until($kappa, "SELECT capture = 'flush' FROM tandem.status"), 'WAL is captured at flush');
my $log_end = -s $lambda->logfile;
$kappa->{path}->cut;
ok(wait_for_receiver($lambda, 'connecting'), 'the link is cut');
$kappa->{path}->restore;
ok($lambda->wait_for_log(qr/refused by the primary: the standby holds WAL up to/, $log_end),
	'the standby is told to wait');
let_flushes_go();
ok(wait_for_link($kappa, 'lambda', 'streaming'), 'when it is flushed the link is back');
ok($session->finish, 'and the commit returns');
is(walreceiver_pid($lambda), $walreceiver, 'the walreceiver never ended');
unlike(slurp_file($lambda->logfile, $log_end), qr/FATAL/, 'and the standby was not called diverged');

done_testing();
