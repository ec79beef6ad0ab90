# The WAL that is kept for a far standby has a limit: on the way there the primary tells how much
# time is left, beyond it the slot is given up and the primary goes on.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;

my $primary = make_primary('alpha', path => 1, conf => q(
synchronous_standby_names = ''
tandem.async_links = 'far'
tandem.link_options = 'far: max_backlog=96MB compression=none'
tandem.link_timeout = 2s
max_wal_size = 64MB
min_wal_size = 32MB
));
my $far = make_standby('far', $primary);

sub write_wal
{
	my ($mb) = @_;

	$primary->safe_psql('postgres', "SELECT count(pg_logical_emit_message(true, 'x', repeat('x', 1024 * 1024))) FROM generate_series(1, $mb)");
	return;
}

sub event_is
{
	my ($like, $sentence) = @_;

	return ok(wait_until($primary, "SELECT count(*) > 0 FROM tandem.events WHERE (kind, name) = ('link', 'far') AND message LIKE '$like'"), $sentence);
}

sub link_is
{
	my ($condition, $sentence) = @_;

	return ok(wait_until($primary, "SELECT $condition FROM tandem.links WHERE name = 'far'"), $sentence);
}

my $slot = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'far'";
my $kept_files = "SELECT sum(size) / 1048576 FROM pg_ls_waldir()";

link_is("state = 'streaming' AND backlog_bytes < 1000000 AND backlog_limit = 96 * 1048576", 'nothing is kept for a standby that keeps up; the limit is shown');

# --- away for a while: warnings, and all is well again

$primary->{path}->cut;
link_is("state = 'down'", 'the path to the far standby is cut');
write_wal(50);
event_is('50 % of the WAL that may be kept for it is used: % MB of 96 MB%', 'half of what may be kept is used: the primary says so');
write_wal(30);
event_is('75 % of the WAL that may be kept for it is used: % MB of 96 MB; the limit is reached in % at the present rate', '... and again, with the time that is left');
link_is("backlog_bytes BETWEEN 75 * 1048576 AND 96 * 1048576 AND backlog_time_left > '0'", '... which the view shows, too');
$primary->{path}->restore;
link_is("state = 'streaming' AND lag_bytes = 0", 'back in time: it catches up');
link_is('backlog_bytes < 1000000 AND backlog_time_left IS NULL', '... and nothing is kept any more');
is($primary->safe_psql('postgres', "SELECT count(*) FROM tandem.events WHERE message LIKE 'needs resync%'"), '0', 'the slot was not given up');

# --- beyond the limit, but the WAL is still there for another reason

$primary->safe_psql('postgres', "SELECT pg_create_physical_replication_slot('keeper', true)");
$primary->{path}->cut;
link_is("state = 'down'", 'cut again, while another slot keeps all WAL');
write_wal(120);
event_is('needs resync: replication slot "far" kept % MB of WAL, more than its limit of 96 MB, and is given up', 'beyond the limit the slot is given up');
link_is("state = 'needs resync'", '... the view says what is needed');
is($primary->safe_psql('postgres', $slot), 'lost', '... the slot is lost, in the words of PostgreSQL');
$primary->{path}->restore;
link_is("state = 'streaming' AND lag_bytes = 0", 'the WAL is there all the same: the standby catches up');
ok(wait_until($primary, "SELECT wal_status <> 'lost' FROM pg_replication_slots WHERE slot_name = 'far'"), '... and its slot keeps WAL again');
is_same_data($primary, $far, '... it is a good standby');

# --- a line that is too thin

$primary->safe_psql('postgres', "ALTER SYSTEM SET tandem.link_options = 'far: max_backlog=32MB compression=none max_rate=8MB'");
$primary->reload;
link_is('max_rate IS NOT NULL AND backlog_limit = 32 * 1048576', 'a line of 8 MB a second, and 32 MB may be kept');
my $given_up = $primary->safe_psql('postgres', "SELECT count(*) FROM tandem.events WHERE message LIKE 'needs resync%'");
write_wal(80);
ok(wait_until($primary, "SELECT count(*) > $given_up FROM tandem.events WHERE message LIKE 'needs resync%'"), 'more is written than the line carries: the slot is given up while the link is up');
link_is("state = 'streaming' AND lag_bytes = 0", '... and the standby catches up from the WAL that is there');
ok(wait_until($primary, "SELECT wal_status <> 'lost' FROM pg_replication_slots WHERE slot_name = 'far'"), '... when it is near enough its slot keeps WAL again');

# --- beyond the limit for good

$primary->safe_psql('postgres', "SELECT pg_drop_replication_slot('keeper')");
$primary->safe_psql('postgres', "ALTER SYSTEM RESET tandem.link_options");
$primary->reload;
$primary->{path}->cut;
link_is("state = 'down'", 'cut once more, and nothing else keeps WAL');
$given_up = $primary->safe_psql('postgres', "SELECT count(*) FROM tandem.events WHERE message LIKE 'needs resync%'");
write_wal(40);
write_wal(20) foreach 1 .. 10;
ok(wait_until($primary, "SELECT count(*) > $given_up FROM tandem.events WHERE message LIKE 'needs resync%'"), 'beyond the limit the slot is given up');
write_wal(40);
$primary->safe_psql('postgres', 'CHECKPOINT');
cmp_ok($primary->safe_psql('postgres', $kept_files), '<', 96 + 2 * 64 + 64, 'WAL is removed, and the primary goes on');
$primary->safe_psql('postgres', 'CREATE TABLE t AS SELECT 1 AS i');
$primary->{path}->restore;
ok(wait_until($far, "SELECT last_error LIKE '%has already been removed%' FROM tandem.receiver"), 'the standby is told that the WAL it needs is gone');
link_is("state = 'needs resync'", '... and the view says what is needed');
is($far->safe_psql('postgres', 'SELECT pg_is_in_recovery()'), 't', '... while it goes on answering');

# --- a standby that has not been here since the start of the primary: by the name of its slot

$far->stop;
$primary->safe_psql('postgres', "SELECT pg_drop_replication_slot('far')");
$primary->safe_psql('postgres', "SELECT pg_create_physical_replication_slot(s, true) FROM unnest('{far,far_2_b,far_3,backup}'::text[]) s");
$primary->append_conf('postgresql.conf', "tandem.async_links = 'far, Far-2.b'\ntandem.link_options = '*: max_backlog=96MB; FAR.3: max_rate=1MB'");
$primary->restart;
is($primary->safe_psql('postgres', 'SELECT count(*) FROM tandem.links'), '0', 'after a restart the primary has not seen the standby');
write_wal(120);
event_is('needs resync: replication slot "far" kept %', '... its slot is given up all the same');
is($primary->safe_psql('postgres', $slot), 'lost', '... it is lost');
my $given_up_at = "SELECT count(*) > 0 FROM tandem.events WHERE message LIKE 'needs resync: replication slot \"%s\" kept %%'";
ok(wait_until($primary, sprintf($given_up_at, $_)), "... and slot $_ by what is said about all links") foreach qw(far_2_b far_3);
is($primary->safe_psql('postgres', "SELECT string_agg(slot_name, ' ') FROM pg_replication_slots WHERE wal_status <> 'lost'"),
	'backup', '... but none that is not called like a node');

done_testing();
