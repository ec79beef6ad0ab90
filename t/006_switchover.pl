# A switch-over by hand under load: the primary is stopped cleanly, the standby promoted, and
# the old primary rejoins as it is, without pg_rewind.  That works only if the standby got
# everything up to and including the shutdown checkpoint, although the link's workers end
# before that is written: the stream goes back to the walsender for the last bytes.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;
use Time::HiRes qw(time);

my $alpha = make_primary('alpha');
my $beta = make_standby('beta', $alpha);
my $conninfo = $beta->safe_psql('postgres', 'SHOW primary_conninfo');

# Stops the primary and tests what the standby has then.
sub stop_and_compare
{
	my ($primary, $standby, $mode) = @_;
	my $name = $standby->name;
	my $timeline = $primary->safe_psql('postgres', 'SELECT timeline FROM tandem.status');

	is($primary->safe_psql('postgres', "SELECT state FROM tandem.links WHERE name = '$name'"),
		'streaming', "the link to $name carries the stream when the primary is stopped");

	# a smart stop waits for all sessions, also for the one in which wait_until() asks
	(delete $primary->{asker})->end;
	my $begin = time;
	$primary->stop($mode);
	my $seconds = time - $begin;
	cmp_ok($seconds, '<', 2, "the $mode stop is a matter of moments");
	note(sprintf('it took %.3f s', $seconds));
	like(
		slurp_file($primary->logfile),
		qr/link "$name": down: handed over to its walsender/,
		"$name was sent back to its walsender");

	my ($control) = run_command([ 'pg_controldata', $primary->data_dir ]);
	like($control, qr/^Database cluster state: +shut down$/m, 'the primary is shut down cleanly');
	my ($checkpoint) = $control =~ /^Latest checkpoint location: +(\S+)$/m;
	ok(wait_until($standby, "SELECT pg_last_wal_replay_lsn() > '$checkpoint'"),
		"$name has replayed the shutdown checkpoint");
	my ($record) = run_command(
		[
			'pg_waldump', '-p', $standby->data_dir . '/pg_wal',
			'-t', $timeline, '-s', $checkpoint, '-n', 1
		]);
	my ($high, $low) = map { hex } split(m{/}, $checkpoint);
	my $lsn = sprintf('%X/%08X', $high, $low);
	like($record, qr/lsn: \Q$lsn\E.*CHECKPOINT_SHUTDOWN/,
		"$name holds the shutdown checkpoint where the primary wrote it");
	return;
}

# The old primary becomes a standby of the new one, as its administrator would do it.
sub rejoin
{
	my ($old, $new) = @_;
	my $name = $old->name;
	my $port = $new->port;

	$new->safe_psql('postgres',
		"SELECT pg_create_physical_replication_slot('$name')
		  WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '$name')");
	(my $to_new = $conninfo) =~ s/\bport=\d+/port=$port/;
	$to_new =~ s/'/''/g;
	$old->append_conf('postgresql.conf', "primary_slot_name = '$name'\nprimary_conninfo = '$to_new'");
	$old->set_standby_mode;
	$old->start;
	return;
}

sub term
{
	my ($node) = @_;

	return $node->safe_psql('postgres', 'SELECT term FROM tandem.status');
}

# Everything of one switch-over but the load.
sub switch_over
{
	my ($old, $new, $mode) = @_;
	my ($from, $to) = ($old->name, $new->name);
	my $term = term($old);
	my $timeline = $old->safe_psql('postgres', 'SELECT timeline FROM tandem.status');

	stop_and_compare($old, $new, $mode);
	$new->promote;
	ok(wait_until($new, "SELECT role = 'primary' AND term = $term + 1 FROM tandem.status"),
		"$to is the primary, of the next term");
	is($new->safe_psql('postgres', 'SELECT timeline FROM tandem.status'),
		$timeline + 1, 'and on the next timeline');

	my $log = -s $old->logfile;
	rejoin($old, $new);
	ok(wait_for_link($new, $from, 'streaming'), "$from rejoined, and has a link from $to");
	ok(wait_for_receiver($old, 'streaming'), "$from says so too");
	ok(wait_for_state($new, 'in sync'), "commits wait for $from now");
	is(term($old), term($new), 'both are of the same term');
	my $said = slurp_file($old->logfile, $log);
	unlike($said, qr/diverged|forked off|FATAL|ERROR|PANIC/, "$from had no trouble with its WAL");
	unlike($said, qr/discarded/, 'and did not say that it gave up any of it');
	return;
}

ok(wait_for_state($alpha, 'in sync'), 'the pair is in sync');
is(term($alpha), 1, 'the first primary begins with term 1');

my $load = start_load([ $alpha, $beta ], clients => 4, rate => 400);
ok($load->wait_for(100), 'commits are acknowledged');

switch_over($alpha, $beta, 'fast');
ok($load->wait_for(100), 'the load goes on with beta');
switch_over($beta, $alpha, 'fast');
ok($load->wait_for(100), 'the load goes on with alpha');

ok($load->finish, 'the load ended well');
ok($load->check($alpha), 'no acknowledged commit is lost');
is_same_data($alpha, $beta, 'both nodes hold the same');

# A smart stop waits for its clients, but for no standby.  Idle as the pair is now, there is
# nothing in the stream that would wake anybody.
switch_over($alpha, $beta, 'smart');
ok($load->check($beta), 'every acknowledged commit is there still');
is_same_data($beta, $alpha, 'both nodes hold the same after three switch-overs');
is(term($beta), 4, 'three switch-overs, three terms');

done_testing();
