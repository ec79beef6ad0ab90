# Another server answers at the primary's address, while the standby holds WAL that its primary has
# not flushed.  That says nothing about the primary: the standby must not replay that WAL, nor let
# it be overwritten, but wait, say why, and go on when the primary answers again.
use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;

my $tools = abs_path(PostgreSQL::Test::Utils::tempdir());
my $flag = "$tools/flag";
system_or_bail('make', '-s', '-C', "$FindBin::Bin/../test/tools", "build=$tools",
	"$tools/holdflush.so");

my $conf = q(
fsync = on
tandem.capture = write
wal_writer_delay = 10s
autovacuum = off
checkpoint_timeout = 1h
tandem.reconnect_interval = 100ms
);
my $alpha = make_primary('alpha', conf => $conf, path => 1);
my $beta = make_standby('beta', $alpha);
my $path = $alpha->{path};
my $file = $beta->data_dir . '/pg_tandem/incarnations';

# An earlier copy of alpha, which is a primary as well: it has less WAL than beta has replayed.
my $old = PostgreSQL::Test::Cluster->new('old');
$alpha->stop;
system_or_bail('cp', '-a', $alpha->data_dir, $old->data_dir);
$old->append_conf('postgresql.conf',
	    "port = " . $old->port . "\ntandem.port = " . PostgreSQL::Test::Cluster::get_free_port()
	  . "\ntandem.link_addresses = ''");

# Flushes of WAL can be held (test/tools/holdflush.c).
{
	local $ENV{LD_PRELOAD} = "$tools/holdflush.so";
	local $ENV{HOLDFLUSH_FLAG} = $flag;
	$alpha->start;
}
my $other = make_primary('other');

ok(wait_for_state($alpha, 'in sync'), 'the pair is in sync');
$alpha->safe_psql('postgres', 'CREATE TABLE t (a int); INSERT INTO t VALUES (0); CHECKPOINT');

my $session;
my $held;

sub go_ahead
{
	my $bound = $alpha->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');

	ok(wait_until($beta, "SELECT bound_lsn >= '$bound' FROM tandem.receiver"),
		'the standby knows the bound');
	append_to_file($flag, '');
	$session = start_psql($alpha, 'INSERT INTO t VALUES (1)');
	ok(wait_until($beta, 'SELECT durable_lsn > bound_lsn FROM tandem.receiver'),
		'the standby holds a commit that the primary has not flushed');
	$held = rows();
	return;
}

sub set_on_beta
{
	my ($name, $value) = @_;

	$beta->safe_psql('postgres', "ALTER SYSTEM SET $name = \$\$$value\$\$");
	$beta->reload;
	return;
}

# At once, because the standby reads it now and then.
sub replace_file
{
	append_to_file("$file.new", $_[0]);
	rename("$file.new", $file) or die "could not rename $file: $!";
	return;
}

sub rows { return $beta->safe_psql('postgres', 'SELECT count(*) FROM t'); }

sub leads_to
{
	my ($node) = @_;

	$path->cut;
	$path->redirect('pg', $node->port);
	$path->restore;
	return;
}

sub switch_wal
{
	$alpha->safe_psql('postgres',
		"SET synchronous_commit = local; SELECT pg_logical_emit_message(true, '', ''), pg_switch_wal()");
	return;
}

sub waits
{
	my ($who, $error) = @_;

	ok(wait_until($beta, "SELECT last_error LIKE '$error%' AND state = 'connecting' FROM tandem.receiver"),
		"$who: the standby says what is wrong");
	is(rows(), $held, 'it replays nothing beyond the bound');
	is($beta->safe_psql('postgres', 'SELECT durable_lsn > bound_lsn FROM tandem.receiver'),
		't', 'and keeps what it holds');
	return;
}

sub goes_on
{
	leads_to($alpha);
	ok(wait_for_link($alpha, 'beta', 'streaming'), 'the primary is back, and the link');
	ok(!$session->done, 'the commit was not acknowledged');
	unlink $flag;
	ok($session->finish, 'when the primary has flushed it, it is');
	is_same_data($alpha, $beta, 'the two are the same');
	return;
}

go_ahead();
my $from = -s $beta->logfile;
my $walreceiver = walreceiver_pid($beta);
leads_to($other);
waits('another database', 'database system identifier differs');
like(slurp_file($beta->logfile, $from),
	qr/waiting with WAL beyond the bound: (.*)\n.*LOG: +\1\n.*DETAIL: +The primary's .*\n.*HINT: +Check /,
	'the log tells it, too');

$other->append_conf('postgresql.conf', 
	"shared_preload_libraries = ''\nsynchronous_standby_names = ''\nlog_replication_commands = on");
$other->restart;
ok($other->wait_for_log(qr/command: IDENTIFY_SYSTEM/), 'the standby meets the same server without pg_tandem');
waits('without pg_tandem', 'database system identifier differs');
unlike(slurp_file($other->logfile), qr/START_REPLICATION/, 'it does not stream from it, as core would');

