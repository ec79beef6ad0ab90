# A pg_tandem that was built where libibverbs is not there: it says so, and links use TCP.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;

# Build it from this checkout, with what has been built already, without the header.
my $build = PostgreSQL::Test::Utils::tempdir();
mkdir "$build/$_" or die $! foreach qw(hidden hidden/infiniband src);
append_to_file("$build/hidden/infiniband/verbs.h", "#error not there\n");
system_or_bail('cp', '-a', qw(Makefile pg_tandem.control extension link watchdog), "$build/src");
{
	local $ENV{CPATH} = "$build/hidden";

	system_or_bail('make', '-s', '-C', "$build/src", 'pg_tandem.so');
}
my ($needed) = run_command([ 'ldd', "$build/src/pg_tandem.so" ]);
ok($needed =~ /libpq/ && $needed !~ /libibverbs/,
	'where the header is not there, "make" makes a library that does not need libibverbs');

# An installation of PostgreSQL that has it: a server looks beside its program.
my %dir = map { my ($out) = run_command([ 'pg_config', "--$_" ]); $_ => $out } qw(bindir pkglibdir sharedir);
foreach my $dir (values %dir)
{
	system_or_bail('mkdir', '-p', "$build$dir");
}
system_or_bail('cp', map({ "$dir{bindir}/$_" } qw(postgres initdb pg_ctl)), "$build$dir{bindir}");
system_or_bail('sh', '-c', "ln -s $dir{pkglibdir}/* $build$dir{pkglibdir} && ln -s $dir{sharedir}/* $build$dir{sharedir}");
unlink "$build$dir{pkglibdir}/pg_tandem.so";
system_or_bail('cp', "$build/src/pg_tandem.so", "$build$dir{pkglibdir}");
$ENV{PATH} = "$build$dir{bindir}:$ENV{PATH}";

my $primary = make_primary('alpha', conf => 'tandem.tls = off');
my $standby = make_standby('beta', $primary);

foreach my $node ($primary, $standby)
{
	is($node->safe_psql('postgres', 'SELECT rdma FROM tandem.status'),
		'not built in: TCP only', $node->name . ': tandem.status says so');
}
ok(wait_for_state($primary, 'in sync'), 'commits wait for the standby');
$primary->safe_psql('postgres', 'CREATE TABLE t AS SELECT generate_series(1, 10000) i');
is_same_data($primary, $standby, 'and what they did is there');

# --- what the views say, and the log when RDMA was asked for

my $reason = 'pg_tandem was built without libibverbs';
sub says
{
	my ($sentence) = @_;

	ok(wait_until($primary, "SELECT transport = 'tcp' AND transport_reason = '$reason' FROM tandem.links"),
		"$sentence: the primary's view tells why it is TCP");
	ok(wait_until($standby, "SELECT transport = 'tcp' AND transport_reason = '$reason' FROM tandem.receiver"),
		"... and so does the standby's");
	return;
}
says('tandem.transport = auto');
foreach my $node ($primary, $standby)
{
	ok(!$node->log_contains('RDMA is not used'), $node->name . ': that is not worth a message');
	$node->append_conf('postgresql.conf', 'tandem.transport = rdma');
	$node->reload;
	ok($node->wait_for_log(qr/LOG:  link "\w+": RDMA is not used: $reason\n/),
		$node->name . ': with tandem.transport = rdma it is');
}
says('tandem.transport = rdma');
$primary->safe_psql('postgres', 'DELETE FROM t WHERE i % 2 = 0');
is_same_data($primary, $standby, 'WAL goes on by TCP');
is($primary->safe_psql('postgres', 'SELECT connects FROM tandem.links'), '1', 'on the same link');

$standby->restart;
ok(wait_until($primary, "SELECT connects = 2 AND state = 'streaming' FROM tandem.links"),
	'tandem.transport = rdma does not keep a server from starting, nor its link from coming up');
says('a new link');

done_testing();
