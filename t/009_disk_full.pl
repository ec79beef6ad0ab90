# The disk of a standby is full: it takes no more WAL.  Both sides say so, only that link stops,
# and it goes on by itself when there is room again.
use strict;
use warnings FATAL => 'all';

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;

# A library that lets nothing be written below pg_wal while a file exists.
my $tools = PostgreSQL::Test::Utils::tempdir;
my $flag = "$tools/full";
system_or_bail('make', '-s', '-C', "$FindBin::RealBin/../test/tools", "build=$tools",
	"$tools/enospc.so");

sub fill_disk { append_to_file($flag, shift // ''); return; }
sub free_disk { unlink $flag or die $!; return; }

# Capture at flush: at write the primary begins every new segment with a record of its own, and the
# standby is never found at the very beginning of one.
my $alpha = make_primary('alpha', conf => 'tandem.capture = flush');
my $gamma = make_standby('gamma', $alpha);
my $beta = make_standby('beta', $alpha, start => 0);
{
	local $ENV{LD_PRELOAD} = "$tools/enospc.so";
	local $ENV{ENOSPC_FLAG} = $flag;

	$beta->start;
}
ok(wait_for_link($alpha, 'beta', 'streaming'), 'the standby streams');

my $segment = "SELECT pg_walfile_name(pg_current_wal_insert_lsn())";
my $in_sync = "SELECT state = 'streaming' AND in_sync FROM tandem.links WHERE name = ";
my $other_link = "SELECT state, connects, pid FROM tandem.links WHERE name = 'gamma'";
my $no_room = 'No space left on device';
my $postmaster = slurp_file($beta->data_dir . '/postmaster.pid');
my $walreceiver = walreceiver_pid($beta);

# Both sides tell what has happened; the standby lives.
sub disk_is_reported
{
	my ($error) = @_;
	my $closed = "the standby closed it: $error%$no_room";

	ok( wait_until($alpha,
			"SELECT last_error LIKE '$closed' FROM tandem.links WHERE name = 'beta'"),
		'the primary says why it has lost the link');
	ok( wait_until($alpha, "SELECT count(*) > 0 FROM tandem.events
							 WHERE (kind, name) = ('link', 'beta') AND message LIKE 'down: $closed'"),
		'also among the events');
	ok(wait_until($beta, "SELECT last_error LIKE '$error%$no_room' FROM tandem.receiver"),
		'the standby says it');
	like(slurp_file($beta->logfile), qr/LOG: +link "beta": down: .*$no_room/, 'also in its log');
	is(walreceiver_pid($beta), $walreceiver, 'its walreceiver has not ended');
	return;
}

ok(wait_until($alpha, "$in_sync '$_'"), "$_ is in sync") foreach qw(beta gamma);
my $load = start_load([$alpha], clients => 2, rate => 200);
ok($load->wait_for(50), 'commits are acknowledged');
my $other = $alpha->safe_psql('postgres', $other_link);

#
# In the middle of a segment, with another standby that goes on
#
fill_disk();
disk_is_reported('could not write WAL at');
my $durable = $beta->safe_psql('postgres', 'SELECT durable_lsn FROM tandem.receiver');
my $events = 'SELECT count(*) FROM tandem.events WHERE name = \'beta\'';
my $told = $alpha->safe_psql('postgres', $events);
ok($load->wait_for(600), 'commits go on, with the other standby');
is($alpha->safe_psql('postgres', $other_link), $other, 'whose link has noticed nothing');
is($beta->safe_psql('postgres', 'SELECT durable_lsn FROM tandem.receiver'), $durable,
	'the standby with the full disk has taken nothing');
is($alpha->safe_psql('postgres', $events), $told,
	'and does not come again and again while there is no room');
free_disk();
ok(wait_until($alpha, "$in_sync 'beta'"), 'when there is room it is in sync again, by itself');
is(walreceiver_pid($beta), $walreceiver, 'with the same walreceiver');

#
# In the middle of a write
#
ok($load->finish, 'the load ended well');
ok(wait_until($alpha, "$in_sync 'beta' AND lag_bytes = 0"), 'the standby has everything');
fill_disk('half of a write');
$durable = $beta->safe_psql('postgres', 'SELECT durable_lsn FROM tandem.receiver');
$alpha->safe_psql('postgres', "SELECT pg_logical_emit_message(true, 't', repeat('t', 100000))");
disk_is_reported('could not write WAL at');
is($beta->safe_psql('postgres', 'SELECT durable_lsn FROM tandem.receiver'), $durable,
	'half a frame was written, and does not count');
free_disk();
ok(wait_until($alpha, "$in_sync 'beta' AND lag_bytes = 0"), 'when there is room it is in sync again');

#
# At the beginning of a segment, which would have to be made, with no other standby
#
$gamma->stop;
ok(wait_for_state($alpha, 'in sync'), 'the pair is in sync');
$alpha->safe_psql('postgres', 'CREATE TABLE t (i int)');
my $next;
foreach my $try (1 .. 5)
{
	# the next segment may be there already, recycled, or the server has written on by itself
	$alpha->safe_psql('postgres',
		"SELECT pg_logical_emit_message(false, 't', 't'); SELECT pg_switch_wal()");
	ok(wait_for_replay($alpha, $beta), 'the standby has the last byte of the segment');
	$next = $beta->data_dir . '/pg_wal/' . $alpha->safe_psql('postgres', $segment);
	last unless -e $next;
}
ok(!-e $next, 'and nothing of the next one');
fill_disk();
my $commit = start_psql($alpha, 'INSERT INTO t VALUES (1)');
ok(wait_until_held($commit), 'a commit is held');
disk_is_reported('could not write to file');
ok(!-e $next, 'the segment could not be made');
is(join(' ', glob($beta->data_dir . '/pg_wal/xlogtemp*')),
	'', 'and nothing is left of the attempt');
ok(wait_for_state($alpha, 'stalled'), 'the primary is stalled');
ok(!$commit->done, 'the commit is held still');
is($beta->safe_psql('postgres', 'SELECT count(*) FROM t'), '0', 'the standby answers queries');
free_disk();
ok($commit->finish, 'when there is room the commit returns');
ok(wait_for_state($alpha, 'in sync'), 'and the pair is in sync again');
is(walreceiver_pid($beta), $walreceiver, 'with the same walreceiver');

is_same_data($alpha, $beta, 'the standby has everything');
ok($load->check($beta), 'no acknowledged commit is missing on it');
is(slurp_file($beta->data_dir . '/postmaster.pid'), $postmaster, 'the standby was not restarted');
unlike(slurp_file($beta->logfile), qr/PANIC|FATAL|terminated by signal|incorrect resource manager data checksum/,
	'and none of its processes has failed');

#
# A walreceiver that was restarted receives its segment from the beginning, and finds the disk full.
# When there is room the primary is gone: what was acknowledged must be in the segment still.
#
my $held = sub {
	my $at = $alpha->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
	my ($name, $offset) = split /\|/,
	  $alpha->safe_psql('postgres', "SELECT * FROM pg_walfile_name_offset('$at')");

	return ($beta->data_dir . "/pg_wal/$name", $offset);
};
my $content = sub {
	my ($file, $length) = @_;
	my $bytes;

	open my $wal, '<:raw', $file or die $!;
	read $wal, $bytes, $length;
	close $wal;
	return $bytes;
};

$alpha->safe_psql('postgres', 'INSERT INTO t SELECT generate_series(1000, 2000)');
ok(wait_for_replay($alpha, $beta), 'the standby has replayed more');
my ($file, $length) = $held->();
cmp_ok($length, '>', 8192, 'it ends within a segment');
my $before = $content->($file, $length);
my $from = -s $beta->logfile;
fill_disk();
kill 'TERM', $walreceiver;
ok($beta->wait_for_log(qr/link "beta": down: could not write WAL at/, $from),
	'a new walreceiver finds the disk full');
$alpha->stop('immediate');
free_disk();
ok( wait_until($beta, "SELECT last_error NOT LIKE '%$no_room%' FROM tandem.receiver"),
	'there is room, and no primary');
ok($content->($file, $length) eq $before, 'all WAL that was acknowledged is there');
$beta->promote;
$beta->stop('immediate');
$beta->start;
ok($load->check($beta), 'promoted, and after a crash, it has every acknowledged commit');
is($beta->safe_psql('postgres', 'SELECT count(*) FROM t WHERE i >= 1000'), '1001', 'the last one, too');

done_testing();
