package TandemPair;

=pod

=head1 NAME

TandemPair - what the tests of pg_tandem have in common

=head1 SYNOPSIS

  use TandemPair;
  use Test::More;

  my $primary = make_primary('alpha');
  my $standby = make_standby('beta', $primary);
  ok(wait_for_state($primary, 'in sync'), 'commits wait for the standby');

  $primary->safe_psql('postgres', 'CREATE TABLE t (i int)');
  ok(wait_for_replay($primary, $standby), 'the standby has replayed it');
  is_same_data($primary, $standby, 'the two are the same');

  # a commit that has to wait
  my $commit = start_psql($primary, 'INSERT INTO t VALUES (1)');
  ok(wait_until_held($commit), 'the commit is held');
  ...
  ok($commit->finish, 'the commit has returned');

  # a pair whose connections go through a process that can cut them
  my $primary = make_primary('alpha', path => 1);
  my $standby = make_standby('beta', $primary);
  $primary->{path}->cut;
  $primary->{path}->restore;

Nodes are PostgreSQL::Test::Cluster objects, with these fields added:

  tandem_port   the port of the link
  path          the TandemPair::Path, or undef

A commit waits for ever when there is no standby, and C<safe_psql> with it: use
C<start_psql>, or C<SET synchronous_commit = local>, where that can be.  As a last
resort everything dies after three times PG_TEST_TIMEOUT_DEFAULT (180 s).

=cut

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use FindBin;
use IPC::Run;
use IPC::SysV qw(IPC_RMID);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(
  make_primary make_standby start_psql
  wait_until wait_for_state wait_for_link wait_for_receiver wait_for_replay
  wait_until_held held_commits is_same_data query_row
  walreceiver_pid freeze thaw remove_shared_memory
  start_load crc_line
);

# How long the wait_ functions wait before they give up.
our $patience = $PostgreSQL::Test::Utils::timeout_default / 3;

my $password = 'standby';
my %frozen;
my @running;
my @nodes;

# END blocks run after a die, not after a signal.
$SIG{ALRM} = sub { die "the test takes too long\n" };
$SIG{$_} = sub { die "ended by SIG$_[0]\n" } foreach qw(INT TERM HUP);
alarm 3 * $PostgreSQL::Test::Utils::timeout_default;

=pod

=head1 NODES

=over

=item make_primary($name, %options)

A running primary called $name, also in tandem.node_name.  Options:

  conf   => text       added to postgresql.conf
  path   => 1          standbys connect through a TandemPair::Path
  before => sub        called with the node before it is started
  start  => 0          do not start it

Standbys connect as "replicator", by TCP, with a password.  Nobody else may use TCP.
The extension is created when the first standby has connected: see C<make_standby>.

=cut

