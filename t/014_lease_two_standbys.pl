# Two standbys under a lease.  Commits wait for the one that tandemd has named; the other one is
# not shown WAL that the named one may never get: it would have applied what a later primary does
# not have.  And tandemd may name the other one, also if it is asynchronous, to hand over to it.
# At the end the host of the primary crashes.
use strict;
use warnings FATAL => 'all';

use FakeTandemd;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;

my $td = start_tandemd('alpha');
order($td, 'hold 2 60000 0');
my $alpha = make_primary('alpha', conf => under_lease()
	  . "max_wal_senders = 10\nmax_replication_slots = 10\ntandem.async_links = 'gamma'\n");
$alpha->safe_psql('postgres', 'SET synchronous_commit = local; CREATE TABLE t (i int)');

my %copy = (beta => 'b1', gamma => 'c1');
my %standby;
foreach my $name (sort keys %copy)
{
	my $node = $standby{$name} = make_standby($name, $alpha, start => 0);

	my $tandemd = start_tandemd($name);
	is(order($tandemd, 'copy ' . $node->data_dir . " $copy{$name} complete"), 'ok', "$name is a copy of its own");
	$node->start;
	ok(wait_report($td, "$name.session" => sub { $_[0] > 0 }, "$name.copy" => $copy{$name}), "$name streams");
}
my ($beta, $gamma) = @standby{qw(beta gamma)};
$alpha->safe_psql('postgres', 'SET synchronous_commit = local; CREATE EXTENSION pg_tandem');
is(report($td)->{'gamma.async'} . report($td)->{'beta.async'}, '10', 'gamma is reported as asynchronous');

order($td, 'require 2 beta b1');
ok(wait_report($td, open => 1, require => 1), 'commits wait for beta');
$alpha->safe_psql('postgres', 'INSERT INTO t VALUES (1)');
ok(wait_until($gamma, 'SELECT count(*) = 1 FROM t'), 'gamma is shown what beta has got');

my $walreceiver = walreceiver_pid($beta);
freeze($walreceiver);
my $held = start_psql($alpha, 'INSERT INTO t VALUES (2)');
ok(wait_until_held($held), 'beta does not answer, and a commit waits');
my $end = $alpha->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
ok(wait_until($gamma, "SELECT durable_lsn >= '$end' FROM tandem.receiver"), 'gamma holds it already');
ok(wait_until($gamma, "SELECT now() - last_message < interval '50 ms' FROM tandem.receiver"), 'and has heard of the primary since');
is($gamma->safe_psql('postgres', "SELECT bound_lsn < '$end', (SELECT count(*) FROM t) FROM tandem.receiver"),
	't|1', 'but is not shown it');
ok(!$held->done, 'nor does its answer release the commit');
thaw($walreceiver);
ok($held->finish, 'beta answers: the commit returns');
ok(wait_until($gamma, 'SELECT count(*) = 2 FROM t'), 'and gamma is shown it');

freeze($walreceiver);
order($td, 'require 2 gamma c1');
ok(wait_report($td, peer => 'gamma'), 'gamma is named, to hand over to it');
my $other = start_psql($alpha, 'INSERT INTO t VALUES (3)');
ok($other->finish, 'then commits wait for gamma');
ok(wait_report($td, 'gamma.flush' => sub { $_[0] >= report($td)->{waits_from} }), 'which holds all that was released before');
ok(wait_for_state($alpha, 'in sync'), 'that is in sync');
thaw($walreceiver);
order($td, 'alone 2');
ok(wait_report($td, require => 0), 'alone is authorised');
$alpha->safe_psql('postgres', 'INSERT INTO t VALUES (4)');
ok(wait_until($_, 'SELECT count(*) = 4 FROM t'), 'while alone ' . $_->name . ' is shown all that is flushed') foreach $beta, $gamma;

#
# After a crash of its host a primary comes back on a new timeline; under a lease it is tandemd
# that promotes it
#
$alpha->stop('immediate');
my $boot = $alpha->data_dir . '/pg_tandem/boot_id';
ok(-f $boot, 'the primary had noted in which boot of the host it was');
unlink $boot;
append_to_file($boot, "00000000-0000-0000-0000-000000000000\n");
order($td, 'hold 3 60000 0');
$alpha->start;
ok(wait_report($td, role => 'standby'), 'after a crash of the host it comes up as a standby');
$alpha->promote;
ok(wait_report($td, role => 'primary', term => 3, timeline => 2), 'promoted it is on a new timeline, in the term of its lease');
order($td, 'instance 2');
order($td, 'require 3 beta b1');
ok(wait_report($td, open => 1), 'its standby follows, and the gate opens');
is_same_data($alpha, $beta, 'the two are the same');

done_testing();
