# tandem.link_options: compression, congestion control and rate of single links, changed by a
# reload and shown in the view.
# It runs alone: it says how many bytes a second there are.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;

my $primary = make_primary('alpha', conf => "tandem.max_links = 2\nwal_compression = off");
my $standby = make_standby('beta', $primary);

sub set_options
{
	my ($options) = @_;

	$primary->safe_psql('postgres', "ALTER SYSTEM SET tandem.link_options = '$options'");
	$primary->reload;
	return;
}

sub shows
{
	my ($columns, $values, $sentence) = @_;

	return ok(wait_until($primary, "SELECT state = 'streaming' AND ($columns) IS NOT DISTINCT FROM ($values) FROM tandem.links"), $sentence);
}

ok(wait_for_state($primary, 'in sync'), 'the primary is in sync');
shows('compression, compression_ratio, max_rate', "'none', NULL::float8, NULL::bigint",
	'a synchronous link is not compressed, and not held back');
my $default = $primary->safe_psql('postgres', 'SELECT congestion FROM tandem.links');
isnt($default, '', "its congestion control is the kernel's own ($default)");
$primary->safe_psql('postgres', 'CREATE TABLE t (i int, x text)');

foreach my $kind ('lz4', 'zstd', 'zstd:3', 'zstd:9')
{
	my $shown = $kind eq 'zstd' ? 'zstd:1' : $kind;

	set_options("beta: compression=$kind");
	shows('compression, true', "'$shown', true", "$kind: the link is opened again with it");
	ok($primary->poll_query_until('postgres', "SELECT state = 'in sync' FROM tandem.status"), '... and in sync');
	my $before = query_row($primary, 'SELECT wal_bytes, wire_bytes FROM tandem.links');
	foreach my $level (qw(remote_write on remote_apply))
	{
		$primary->safe_psql('postgres', "SET synchronous_commit = $level; INSERT INTO t SELECT i, repeat(md5(i::text), 3) FROM generate_series(1, 5000) i");
	}
	ok(wait_until($primary, 'SELECT lag_bytes = 0 FROM tandem.links'), '... WAL gets there');
	my $after = query_row($primary, 'SELECT wal_bytes, wire_bytes, compression_ratio, extract(epoch FROM compression_cpu) AS cpu FROM tandem.links');
	cmp_ok(($after->{wal_bytes} - $before->{wal_bytes}) / ($after->{wire_bytes} - $before->{wire_bytes}),
		'>', 1.5, '... in fewer bytes');
	cmp_ok($after->{compression_ratio}, '>', 1.5, '... as the view says');
	cmp_ok($after->{cpu}, '>', 0, '... with the time it took');
	is_same_data($primary, $standby, "... and is the same there");
}
ok($primary->log_contains('link "beta": down: it is opened again with another compression'),
	'the log tells why the link was opened again');

# --- a connection is lost in the middle: the next one begins with an empty context

set_options('beta: compression=zstd');
shows('compression, true', "'zstd:1', true", 'zstd');
my $pid = walreceiver_pid($standby);
my $load = start_load([$primary]);
foreach my $i (1 .. 3)
{
	my $connects = $primary->safe_psql('postgres', 'SELECT connects FROM tandem.links');
	my $link = $primary->safe_psql('postgres', 'SELECT pid FROM tandem.links');

	$primary->safe_psql('postgres', "SELECT pg_terminate_backend($link)");
	ok(wait_until($primary, "SELECT connects > $connects AND state = 'streaming' FROM tandem.links"),
		'under load the link worker ends: the link comes back');
}
is(walreceiver_pid($standby), $pid, 'the walreceiver has not ended for that');
$load->finish;
is_same_data($primary, $standby, 'and the standby has the same');

# --- asynchronous: what is right for a far one

set_options('');
$primary->safe_psql('postgres', "ALTER SYSTEM SET tandem.async_links = 'beta'; ALTER SYSTEM SET synchronous_standby_names = ''");
$primary->reload;
shows('compression, mode', "'zstd:1', 'async'", 'made asynchronous, the link is compressed');
my $has_bbr = slurp_file('/proc/sys/net/ipv4/tcp_allowed_congestion_control') =~ /\bbbr\b/;
is($primary->safe_psql('postgres', 'SELECT congestion FROM tandem.links'),
	$has_bbr ? 'bbr' : $default, '... and its congestion control is bbr if the kernel allows it');
set_options('beta: compression=none congestion=reno');
shows('compression, congestion', "'none', 'reno'", 'what is set counts more than that');
set_options('beta: compression=none congestion=nonesuch');
ok(wait_until($primary, "SELECT count(*) = 1 FROM tandem.events WHERE message LIKE 'congestion control \"nonesuch\" cannot be had: %'"),
	'a congestion control that the kernel does not have is told');
ok(wait_until($primary, "SELECT state = 'streaming' AND congestion <> '' FROM tandem.links"), '... and the link goes on with another');

# --- rate, by reload only

my $connects = $primary->safe_psql('postgres', 'SELECT connects FROM tandem.links');
sub rate
{
	my ($mb) = @_;
	my $begin = $primary->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');

	$primary->safe_psql('postgres', "SELECT count(pg_logical_emit_message(true, 'x', repeat('x', 1024 * 1024))) FROM generate_series(1, $mb)");
	wait_until($primary, 'SELECT lag_bytes = 0 FROM tandem.links') or return 0;
	return $primary->safe_psql('postgres', "SELECT pg_current_wal_flush_lsn() - '$begin'");
}
set_options('beta: compression=none max_rate=4MB');
shows('max_rate, true', '4194304::bigint, true', 'a limit of 4 MB a second is set by a reload');
my $start = Time::HiRes::time();
my $bytes = rate(16);
my $seconds = Time::HiRes::time() - $start;
cmp_ok($bytes / $seconds, '<', 4.4 * 1024 * 1024, sprintf('%.1f MB take %.1f s: it is kept', $bytes / 1048576, $seconds));
cmp_ok($bytes / $seconds, '>', 2.5 * 1024 * 1024, '... and used');
set_options('beta: compression=none max_rate=40MB');
shows('max_rate, true', '41943040::bigint, true', 'ten times that');
$start = Time::HiRes::time();
$bytes = rate(32);
$seconds = Time::HiRes::time() - $start;
cmp_ok($bytes / $seconds, '>', 6 * 1024 * 1024, sprintf('... %.1f MB take %.1f s', $bytes / 1048576, $seconds));
set_options('beta: compression=none');
shows('max_rate, true', 'NULL::bigint, true', 'the limit is taken away');
$start = Time::HiRes::time();
$bytes = rate(64);
$seconds = Time::HiRes::time() - $start;
cmp_ok($bytes / $seconds, '>', 41 * 1024 * 1024, sprintf('... %.1f MB take %.1f s', $bytes / 1048576, $seconds));
is($primary->safe_psql('postgres', 'SELECT connects FROM tandem.links'), $connects, 'the link was not opened again for any of that');
is_same_data($primary, $standby, 'the standby has the same');

# --- what is refused

foreach my $bad (['beta', 'is not of the form name: option=value'], ['beta: speed=1', 'There is no option "speed"'],
	['beta: max_rate=50', 'is not what "max_rate" takes'])
{
	my ($code, $out, $err) = $primary->psql('postgres', "ALTER SYSTEM SET tandem.link_options = '$bad->[0]'");
	like($err, qr/\Q$bad->[1]\E/, "\"$bad->[0]\" is refused with the reason");
}

done_testing();
