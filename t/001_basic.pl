# A pair as the README sets it up: the link comes up by itself, carries everything, and the
# views say what is so.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;

my $primary = make_primary('alpha');
my $standby = make_standby('beta', $primary);

# --- the link comes up by itself

ok(wait_for_state($primary, 'in sync'), 'the pair is in sync without a hand');
ok(wait_for_link($primary, 'beta', 'streaming'), 'the link is streaming');

$primary->safe_psql('postgres', 'CREATE TABLE t (i int PRIMARY KEY, x text)');
$primary->safe_psql('postgres', "INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 1000) i");
ok(wait_for_replay($primary, $standby), 'the standby replays what is written');
is($standby->safe_psql('postgres', 'SELECT count(*), sum(i) FROM t'),
	'1000|500500', 'a query on the standby sees it');

# --- what the primary says

my $status = query_row($primary, 'SELECT * FROM tandem.status');
is_deeply(
	[ @$status{qw(node_name role term incarnation timeline state)} ],
	[ 'alpha', 'primary', 1, 1, 1, 'in sync' ],
	'tandem.status on the primary: name, role, term, incarnation, timeline, state');
is($status->{reason}, 'standby "beta" holds all WAL', 'tandem.status says why it is in sync');

ok(wait_until($primary, "SELECT flushed_lsn = pg_current_wal_flush_lsn()
		AND replayed_lsn = flushed_lsn AND written_lsn = flushed_lsn AND lag_bytes = 0
	FROM tandem.links"), 'tandem.links: everything has been written, flushed and replayed');
my $link = query_row($primary, 'SELECT * FROM tandem.links');
is_deeply(
	[ @$link{qw(name transport mode state slot_name connects)}, !!$link->{encrypted}, !!$link->{in_sync} ],
	[ 'beta', 'tcp', 'sync', 'streaming', 'beta', 1, !!1, !!1 ],
	'tandem.links: name, transport, mode, state, slot, number of connections, encrypted, in sync');
like($link->{address}, qr/^127\.0\.0\.1:\d+$/, 'tandem.links: where the standby connects from');
cmp_ok($link->{wire_bytes}, '>', $link->{wal_bytes}, 'tandem.links: frames cost a little more than their WAL');
cmp_ok($link->{wire_bytes}, '<', 2 * $link->{wal_bytes}, '... and not much more');
ok(wait_until($primary, 'SELECT round_trip > interval \'0\' FROM tandem.links'),
	'tandem.links: the round trip has been measured');

# The lags are those of the last write; when all is quiet they go, as in core.
$primary->safe_psql('postgres', "UPDATE t SET x = 'new ' || i");
ok(wait_until($primary, "SELECT l.replayed_lsn = r.replay_lsn AND l.flushed_lsn = r.flush_lsn
		AND l.written_lsn = r.write_lsn AND l.sent_lsn = r.sent_lsn
		AND r.sent_lsn = pg_current_wal_flush_lsn()
	FROM tandem.links l JOIN pg_stat_replication r ON r.pid = l.walsender_pid"),
	'pg_stat_replication says of the standby what tandem.links says');
is($primary->safe_psql('postgres',
	"SELECT application_name, usename, state, client_addr, sync_state FROM pg_stat_replication
	 ORDER BY application_name"),
	"beta|replicator|streaming|127.0.0.1|async\ntandem|postgres|streaming||sync",
	'pg_stat_replication shows the standby, and the gate as the synchronous one');

ok(wait_until($primary, "SELECT active AND active_pid = l.pid AND xmin IS NULL
		AND restart_lsn = pg_current_wal_flush_lsn()
	FROM pg_replication_slots s JOIN tandem.links l ON l.slot_name = s.slot_name"),
	'the link worker holds the slot, which follows the standby');
ok(wait_until($primary, 'SELECT c.bytes_before_flush + c.bytes_at_flush = l.wal_bytes
		AND reads > 0 AND wakeups > 0
	FROM tandem.capture c, tandem.links l'), 'tandem.capture: what was captured is what was sent');
is($primary->safe_psql('postgres', 'SELECT c.point = s.capture AND c.reason = s.capture_reason
	FROM tandem.capture c, tandem.status s'), 't', 'tandem.capture and tandem.status agree');
is($primary->safe_psql('postgres', "SELECT kind, name, split_part(message, ':', 1) FROM tandem.events ORDER BY id"),
	join("\n",
		'node|alpha|primary of term 1, incarnation 1, timeline 1, from '
		  . $primary->safe_psql('postgres',
			"SELECT substring(message FROM 'from (.*)') FROM tandem.events WHERE kind = 'node'"),
		'gate|alpha|stalled', 'link|beta|up', 'gate|alpha|in sync'),
	'tandem.events: what has happened so far, in order');
ok($primary->log_contains('gate "alpha": in sync: standby "beta" holds all WAL'), 'events are in the log');
is($primary->safe_psql('postgres', 'SELECT count(*) FROM tandem.receiver'),
	'0', 'tandem.receiver is empty on a primary');

# --- what the standby says

ok(wait_until($standby, 'SELECT written_lsn = durable_lsn AND durable_lsn = bound_lsn
		AND replayed_lsn = bound_lsn FROM tandem.receiver'),
	'tandem.receiver: all that is here has been replayed');
my $receiver = query_row($standby, 'SELECT * FROM tandem.receiver');
is_deeply(
	[ @$receiver{qw(state primary_name address transport connects)}, !!$receiver->{encrypted} ],
	[ 'streaming', 'alpha', "127.0.0.1:$primary->{tandem_port}", 'tcp', 1, !!1 ],
	'tandem.receiver: state, primary, address, transport, number of connections, encrypted');
ok(wait_until($standby, "SELECT r.pid = w.pid AND w.status = 'streaming' AND w.slot_name = 'beta'
		AND w.received_tli = 1 AND w.flushed_lsn = r.bound_lsn AND w.written_lsn = r.written_lsn
		AND pg_last_wal_receive_lsn() = r.bound_lsn AND w.latest_end_lsn = r.bound_lsn
		AND w.sender_port = " . $primary->port . "
	FROM tandem.receiver r, pg_stat_wal_receiver w"),
	'pg_stat_wal_receiver and pg_last_wal_receive_lsn() agree with it');
my $standby_status = query_row($standby, 'SELECT * FROM tandem.status');
is_deeply(
	[ @$standby_status{qw(node_name role term incarnation timeline state)} ],
	[ 'beta', 'standby', 1, 1, 1, undef ],
	'tandem.status on the standby: it is a standby of that term and incarnation');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM tandem.links'),
	'0', 'tandem.links is empty on a standby');

# With nothing to do, the two still hear of each other.
my $heard = $standby->safe_psql('postgres', 'SELECT last_msg_receipt_time FROM pg_stat_wal_receiver');
ok(wait_until($standby, "SELECT last_msg_receipt_time > '$heard' AND last_msg_send_time > '$heard'
	FROM pg_stat_wal_receiver"), 'pg_stat_wal_receiver: the idle primary is heard');
$heard = $primary->safe_psql('postgres', "SELECT reply_time FROM pg_stat_replication WHERE application_name = 'beta'");
ok(wait_until($primary, "SELECT reply_time > '$heard' AND l.last_reply > '$heard'
	FROM pg_stat_replication r JOIN tandem.links l ON r.pid = l.walsender_pid"),
	'pg_stat_replication: so is the idle standby');

# --- wait_for

is($primary->safe_psql('postgres', "SELECT tandem.wait_for(pg_current_wal_flush_lsn(), '10 s')"),
	't', 'wait_for on the primary: true when the standby holds the WAL');
is($standby->safe_psql('postgres', "SELECT tandem.wait_for('"
	  . $primary->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()') . "', '10 s')"),
	't', 'wait_for on the standby: true when it has been replayed');
foreach my $node ($primary, $standby)
{
	is($node->safe_psql('postgres', "SELECT tandem.wait_for('FF/0', '200 ms'),
			clock_timestamp() - now() BETWEEN '200 ms' AND '10 s'"),
		'f|t', 'wait_for on "' . $node->name . '": false, and not before time, when that WAL does not come');
}

# --- pause and resume

my ($ret, $out, $err) = $primary->psql('postgres', "SELECT tandem.pause_link('gamma')");
like($err, qr/there is no link named "gamma"/, 'a standby that was never here cannot be paused');
$primary->safe_psql('postgres', "SELECT tandem.pause_link('beta')");
ok(wait_for_link($primary, 'beta', 'paused'), 'pause_link: the link is paused');
ok(wait_for_state($primary, 'stalled'), '... and nobody is in sync');
my $commit = start_psql($primary, "INSERT INTO t VALUES (2000, 'paused')");
ok(wait_until_held($commit), '... so a commit is held');
is($standby->safe_psql('postgres', "SELECT tandem.wait_for('"
	  . $primary->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()') . "', '500 ms')"),
	'f', '... and the standby does not get it');
$primary->safe_psql('postgres', "SELECT tandem.resume_link('beta')");
ok($commit->finish, 'resume_link: the commit returns');
ok(wait_for_state($primary, 'in sync'), '... and the pair is in sync again');
ok(wait_for_link($primary, 'beta', 'streaming'), '... over the same link');
is($primary->safe_psql('postgres', 'SELECT connects FROM tandem.links'), '1', '... which never went down');

# --- much WAL, large records, segment switches

my $before = $primary->lsn('flush');
$primary->safe_psql('postgres',
	"SELECT count(pg_logical_emit_message(true, 'burst', repeat('x', 1024 * 1024))) FROM generate_series(1, 64)");
is($standby->safe_psql('postgres', "SELECT durable_lsn - '$before' > 64 * 1024 * 1024 FROM tandem.receiver"),
	't', 'when a commit behind a burst of 64 MB returns, the standby has made it durable');
foreach my $megabytes (3, 9)
{
	$primary->safe_psql('postgres',
		"SELECT pg_logical_emit_message(true, 'large', repeat('x', $megabytes * 1024 * 1024))");
	ok(wait_for_replay($primary, $standby), "a record of $megabytes MB is replayed");
}
for my $i (1 .. 3)
{
	$primary->safe_psql('postgres', "INSERT INTO t VALUES (3000 + $i, 'switch')");
	$primary->safe_psql('postgres', 'SELECT pg_switch_wal()');
}
ok(wait_for_replay($primary, $standby), 'the standby follows through forced segment switches');
$primary->safe_psql('postgres', 'CHECKPOINT');
ok(wait_for_replay($primary, $standby), '... and a checkpoint');

# --- hot_standby_feedback, with a slot and without

my $slotless = make_standby('gamma', $primary, slot => undef,
	conf => "hot_standby_feedback = on\nwal_receiver_status_interval = 1s");
$standby->safe_psql('postgres', 'ALTER SYSTEM SET hot_standby_feedback = on');
$standby->safe_psql('postgres', 'ALTER SYSTEM SET wal_receiver_status_interval = 1');
$standby->reload;
ok(wait_until($primary, "SELECT xmin IS NOT NULL AND catalog_xmin IS NULL FROM pg_replication_slots WHERE slot_name = 'beta'"),
	"hot_standby_feedback: the standby's xmin is in its slot");
ok(wait_until($primary, "SELECT backend_xmin IS NOT NULL FROM pg_stat_activity a JOIN tandem.links l USING (pid) WHERE l.name = 'gamma'"),
	'... or, without a slot, in the link worker');

foreach my $node ($standby, $slotless)
{
	my $name = $node->name;

	$primary->safe_psql('postgres',
		"DROP TABLE IF EXISTS old; CREATE TABLE old AS SELECT generate_series(1, 100) AS i");
	ok(wait_for_replay($primary, $node), "\"$name\" has the table");
	my $reader = $node->background_psql('postgres');
	$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
	$reader->query_safe('SELECT count(*) FROM old');
	my $xmin = $node->safe_psql('postgres', 'SELECT min(backend_xmin::text::bigint) FROM pg_stat_activity');
	ok(wait_until($primary, "SELECT $xmin IN (SELECT xmin::text::bigint FROM pg_replication_slots WHERE slot_name = '$name'
			UNION SELECT backend_xmin::text::bigint FROM pg_stat_activity JOIN tandem.links l USING (pid) WHERE l.name = '$name')"),
		"the snapshot of a reader on \"$name\" reaches the primary");
	$primary->safe_psql('postgres', 'DELETE FROM old');
	my (undef, undef, $vacuum) = $primary->psql('postgres', 'VACUUM (VERBOSE) old');
	like($vacuum, qr/100 are dead but not yet removable/, '... and vacuum leaves what it sees');
	is($reader->query_safe('SELECT count(*) FROM old'), '100', '... so that it can still see it');
	$reader->query_safe('COMMIT');
	$reader->quit;
	ok(wait_until($primary, "SELECT NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '$name' AND xmin::text::bigint <= $xmin)
		AND NOT EXISTS (SELECT FROM pg_stat_activity JOIN tandem.links l USING (pid) WHERE l.name = '$name' AND backend_xmin::text::bigint <= $xmin)"),
		'... until it has ended');
	(undef, undef, $vacuum) = $primary->psql('postgres', 'VACUUM (VERBOSE) old');
	like($vacuum, qr/tuples: 100 removed/, '... then vacuum removes it');
}

# As in core, an interval of 0 turns feedback off as well.
$standby->safe_psql('postgres', 'ALTER SYSTEM SET wal_receiver_status_interval = 0');
$standby->reload;
ok(wait_until($primary, "SELECT xmin IS NULL FROM pg_replication_slots WHERE slot_name = 'beta'"),
	'wal_receiver_status_interval = 0: the slot holds no xmin any more');
$standby->safe_psql('postgres', "ALTER SYSTEM RESET $_")
  foreach qw(wal_receiver_status_interval hot_standby_feedback);
$standby->reload;
$primary->safe_psql('postgres', 'DROP TABLE old');

# --- without encryption

$primary->safe_psql('postgres', 'ALTER SYSTEM SET tandem.tls = off');
$primary->reload;
$standby->restart;
ok(wait_until($primary, "SELECT NOT encrypted AND state = 'streaming' FROM tandem.links WHERE name = 'beta'"),
	'tandem.tls = off: the next link is not encrypted');
is($standby->safe_psql('postgres', 'SELECT encrypted FROM tandem.receiver'), 'f', '... on both sides');
$primary->safe_psql('postgres', "INSERT INTO t SELECT i, 'plain ' || i FROM generate_series(10001, 20000) i");
ok(wait_for_replay($primary, $standby), '... and carries what is written');
is($primary->safe_psql('postgres', "SELECT encrypted FROM tandem.links WHERE name = 'gamma'"),
	't', "the other standby's link is as it was");

# --- standbys without the link, from the same primary

my $unlinked = make_standby('delta', $primary, conf => 'tandem.link = off');
my $foreign = make_standby('epsilon', $primary, library => 0);
is($unlinked->safe_psql('postgres', "SELECT state || ': ' || last_error FROM tandem.receiver"),
	'streaming without the link: tandem.link is off', 'a standby with tandem.link = off streams as core does');
my $lines = () = slurp_file($unlinked->logfile) =~ /streaming as core does, without the link: tandem\.link is off/g;
is($lines, 1, '... and says so, once');
is($primary->safe_psql('postgres', "SELECT count(*) FROM tandem.links WHERE name IN ('delta', 'epsilon')"),
	'0', 'neither it nor one without the library has a link');
$primary->safe_psql('postgres', "INSERT INTO t VALUES (30000, 'by core')");
foreach my $node ($unlinked, $foreign)
{
	ok(wait_for_replay($primary, $node), '"' . $node->name . '" replays what is written');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM t WHERE i = 30000'), '1', '... and has it');
}
is($foreign->safe_psql('postgres', 'SELECT status FROM pg_stat_wal_receiver'),
	'streaming', 'the one without the library streams');

# --- turning the link on and off again, under load

my $load = start_load([ $primary ], clients => 2, rate => 200);
my $pid = walreceiver_pid($unlinked);
$unlinked->safe_psql('postgres', 'ALTER SYSTEM SET tandem.link = on');
$unlinked->reload;
ok(wait_for_link($primary, 'delta', 'streaming'), 'tandem.link turned on: the standby goes over to the link');
ok(wait_for_receiver($unlinked, 'streaming'), '... and says so');
ok($load->wait_for(100), '... and commits go on');
$unlinked->safe_psql('postgres', 'ALTER SYSTEM SET tandem.link = off');
$unlinked->reload;
ok(wait_for_link($primary, 'delta', 'down'), 'turned off: it leaves the link');
ok(wait_for_receiver($unlinked, 'streaming without the link'), '... and streams as core does');
ok($load->wait_for(100), '... and commits go on');
is(walreceiver_pid($unlinked), $pid, 'all that in one walreceiver');
ok($load->finish, 'the load ends well');
ok(wait_for_replay($primary, $unlinked), 'the standby gets it all');
ok($load->check($unlinked), '... with every acknowledged commit');
is_same_data($primary, $unlinked, '... and is the same');

# --- only standbys of pg_tandem count

$standby->stop;
$slotless->stop;
ok(wait_for_state($primary, 'in sync'), 'a standby with the library keeps the pair in sync without a link');
$primary->safe_psql('postgres', "INSERT INTO t VALUES (30001, 'delta is left')");
$unlinked->stop;
ok(wait_for_state($primary, 'stalled'), 'one without the library does not');
$commit = start_psql($primary, "INSERT INTO t VALUES (30002, 'epsilon is left')");
ok(wait_until_held($commit), '... and a commit is held');
ok(wait_for_replay($primary, $foreign), '... although that standby has it');
ok(!$commit->done, '... still');
$standby->start;
ok($commit->finish, '... until one with the library is back');

is_same_data($primary, $standby, 'at the end the two nodes hold the same');

done_testing();