sub make_primary
{
	my ($name, %options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	push @nodes, $node;
	$node->init(allows_streaming => 1);
	$node->{tandem_port} = PostgreSQL::Test::Cluster::get_free_port();
	$node->append_conf(
		'postgresql.conf', qq(
listen_addresses = '127.0.0.1'
max_connections = 30
log_statement = ddl
shared_buffers = 16MB
wal_keep_size = 0
wal_retrieve_retry_interval = 100ms
shared_preload_libraries = 'pg_tandem'
synchronous_standby_names = 'tandem'
tandem.node_name = '$name'
tandem.listen_addresses = '127.0.0.1'
tandem.port = $node->{tandem_port}
));
	open my $hba, '>', $node->data_dir . '/pg_hba.conf' or die $!;
	print $hba "local all all trust\n";
	print $hba "local replication all trust\n";
	print $hba "host replication replicator 127.0.0.1/32 scram-sha-256\n";
	close $hba;

	if ($options{path})
	{
		$node->{path} = TandemPair::Path->new(pg => $node->port, link => $node->{tandem_port});
		$node->append_conf('postgresql.conf',
			"tandem.link_addresses = '127.0.0.1:" . $node->{path}->port('link') . "'");
	}
	$node->append_conf('postgresql.conf', $options{conf}) if defined $options{conf};
	$options{before}->($node) if defined $options{before};
	return $node if defined $options{start} && !$options{start};

	$node->start;
	$node->safe_psql('postgres',
		"SET synchronous_commit = local;"
		  . " CREATE ROLE replicator LOGIN REPLICATION PASSWORD '$password'");
	return $node;
}

=pod

=item make_standby($name, $primary, %options)

A running standby of $primary, made by C<pg_basebackup -R> with a slot that is named as the
standby.  Returns when it streams, and creates the extension on the primary if it is not
there.  Options:

  conf    => text     added to postgresql.conf, which is a copy of the primary's
  slot    => undef    no slot
  start   => 0        do not start it
  wait    => 0        do not wait until it streams
  library => 0        without pg_tandem in shared_preload_libraries

=cut

sub make_standby
{
	my ($name, $primary, %options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	my $slot = exists $options{slot} ? $options{slot} : $name;
	my $port = $primary->{path} ? $primary->{path}->port('pg') : $primary->port;
	my @slot = defined $slot ? ('--create-slot', '--slot', $slot) : ();

	push @nodes, $node;
	{
		local $ENV{PGPASSWORD} = $password;
		delete local $ENV{PGAPPNAME}; # -R would make it the standby's
		mkdir $primary->backup_dir;
		system_or_bail(
			'pg_basebackup', '-R', '--checkpoint=fast', '--no-sync', @slot,
			'-D', $primary->backup_dir . "/$name",
			'-d', "host=127.0.0.1 port=$port user=replicator");
	}
	$node->init_from_backup($primary, $name);
	$node->{tandem_port} = PostgreSQL::Test::Cluster::get_free_port();
	$node->append_conf('postgresql.conf',
		"tandem.node_name = '$name'\ntandem.port = $node->{tandem_port}\ntandem.link_addresses = ''");
	$node->append_conf('postgresql.conf', "shared_preload_libraries = ''")
	  if defined $options{library} && !$options{library};
	$node->append_conf('postgresql.conf', $options{conf}) if defined $options{conf};
	return $node if defined $options{start} && !$options{start};

	$node->start;
	return $node if defined $options{wait} && !$options{wait};
	wait_until($primary,
		"SELECT true FROM pg_stat_replication WHERE application_name = '$name' AND state = 'streaming'")
	  or die "standby \"$name\" does not stream\n";
	$primary->safe_psql('postgres',
		"SET synchronous_commit = local; CREATE EXTENSION IF NOT EXISTS pg_tandem");
	return $node;
}

=pod

=item query_row($node, $query)

The first row of the query's result as a hash, NULL as undef.

=cut

sub query_row
{
	my ($node, $query) = @_;
	my $json = $node->safe_psql('postgres', "SELECT to_json(q) FROM ($query) q LIMIT 1");

	require JSON::PP;
	return $json eq '' ? {} : JSON::PP::decode_json($json);
}

=pod

=back

=head1 WAITING

All of these poll; they return true, or false when $TandemPair::patience seconds are over.
What the views of pg_tandem say is then in the test's output.

=over

=item wait_until($node, $query, [$seconds])

Until the query gives a single "t".  Errors are taken as "not yet".

=cut

sub wait_until
{
	my ($node, $query, $seconds) = @_;
	my $end = time + (defined $seconds ? $seconds : $patience);
	my $answer;

	for (;;)
	{
		$answer = ask($node, $query);
		return 1 if $answer eq 't';
		last if time >= $end;
		usleep(50_000);
	}
	diag("waited in vain on \"" . $node->name . "\" for: $query");
	diag("the last answer was: $answer");
	foreach my $view (qw(status links receiver events))
	{
		diag("tandem.$view:\n" . ask($node, "SELECT * FROM tandem.$view\n\\gx"));
	}
	return 0;
}

# What the query gives, or an error.  By one psql per node, which is started again when it has
# ended, for instance with its server: a poll must not cost a process and a session each time.
sub ask
{
	my ($node, $query) = @_;
	my $asker = $node->{asker} //= TandemPair::Asker->new($node);
	my $answer = $asker->ask($query);

	return $answer if defined $answer;
	delete $node->{asker};
	return 'psql has ended';
}

=pod

=item wait_for_state($primary, $state)

Until tandem.status says 'in sync', 'alone' or 'stalled'.

=cut

sub wait_for_state
{
	my ($node, $state) = @_;

	return wait_until($node, "SELECT state = '$state' FROM tandem.status");
}

=pod

=item wait_for_link($primary, $name, $state)

Until tandem.links says that standby $name's link is in this state.

=cut

sub wait_for_link
{
	my ($node, $name, $state) = @_;

	return wait_until($node, "SELECT state = '$state' FROM tandem.links WHERE name = '$name'");
}

=pod

=item wait_for_receiver($standby, $state)

Until tandem.receiver on the standby is in this state.

=cut

sub wait_for_receiver
{
	my ($node, $state) = @_;

	return wait_until($node, "SELECT state = '$state' FROM tandem.receiver");
}

=pod

=item wait_for_replay($primary, $standby)

Until the standby has replayed all WAL that is in the primary now.

=cut

sub wait_for_replay
{
	my ($primary, $standby) = @_;
	my $lsn = $primary->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');

	return wait_until($standby, "SELECT pg_last_wal_replay_lsn() >= '$lsn'");
}

=pod

=item is_same_data($primary, $standby, $sentence)

A test: waits for replay, then compares a dump of both.

=cut

sub is_same_data
{
	my ($primary, $standby, $sentence) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @dumps;

	if (!wait_for_replay($primary, $standby))
	{
		return fail($sentence);
	}
	foreach my $node ($primary, $standby)
	{
		my $dump;

		IPC::Run::run([ 'pg_dump', '--no-unlogged-table-data', '-d', $node->connstr('postgres') ], '>', \$dump)
		  or die "pg_dump failed\n";
		$dump =~ s/^\\(un)?restrict .*\n//mg; # a random key
		push @dumps, $dump;
	}
	return ok($dumps[0] eq $dumps[1], $sentence);
}

=pod

=back

=head1 SESSIONS

=over

=item start_psql($node, $sql, ...)

Runs each $sql, one after the other, in a psql in the background and returns an object with

  $psql->done     has it ended?
  $psql->finish   waits until it has; true if there was no error
  $psql->stdout   what it has written; complete after finish
  $psql->stderr
  $psql->cancel   sends a cancel request, as Ctrl-C does
  $psql->pid      the server process

=item wait_until_held($psql)

Waits until its commit waits for synchronous replication.

=item held_commits($node)

How many sessions wait for synchronous replication now.

=cut

sub start_psql
{
	return TandemPair::Session->new(@_);
}

sub wait_until_held
{
	my ($session) = @_;

	return wait_until($session->{node},
		"SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE application_name = '$session->{name}'");
}

sub held_commits
{
	my ($node) = @_;

	return $node->safe_psql('postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
}

=pod

=back

=head1 PROCESSES

=over

=item walreceiver_pid($standby)

=item freeze($pid), thaw($pid)

SIGSTOP and SIGCONT.  What is frozen at the end of the test is thawed.

=item remove_shared_memory($node)

A server that was killed leaves a segment of System V shared memory, which only its next start in
that data directory removes.  At the end of the test this is done for all nodes; a test that
removes the postmaster.pid of a killed server calls it before that.

=cut

sub walreceiver_pid
{
	my ($node) = @_;

	return $node->safe_psql('postgres', 'SELECT pid FROM pg_stat_wal_receiver');
}

sub freeze
{
	my ($pid) = @_;

	kill('STOP', $pid) == 1 or die "could not stop process $pid: $!\n";
	$frozen{$pid} = 1;
	return;
}

sub thaw
{
	my ($pid) = @_;

	kill('CONT', $pid);
	delete $frozen{$pid};
	return;
}

# Its key and id are in line 7 of postmaster.pid; the key is an int that was printed as unsigned long.
sub remove_shared_memory
{
	my ($node) = @_;
	my $file = $node->data_dir . '/postmaster.pid';

	return if !-e $file;
	my ($key, $id) = split ' ', (split /\n/, slurp_file($file))[6] // '';
	return if !defined $id;
	foreach my $line (split /\n/, slurp_file('/proc/sysvipc/shm'))
	{
		my ($its_key, $its_id, undef, undef, undef, undef, $attached) = split ' ', $line;

		shmctl($id, IPC_RMID, 0)
		  if $its_id eq $id && $attached eq '0' && ($its_key & 0xffffffff) == ($key & 0xffffffff);
	}
	return;
}

=pod

=back

=head1 FILES

=over

=item crc_line($text)

The last line of a file that begins with $text and ends with its CRC-32C.

=cut

sub crc_line
{
	my $crc = 0xffffffff;

	foreach my $byte (unpack 'C*', $_[0])
	{
		$crc ^= $byte;
		$crc = $crc & 1 ? $crc >> 1 ^ 0x82f63b78 : $crc >> 1 foreach 1 .. 8;
	}
	return sprintf "crc %08X\n", $crc ^ 0xffffffff;
}

=pod

=back

=head1 LOAD

=over

=item start_load([$node, ...], clients => N, rate => R)

Starts inserts by the program "ledger" (test/client), which keeps a list of those that were
acknowledged, outside of the database.  It follows whichever of the nodes is the primary.
Object with

  $load->acknowledged   how many commits so far
  $load->wait_for($n)   until that many more; false if that takes too long
  $load->finish         ends the load; true if it went well
  $load->check($node)   true if all acknowledged ones are there; diagnoses if not

=back

=cut

sub start_load
{
	return TandemPair::Load->new(@_);
}

# The psql behind wait_until().
package TandemPair::Asker;

use PostgreSQL::Test::Utils;

my $asked = 0;

sub new
{
	my ($class, $node) = @_;
	my $self = bless { in => '', out => '', patience => IPC::Run::timer(20) }, $class;

	$self->{run} = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr('postgres') ],
		'<', \$self->{in}, '>', \$self->{out}, '2>&1', $self->{patience});
	push @running, $self;
	return $self;
}

# The answer, or undef when there is none: psql has ended, or says nothing.
sub ask
{
	my ($self, $query) = @_;
	my $end = 'end of answer ' . ++$asked;

	$self->{in} .= "$query\n;\n\\echo $end\n";
	$self->{patience}->start;
	eval {
		$self->{run}->pump
		  while $self->{run}->pumpable
		  && $self->{out} !~ /^$end\n/m
		  && !$self->{patience}->is_expired;
	};
	if ($self->{out} !~ /^$end\n/m)
	{
		@running = grep { $_ != $self } @running;
		$self->end;
		return undef;
	}
	(my $answer = $self->{out}) =~ s/\n?^$end\n//m;
	$self->{out} = '';
	return $answer;
}

sub end { $_[0]->{run}->kill_kill; return; }

package TandemPair;

# Nothing may outlive the test.  This comes before the END block of PostgreSQL::Test::Cluster,
# which leaves the other nodes running if one cannot be stopped.
END
{
	my $status = $?;

	alarm 0;
	kill('CONT', keys %frozen) if %frozen;
	eval { $_->end } foreach @running;
	$_->stop('immediate', fail_ok => 1) foreach @nodes;
	remove_shared_memory($_) foreach @nodes;
	$? = $status;
}

package TandemPair::Session;

use PostgreSQL::Test::Utils;
use Time::HiRes qw(usleep);

my $sessions = 0;

sub new
{
	my ($class, $node, @sql) = @_;
	my $self = bless {
		node => $node,
		name => 'session_' . ++$sessions,
		stdout => '',
		stderr => ''
	}, $class;

	local $ENV{PGAPPNAME} = $self->{name};
	$self->{run} = IPC::Run::start(
		[
			'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'),
			map { ('-c', $_) } @sql
		],
		'<', \undef, '>', \$self->{stdout}, '2>', \$self->{stderr},
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	push @running, $self;
	return $self;
}

sub done
{
	my ($self) = @_;

	$self->{run}->pump_nb if $self->{run}->pumpable;
	return !$self->{run}->pumpable;
}

sub finish
{
	my ($self) = @_;

	@running = grep { $_ != $self } @running;
	return $self->{run}->finish;
}

sub stdout { my ($self) = @_; chomp(my $text = $self->{stdout}); return $text; }
sub stderr { my ($self) = @_; return $self->{stderr}; }

sub pid
{
	my ($self) = @_;

	return $self->{node}->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE application_name = '$self->{name}'");
}

sub cancel
{
	my ($self) = @_;

	$self->{node}->safe_psql('postgres',
		"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = '$self->{name}'");
	return;
}

sub end { $_[0]->{run}->kill_kill; return; }

package TandemPair::Load;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $loads = 0;

# In the PATH, or where it is built.
sub program
{
	foreach my $directory (split(/:/, $ENV{PATH}), "$FindBin::RealBin/../test/client")
	{
		return "$directory/ledger" if -x "$directory/ledger";
	}
	die "there is no program \"ledger\": run make in test/client\n";
}

sub connection
{
	my ($nodes) = @_;

	return
	    'host=' . join(',', map { $_->host } @$nodes)
	  . ' port=' . join(',', map { $_->port } @$nodes)
	  . ' dbname=postgres target_session_attrs=read-write connect_timeout=2';
}

sub new
{
	my ($class, $nodes, %options) = @_;
	my $self = bless { output => '', file => $nodes->[0]->basedir . '/ledger.' . ++$loads }, $class;
	my @command =
	  (program(), 'run', '--conninfo', connection($nodes), '--file', $self->{file});

	$options{clients} //= 2;
	push @command, "--$_", $options{$_} foreach sort keys %options;
	# once for each set of nodes: the table is replicated
	system_or_bail(program(), 'init', '--conninfo', connection($nodes))
	  unless grep { $_->{has_ledger} } @$nodes;
	$_->{has_ledger} = 1 foreach @$nodes;
	$self->{run} = IPC::Run::start(\@command, '<', \undef, '>&', \$self->{output});
	push @running, $self;
	return $self;
}

sub acknowledged
{
	my ($self) = @_;
	my $lines = () = (-e $self->{file} ? slurp_file($self->{file}) : '') =~ /\n/g;

	return $lines;
}

sub wait_for
{
	my ($self, $more) = @_;
	my $wanted = $self->acknowledged + $more;
	my $end = time + $TandemPair::patience;

	while ($self->acknowledged < $wanted)
	{
		if (time >= $end)
		{
			diag("the load does not go on: " . $self->acknowledged . " of $wanted");
			return 0;
		}
		usleep(20_000);
	}
	return 1;
}

sub finish
{
	my ($self) = @_;

	@running = grep { $_ != $self } @running;
	$self->{run}->signal('INT');
	my $good = $self->{run}->finish;
	note($self->{output});
	return $good;
}

sub check
{
	my ($self, $node) = @_;
	my $output = '';
	my $good = IPC::Run::run(
		[ program(), 'check', '--conninfo', $node->connstr('postgres'), '--file', $self->{file} ],
		'>&', \$output);

	$good ? note($output) : diag($output);
	return $good;
}

sub end { $_[0]->{run}->kill_kill; return; }

=pod

=head1 TandemPair::Path

A process that forwards TCP connections, and can stop to: the network between two nodes.
It has two ports, "pg" and "link"; the methods act on those named, or on both.

  $path->port('pg')     the port to connect to
  $path->cut(...)       resets the connections; new ones are refused
  $path->blackhole(...) nothing passes any more, in either direction, and nobody is told;
                        new connections are accepted, as by a host whose packets get lost
                        behind the firewall
  $path->redirect('pg', $port)  new connections lead there
  $path->restore(...)   all is well again; what was in a black hole comes out of it

Each method returns when it has been done.

=cut

package TandemPair::Path;

use IO::Select;
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use POSIX ();
use Socket qw(AF_UNIX SOCK_STREAM PF_UNSPEC SOL_SOCKET SO_LINGER SHUT_WR);

sub new
{
	my ($class, %targets) = @_;
	my $self = bless { ports => {} }, $class;
	my $theirs;

	foreach my $name (sort keys %targets)
	{
		$self->{ports}{$name} = PostgreSQL::Test::Cluster::get_free_port();
	}
	socketpair($self->{control}, $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "socketpair: $!";
	$self->{control}->autoflush(1);
	$self->{pid} = fork;
	die "fork: $!" unless defined $self->{pid};
	if ($self->{pid} == 0)
	{
		# None of the parent's END blocks: they would stop its servers.
		$SIG{$_} = 'DEFAULT' foreach qw(ALRM INT TERM HUP);
		alarm 0;
		close $self->{control};
		eval { TandemPair::Forwarder->new(\%targets, $self->{ports}, $theirs)->run; };
		print STDERR "path: $@" if $@;
		POSIX::_exit($@ ? 1 : 0);
	}
	close $theirs;
	push @running, $self;
	$self->command('restore');
	return $self;
}

sub port { my ($self, $name) = @_; return $self->{ports}{$name}; }

sub command
{
	my ($self, $word, @names) = @_;

	@names = sort keys %{ $self->{ports} } unless @names;
	print { $self->{control} } "$word @names\n";
	my $answer = readline($self->{control});
	die "the forwarding process is gone\n" unless defined $answer;
	return;
}

sub cut { my ($self, @names) = @_; return $self->command('cut', @names); }
sub blackhole { my ($self, @names) = @_; return $self->command('blackhole', @names); }
sub redirect { my ($self, $name, $port) = @_; return $self->command('redirect', "$name=$port"); }
sub restore { my ($self, @names) = @_; return $self->command('restore', @names); }

sub end
{
	my ($self) = @_;

	kill('TERM', $self->{pid});
	waitpid($self->{pid}, 0);
	return;
}

# The process behind a path.  A connection is two ends; each end has what is to be written to
# it.  An end is read only when the other one has taken everything, so buffers stay small.
package TandemPair::Forwarder;

use Errno qw(EAGAIN EINTR);
use Socket qw(SOL_SOCKET SO_LINGER SHUT_WR);

use constant CHUNK => 65536;

sub new
{
	my ($class, $targets, $ports, $control) = @_;

	return bless {
		control => $control,
		routes => {
			map {
				$_ => { to => $targets->{$_}, port => $ports->{$_}, listen => undef, blackhole => 0,
					ends => {} }
			} keys %$targets
		}
	}, $class;
}

sub listen_on
{
	my ($route) = @_;

	$route->{listen} = IO::Socket::INET->new(
		Listen => 64,
		LocalAddr => '127.0.0.1',
		LocalPort => $route->{port},
		ReuseAddr => 1,
		Blocking => 0) or die "could not listen on port $route->{port}: $@\n";
	return;
}

# Close at once, with RST.
sub reset_end
{
	my ($route, $end) = @_;

	delete $route->{ends}{ $end->{socket} };
	setsockopt($end->{socket}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0));
	close $end->{socket};
	return;
}

sub reset_connection
{
	my ($route, $end) = @_;
	my $peer = $end->{peer};

	delete $end->{peer};
	delete $peer->{peer};
	reset_end($route, $_) foreach ($end, $peer);
	return;
}

sub obey
{
	my ($self, $line) = @_;
	my ($word, @names) = split(' ', $line);

	if ($word eq 'redirect')
	{
		my ($name, $port) = split /=/, $names[0];

		$self->{routes}{$name}{to} = $port;
		return;
	}
	foreach my $route (@{ $self->{routes} }{@names})
	{
		if ($word eq 'cut')
		{
			close $route->{listen} if $route->{listen};
			$route->{listen} = undef;
			while (my ($end) = values %{ $route->{ends} })
			{
				reset_connection($route, $end);
			}
		}
		elsif (!$route->{listen})
		{
			listen_on($route);
		}
		$route->{blackhole} = $word eq 'blackhole';
	}
	return;
}

sub take_connection
{
	my ($route) = @_;
	my $client = $route->{listen}->accept or return;
	my $server = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $route->{to});

	if (!$server)
	{
		reset_end($route, { socket => $client });
		return;
	}
	my @ends = map { { socket => $_, out => '', eof => 0, shut => 0 } } ($client, $server);
	$ends[0]{peer} = $ends[1];
	$ends[1]{peer} = $ends[0];
	foreach my $end (@ends)
	{
		$end->{socket}->blocking(0);
		setsockopt($end->{socket}, Socket::IPPROTO_TCP(), Socket::TCP_NODELAY(), 1);
		$route->{ends}{ $end->{socket} } = $end;
	}
	return;
}