$old->start;
leads_to($old);
waits('an earlier copy of the primary', 'this standby has diverged');
$old->stop('immediate');
goes_on();
is(walreceiver_pid($beta), $walreceiver, 'the walreceiver never ended');
is($beta->safe_psql('postgres', "SELECT count(*) FROM tandem.receiver WHERE state = 'streaming'"),
	1, 'and streams');

# A primary of an older term than the last one: what that one had is not lost because this one lacks
# it.  The standby is made to believe that it has followed one of term 2, from the bound on.
go_ahead();
my $true = slurp_file($file);
my $later = ($true =~ s/^crc .*//mr) . '2 1 1 '
  . $beta->safe_psql('postgres', 'SELECT bound_lsn FROM tandem.receiver') . " 00000000000000ab\n";
replace_file($later . crc_line($later));
leads_to($alpha);
waits('a primary of an older term', "the primary''s term 1 is older than term 2");
is(walreceiver_pid($beta), $walreceiver, 'the walreceiver has not ended');
replace_file($true);
goes_on();

# core streams, and its stream is lost
go_ahead();
set_on_beta('tandem.link', 'off');
ok(wait_for_receiver($beta, 'streaming without the link'), 'without the link core streams');
$path->cut;
waits('core has lost the primary', 'could not');
is(walreceiver_pid($beta), $walreceiver, 'the walreceiver has not ended');
set_on_beta('tandem.link', 'on');
goes_on();

# core streams, and its stream is lost in the moment in which a new setting sets the walreceiver's latch
go_ahead();
set_on_beta('tandem.link', 'off');
ok(wait_for_receiver($beta, 'streaming without the link'), 'without the link core streams');
freeze($walreceiver);
$path->cut;
set_on_beta('hot_standby_feedback', 'on');
thaw($walreceiver);
waits('core has lost the primary, and there is a new setting', '');
is(walreceiver_pid($beta), $walreceiver, 'the walreceiver has not ended');
set_on_beta('tandem.link', 'on');
goes_on();

# core streams, and hears nothing for so long that it would end the walreceiver
set_on_beta('wal_receiver_timeout', '8s');
go_ahead();
set_on_beta('tandem.link', 'off');
ok(wait_for_receiver($beta, 'streaming without the link'), 'without the link core streams');
$path->blackhole;
waits('core hears nothing', 'nothing was heard from the primary for too long');
is(walreceiver_pid($beta), $walreceiver, 'the walreceiver has not ended');
set_on_beta('tandem.link', 'on');
set_on_beta('wal_receiver_timeout', '60s');
goes_on();

# primary_conninfo is changed: that ends the walreceiver in any case
go_ahead();
my $right = $beta->safe_psql('postgres', 'SHOW primary_conninfo');
my $wrong = $right =~ s/port=\d+/'port=' . $other->port/er;

foreach my $case ([ 'another database', 'database system identifier differs' ],
	[ 'nobody', 'could not connect to the primary server' ])
{
	$other->stop if $case->[0] eq 'nobody';
	set_on_beta('primary_conninfo', $wrong);
	waits("primary_conninfo leads to $case->[0]", $case->[1]);
}
set_on_beta('primary_conninfo', $right);
goes_on();

# a promotion ends the wait, and nothing that was received is lost
go_ahead();
set_on_beta('primary_conninfo', $wrong);
waits('primary_conninfo leads to nobody', 'could not connect to the primary server');
$beta->promote;
is(rows(), $held + 1, 'promoted, the standby has all that it has received');
$beta->stop;
unlink $flag;

# The primary does not have the WAL any more that follows what the standby holds.  So it has flushed
# that, and there is nothing to wait for.  A segment that cannot be read says nothing of the kind.
$alpha->safe_psql('postgres', "SELECT pg_drop_replication_slot('beta')");
$beta = make_standby('gamma', $alpha, slot => undef);
ok($session->finish, 'with another standby the commit is acknowledged');
go_ahead();
my $durable = $beta->safe_psql('postgres', 'SELECT durable_lsn FROM tandem.receiver');
my $segment = $alpha->data_dir . '/pg_wal/' . $alpha->safe_psql('postgres', "SELECT pg_walfile_name('$durable')");
$path->cut;
ok(wait_until($beta, "SELECT state = 'connecting' FROM tandem.receiver"), 'the link is lost');
unlink $flag;
switch_wal();
chmod(0, $segment) or die "could not change the mode of $segment: $!";
$path->restore;
waits('WAL that the primary cannot read', 'the primary refused the link: could not');
$path->cut;
chmod(0600, $segment) or die "could not change the mode of $segment: $!";
switch_wal() foreach 1 .. 3;
$alpha->safe_psql('postgres', 'CHECKPOINT');
ok(!-e $segment, 'the primary has removed WAL that the standby needs');
$path->restore;
ok(wait_until($beta, "SELECT last_error LIKE '%has already been removed' FROM tandem.receiver"),
	'the standby is told');
ok(wait_until($beta, "SELECT count(*) = $held + 1 FROM t"), 'and replays what it holds');

done_testing();
