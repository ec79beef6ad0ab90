# tandem.nice: the processes that a commit waits for run before others, where that is permitted.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;

# Give up the right to a better nice value for what is started from here.
my @not_permitted = ('setpriv', '--ambient-caps=-sys_nice', '--inh-caps=-sys_nice');
my $capabilities = slurp_file('/proc/self/status') =~ /^CapEff:\s+([0-9a-f]+)/m ? hex($1) : 0;

plan skip_all => 'a better nice value is not permitted: it needs CAP_SYS_NICE'
	unless $capabilities & (1 << 23);

my $primary = make_primary('alpha', conf => "tandem.max_links = 2\nautovacuum = off");
my $standby = make_standby('beta', $primary);

# What the kernel says of all threads of a process, as the view names it.
sub has_nice
{
	my ($node, $view, $nice, $sentence) = @_;

	wait_until($node, "SELECT coalesce(nice = $nice, false) FROM tandem.$view WHERE state = 'streaming'");
	my ($pid, $shown) = split /\|/, $node->safe_psql('postgres', "SELECT pid, nice FROM tandem.$view");
	my @kernel = map { (split / /, slurp_file($_) =~ s/.*\) //sr)[16] } glob("/proc/$pid/task/*/stat");

	return is_deeply([$shown, @kernel], [$nice, ($nice) x @kernel], $sentence);
}

sub set
{
	my ($node, $name, $value) = @_;

	$node->safe_psql('postgres', "ALTER SYSTEM SET $name = '$value'");
	$node->reload;
	return;
}

ok(wait_for_state($primary, 'in sync'), 'the primary is in sync');
has_nice($primary, 'links', -10, 'the link worker runs before others');
has_nice($standby, 'receiver', -10, '... and so does the walreceiver');

set($_, 'tandem.nice', -3) foreach ($primary, $standby);
has_nice($primary, 'links', -3, 'another nice value needs a reload only');
has_nice($standby, 'receiver', -3, '... on the standby, too');

set($primary, 'tandem.async_links', 'beta');
has_nice($primary, 'links', 0, 'no commit waits for an asynchronous link: its worker runs like any process');
set($primary, 'tandem.async_links', '');
has_nice($primary, 'links', -3, '... and before others when it is synchronous again');
set($primary, 'tandem.nice', 0);
has_nice($primary, 'links', 0, 'with 0 it runs like any process');
set($primary, 'tandem.nice', -10);
has_nice($primary, 'links', -10, '... until that is changed');

# A worker without a link has done with it.
my $worker = $primary->safe_psql('postgres', 'SELECT pid FROM tandem.links');
$standby->stop;
ok(wait_until($primary, "SELECT split_part(regexp_replace(pg_read_file('/proc/$worker/stat'), '.*\\) ', ''), ' ', 17) = '0'"),
	'a link worker that serves no standby runs like any process');

# Where it is not permitted everything works all the same.
my $offset = -s $standby->logfile;
system_or_bail(@not_permitted, 'pg_ctl', '-w', '-D', $standby->data_dir, '-l', $standby->logfile, 'start');
$standby->_update_pid(1);
ok(wait_for_state($primary, 'in sync'), 'a standby that may not do so is in sync');
has_nice($standby, 'receiver', 0, '... and its view shows that it does not');
has_nice($primary, 'links', -10, '... while the primary does');
unlike(slurp_file($standby->logfile, $offset), qr/WARNING|ERROR|priority/, '... without a word in its log');

done_testing();