sub read_end
{
	my ($route, $end) = @_;
	my $peer = $end->{peer};
	my $n = sysread($end->{socket}, $peer->{out}, CHUNK, length $peer->{out});

	if (!defined $n)
	{
		reset_connection($route, $end) unless $! == EAGAIN || $! == EINTR;
		return;
	}
	$end->{eof} = 1 if $n == 0;
	return write_end($route, $peer);
}

sub write_end
{
	my ($route, $end) = @_;

	if (length $end->{out})
	{
		my $n = syswrite($end->{socket}, $end->{out});

		if (!defined $n)
		{
			reset_connection($route, $end) unless $! == EAGAIN || $! == EINTR;
			return;
		}
		substr($end->{out}, 0, $n, '');
	}
	if ($end->{peer}{eof} && !$end->{shut} && !length $end->{out})
	{
		shutdown($end->{socket}, SHUT_WR);
		$end->{shut} = 1;
	}
	if ($end->{shut} && $end->{peer}{shut})
	{
		my $peer = $end->{peer};

		delete $end->{peer};
		delete $peer->{peer};
		foreach my $e ($end, $peer)
		{
			delete $route->{ends}{ $e->{socket} };
			close $e->{socket};
		}
	}
	return;
}

sub run
{
	my ($self) = @_;
	my $control = $self->{control};

	for (;;)
	{
		my $read = IO::Select->new($control);
		my $write = IO::Select->new;

		foreach my $route (values %{ $self->{routes} })
		{
			next if $route->{blackhole};
			$read->add($route->{listen}) if $route->{listen};
			foreach my $end (values %{ $route->{ends} })
			{
				$read->add($end->{socket}) if !$end->{eof} && !length $end->{peer}{out};
				$write->add($end->{socket}) if length $end->{out};
			}
		}
		my ($readable, $writable) = IO::Select->select($read, $write, undef);
		my %ready = map { $_ => 1 } @{ $readable || [] };
		my %room = map { $_ => 1 } @{ $writable || [] };

		foreach my $route (values %{ $self->{routes} })
		{
			take_connection($route) if $route->{listen} && $ready{ $route->{listen} };
			foreach my $key (keys %{ $route->{ends} })
			{
				my $end = $route->{ends}{$key};

				read_end($route, $end) if $end && $ready{$key};
				$end = $route->{ends}{$key};
				write_end($route, $end) if $end && $room{$key};
			}
		}
		if ($ready{$control})
		{
			sysread($control, my $line, 4096) or return; # the test has ended
			$self->obey($line);
			syswrite($control, "done\n");
		}
	}
	return;
}

1;
