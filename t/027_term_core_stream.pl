# A primary goes on in a higher term, in place, while a standby of it streams by core.  Core knows
# nothing of incarnations: were that stream to go on, the standby would replay WAL of the new one
# and be taken for diverged as soon as it hears of it.
use strict;
use warnings FATAL => 'all';

use FakeTandemd;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;

my $td = start_tandemd('alpha');
my $alpha = make_primary('alpha', conf => under_lease(), start => 0);
order($td, 'hold 3 60000 0');
$alpha->start;
ok(wait_report($td, role => 'primary', term => 3), 'a primary of term 3');
order($td, 'alone 3');
ok(wait_report($td, open => 1), 'which is authorised to go on alone');
$alpha->safe_psql('postgres',
	"CREATE ROLE replicator LOGIN REPLICATION PASSWORD 'standby'; CREATE TABLE t (i int)");

my $tdb = start_tandemd('beta');
my $beta = make_standby('beta', $alpha, conf => 'tandem.link = off');
ok(wait_for_receiver($beta, 'streaming without the link'), 'its standby streams by core')
  or diag($beta->safe_psql('postgres', 'SELECT * FROM tandem.receiver'));

order($td, 'hold 4 60000 0');
order($td, 'term 4 0');
ok(wait_report($td, term => 4, open => 1), 'the primary goes on in term 4');
$alpha->safe_psql('postgres', 'INSERT INTO t SELECT generate_series(1, 1000)');
ok(wait_for_replay($alpha, $beta), 'the standby has replayed WAL of that term');
ok(wait_until($beta, 'SELECT term = 4 FROM tandem.status'), 'and knows whose it is');

my $from = -s $beta->logfile;
$beta->safe_psql('postgres', "ALTER SYSTEM SET tandem.link = on");
$beta->reload;
kill 'TERM', walreceiver_pid($beta);
ok(wait_for_link($alpha, 'beta', 'streaming'), 'over a link it goes on');
unlike(slurp_file($beta->logfile, $from), qr/diverged/, 'and is not called diverged');
is_same_data($alpha, $beta, 'both hold the same');

done_testing();
