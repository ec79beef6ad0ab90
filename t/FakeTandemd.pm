package FakeTandemd;

=pod

=head1 NAME

FakeTandemd - a tandemd that does what a test says

=head1 SYNOPSIS

  use FakeTandemd;

  my $td = start_tandemd('alpha');    # for the node of that name
  order($td, 'hold 3 60000 0');       # a lease of term 3, renewed all the time
  my $alpha = make_primary('alpha', conf => under_lease());
  ok(wait_report($td, role => 'primary', term => 3), 'it has that term');

See test/tools/faketandemd.c for what can be ordered, and for the fields of a report.

=over

=item start_tandemd($node), stop_tandemd($td)

=item under_lease()

Lines for postgresql.conf.

=item order($td, $line)

Gives the order, returns the answer.

=item report($td)

What the extension reported last, as a hash.

=item wait_report($td, field => value, ...)

Until it reports all of this; a value may be a code reference. False, with the last report as a
diagnosis, when $TandemPair::patience seconds are over.

=back

=cut

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use FindBin;
use IPC::Run;
use PostgreSQL::Test::Utils;
use TandemPair;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(start_tandemd stop_tandemd under_lease order report wait_report);

my ($program, $directory);
my @running;

sub build
{
	return if defined $program;
	my $tools = PostgreSQL::Test::Utils::tempdir;

	$directory = PostgreSQL::Test::Utils::tempdir_short; # a socket's path must be short
	$program = "$tools/faketandemd";
	system_or_bail('make', '-s', '-C', "$FindBin::RealBin/../test/tools", "build=$tools", $program);
	return;
}

sub start_tandemd
{
	my ($node) = @_;
	my $td = { in => '', out => '' };

	build();
	$td->{run} = IPC::Run::start([ $program, $directory, $node ],
		'<', \$td->{in}, '>', \$td->{out},
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	push @running, $td;
	return $td;
}

sub stop_tandemd
{
	my ($td) = @_;

	@running = grep { $_ != $td } @running;
	$td->{run}->kill_kill;
	return;
}

END
{
	my $status = $?;

	$_->{run}->kill_kill foreach @running;
	$? = $status;
}

sub under_lease
{
	build();
	return "tandem.lease_required = on\ntandem.watchdog_directory = '$directory'\n";
}

sub order
{
	my ($td, $line) = @_;

	$td->{in} .= "$line\n";
	$td->{run}->pump until $td->{out} =~ s/^(.*)\n//;
	return $1;
}

sub report
{
	my ($td) = @_;

	return { map { split(/=/, $_, 2) } split(/ /, order($td, 'report')) };
}

sub wait_report
{
	my ($td, %wanted) = @_;
	my $end = time + $TandemPair::patience;
	my $report;

	do
	{
		$report = report($td);
		my @missing = grep {
			my $is = $report->{$_};
			!defined $is || (ref $wanted{$_} ? !$wanted{$_}->($is) : $is ne $wanted{$_});
		} keys %wanted;
		return 1 if !@missing;
		usleep(20_000);
	} while (time < $end);
	diag("the last report was: " . join(' ', map { "$_=$report->{$_}" } sort keys %$report));
	return 0;
}

1;
