# What if the disk fails while the primary writes WAL?  The replaced pwrite() passes everything on, so
# the same must happen as without the extension: what the client is told, what the log says, what is
# there afterwards.  So a server without the library meets the same faults first.
use strict;
use warnings FATAL => 'all';

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;

my $tools = PostgreSQL::Test::Utils::tempdir;
my $order = "$tools/order";
my $done = "$tools/done";
system_or_bail('make', '-s', '-C', "$FindBin::RealBin/../test/tools", "build=$tools",
	"$tools/walfault.so");

# Nobody but the test's sessions writes WAL, as far as that can be had.
my $conf = q(
fsync = on
restart_after_crash = on
autovacuum = off
wal_writer_delay = 10s
checkpoint_timeout = 1h
bgwriter_lru_maxpages = 0
max_wal_senders = 10
wal_level = replica
);

sub start_faulty
{
	my ($node) = @_;
	local $ENV{LD_PRELOAD} = "$tools/walfault.so";
	local $ENV{WALFAULT_ORDER} = $order;
	local $ENV{WALFAULT_DONE} = $done;

	return $node->start;
}

# What is ordered happens from now on.
sub order
{
	my (@faults) = @_;

	unlink $done;
	append_to_file("$order.new", join('', map { "$_\n" } @faults));
	rename "$order.new", $order or die $!;
	return;
}

sub faults_done
{
	return -e $done ? scalar(my @lines = split /\n/, slurp_file($done)) : 0;
}

# Where it happened differs from server to server.
sub without_place
{
	my ($text) = @_;

	$text =~ s/\b[0-9A-F]{24}\b/SEGMENT/g;
	$text =~ s/\b(offset|length|line|PID) \d+/$1 N/g;
	$text =~ s/port=\d+|\.s\.PGSQL\.\d+/PORT/g;
	$text =~ s/"[^"]*PORT[^"]*"/SOCKET/g;
	return $text;
}

# Runs a statement while the disk has these faults; everything that can be seen of it.
sub suffer
{
	my ($node, $sql, @faults) = @_;
	my $from = -s $node->logfile;
	my %seen = (before => $node->safe_psql('postgres', 'SELECT count(*), max(i) FROM t'));
	my $ended;

	order(@faults);
	($seen{result}, $seen{stdout}, $seen{stderr}) = $node->psql('postgres', $sql);
	$seen{stderr} = without_place($seen{stderr});
	$seen{faults} = faults_done();
	unlink $order;

	# it may be on its way down still, and then recovers
	$ended = slurp_file($node->logfile, $from) =~ /PANIC/;
	if ($ended)
	{
		$node->wait_for_log(qr/all server processes terminated; reinitializing/, $from);
		$node->wait_for_log(qr/database system is ready to accept connections/, $from);
	}
	# the standby, too, is told that the server is not ready yet
	$seen{log} = [
		grep { !/FATAL: +the database system is / }
		  map { without_place($_) }
		  slurp_file($node->logfile, $from) =~
		  /((?:PANIC|FATAL|ERROR): .*|LOG: +server process .* was terminated.*)/g
	];
	$seen{crashed} = $ended ? 1 : 0;
	$seen{after} = $node->safe_psql('postgres', 'SELECT count(*), max(i) FROM t');
	return \%seen;
}

my $many = join(';', map { "INSERT INTO t VALUES ($_, repeat('x', $_ * 20))" } 1000 .. 1059);
my @stories = (
	[ 'short writes', 'short 40', $many ],
	[ 'interrupted writes', 'eintr 20', $many ],
	[ 'a full disk', 'enospc 1', "INSERT INTO t VALUES (2000, '')" ],
	[ 'a broken disk', 'eio 1', "INSERT INTO t VALUES (3000, '')" ],
	[
		'a disk that fills while it is being written', "short 1\nenospc 1",
		"INSERT INTO t SELECT i, repeat('y', 1000) FROM generate_series(4001, 4040) i"
	],
	[
		'a disk that breaks while it is being written', "short 1\neio 1",
		"INSERT INTO t SELECT i, repeat('y', 1000) FROM generate_series(5001, 5040) i"
	]);

sub make_table
{
	my ($node) = @_;

	return $node->safe_psql('postgres',
		"CREATE TABLE t (i int, filler text); INSERT INTO t VALUES (1, ''); CHECKPOINT");
}

# --- without the extension

my $plain = PostgreSQL::Test::Cluster->new('plain');
my %expected;
$plain->init;
$plain->append_conf('postgresql.conf', $conf);
start_faulty($plain);
make_table($plain);
foreach my $story (@stories)
{
	my ($name, $faults, $sql) = @$story;

	$expected{$name} = suffer($plain, $sql, $faults);
	cmp_ok($expected{$name}{faults}, '>', 0, "$name: they happen");
}
is($expected{'short writes'}{crashed}, 0, 'a short write is gone on with');
is($expected{'interrupted writes'}{crashed}, 0, 'so is one that is interrupted');
is($expected{'a full disk'}{crashed}, 1, 'a full disk ends in a crash of the server');
is($expected{'a broken disk'}{crashed}, 1, 'so does a broken one');
$plain->stop;

# --- with it

my $alpha = make_primary('alpha', conf => $conf);
my $beta = make_standby('beta', $alpha);
$alpha->stop;
start_faulty($alpha);
ok(wait_for_state($alpha, 'in sync'), 'the pair is in sync');
is($alpha->safe_psql('postgres', 'SELECT capture FROM tandem.status'),
	'write', 'WAL is captured at write');
make_table($alpha);
foreach my $story (@stories)
{
	my ($name, $faults, $sql) = @$story;
	my $seen = suffer($alpha, $sql, $faults);

	is_deeply($seen, $expected{$name}, "$name: all is as without the extension")
	  or diag(explain($seen, $expected{$name}));
	ok(wait_for_state($alpha, 'in sync'), '... and the pair is in sync');
	is($alpha->safe_psql('postgres', 'SELECT capture FROM tandem.status'),
		'write', '... and captures at write');
	is_same_data($alpha, $beta, '... and both hold the same');
}

# --- under load

my $short = 'SELECT short_writes FROM tandem.capture';
my $before = $alpha->safe_psql('postgres', $short);
my $from = -s $alpha->logfile;
my $load = start_load([$alpha], clients => 4);
order('short 300');
ok($load->wait_for(500), 'under load commits go on while writes are cut short');
ok($load->finish, '... none fails');
cmp_ok(faults_done(), '>=', 100, '... many were');
unlink $order;
cmp_ok($alpha->safe_psql('postgres', $short), '>', $before, '... which tandem.capture counts');
unlike(slurp_file($alpha->logfile, $from), qr/PANIC|FATAL|ERROR|the walk over new WAL ended/,
	'... the log has nothing of it');
ok(wait_for_replay($alpha, $beta), '... the standby has followed');
ok($load->check($alpha), '... all that was acknowledged is on the primary');
ok($load->check($beta), '... and on the standby');
is_same_data($alpha, $beta, '... which hold the same');

done_testing();
