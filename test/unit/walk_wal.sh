#!/bin/bash
#
# walk_wal.sh OUTDIR
#	Make real WAL for test_walk.
#
# Runs three temporary clusters, with WAL segments of 1, 16 and 64 MB, one
# after the other, and leaves their segments, all that they wrote after initdb,
# in OUTDIR/1, OUTDIR/16 and OUTDIR/64.  What the WAL of each holds besides
# ordinary work:
#
#	1	records longer than a segment; two records cut off by a lost tail, one
#		within a segment and one at a segment's beginning, with what crash
#		recovery wrote over their rest
#	16	compressed page images; a second timeline, branched off within a page
#	64	nothing else
#
# Segments recycled from old ones keep the old contents behind the end of WAL:
# that is wanted.  Must run as root; servers run as user postgres, listen on a
# socket in a private directory only, and are gone when this script ends, also
# when it is interrupted.

set -euo pipefail

if [ $# -ne 1 ]
then
	echo "usage: $0 OUTDIR" >&2
	exit 2
fi

out=$1
bindir=$("${PG_CONFIG:-pg_config}" --bindir)
work=$(mktemp -d "${TMPDIR:-/tmp}/walk_wal.XXXXXX")
server=
child=
done=

cleanup()
{
	trap '' INT TERM HUP
	if [ -z "$done" ] && [ -f "$work/log" ]; then tail -n 20 "$work/log" >&2; fi
	# the postmaster is our own child: SIGQUIT ends it and all of its children
	if [ -n "$child" ]; then kill -TERM "$child" 2>/dev/null || true; fi
	if [ -n "$server" ]; then kill -QUIT "$server" 2>/dev/null || true; fi
	wait
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
chown postgres "$work"

# Start a program of PostgreSQL's in the background, its pid in $!.  It becomes
# the program itself, not that one's parent (as with runuser), so that signals
# reach it; and it gets one if this script is killed.
background()
{
	local program=$1

	shift
	setpriv --reuid=postgres --regid=postgres --init-groups --pdeathsig=QUIT -- \
		"$bindir/$program" "$@" >>"$work/log" 2>&1 &
}

# Run one to its end; interruptible, as wait is and a plain command is not.
run()
{
	background "$@"
	child=$!
	wait "$child"
	child=
}

# Statements, each in its own transaction.
sql()
{
	local statement
	local -a options=()

	for statement in "$@"
	do
		options+=(-c "$statement")
	done
	run psql -X -q -v ON_ERROR_STOP=1 -h "$work" -d postgres "${options[@]}"
}

# A query's answer, in $answer.
ask()
{
	run psql -X -q -A -t -v ON_ERROR_STOP=1 -h "$work" -d postgres -o "$work/answer" -c "$1"
	answer=$(<"$work/answer")
}

start()
{
	background postgres -D "$work/data"
	server=$!
	until "$bindir/pg_isready" -q -h "$work" -U postgres
	do
		kill -0 "$server"
		sleep 0.05
	done
}

# stop INT is a fast shutdown, stop QUIT a crash.
stop()
{
	kill "-$1" "$server"
	wait "$server" || [ "$1" = QUIT ]
	server=
}

new_cluster()
{
	local mb=$1

	rm -rf "$work/data" "$work/archive"
	install -d -o postgres "$work/archive"
	run initdb -D "$work/data" -N -A trust -E UTF8 --locale=C --wal-segsize="$mb"
	cat >>"$work/data/postgresql.conf" <<-CONF
		listen_addresses = ''
		unix_socket_directories = '$work'
		shared_buffers = 16MB
		fsync = off
		autovacuum = off
		wal_init_zero = off
		wal_compression = $([ "$mb" -eq 16 ] && echo on || echo off)
		min_wal_size = $((mb * 2))MB
		max_wal_size = $((mb * 4 > 24 ? mb * 4 : 24))MB
		archive_mode = on
		archive_command = 'cp %p $work/archive/%f'
	CONF
	start
}

work()
{
	local mb=$1

	run pgbench -h "$work" -q -i -s 1 postgres
	sql "COPY pgbench_accounts TO '$work/archive/copy'" \
		'CREATE TABLE copied (LIKE pgbench_accounts)' \
		"COPY copied FROM '$work/archive/copy'" \
		'CREATE INDEX ON copied (bid, aid)' \
		"SELECT pg_logical_emit_message(false, 'walk', repeat('four pages', 3300))" \
		"SELECT pg_logical_emit_message(true, 'walk', repeat('some more pages', 200000))"
	rm "$work/archive/copy"
	run pgbench -h "$work" -n -c 4 -t 150 postgres
	sql 'SELECT pg_switch_wal()' 'CHECKPOINT'
	run pgbench -h "$work" -n -c 4 -t 150 postgres
	if [ "$mb" -lt 64 ]
	then
		sql 'VACUUM FULL pgbench_accounts' \
			'CREATE INDEX ON pgbench_accounts USING gin (string_to_array(filler, chr(32)))' \
			'UPDATE copied SET bid = bid + 1 WHERE aid % 7 = 0' \
			'TRUNCATE copied' \
			"SELECT pg_logical_emit_message(true, 'walk', repeat(md5('x'), 12345))" \
			'SELECT pg_switch_wal()'
	fi
}

# Crash, and lose what was written of a long record from its second megabyte
# on: from a page in the middle of a segment, or from a segment's first page.
lose_tail()
{
	local offset=$1
	local segment=$((1024 * 1024))
	local first file name

	sql 'CHECKPOINT'
	ask 'SELECT pg_walfile_name(pg_current_wal_lsn() + 1024 * 1024)'
	first=$answer
	sql "SELECT pg_logical_emit_message(true, 'walk', repeat('lost', 900000))"
	stop QUIT
	for file in "$work"/data/pg_wal/????????????????????????
	do
		name=${file##*/}
		if [[ $name < $first ]]; then continue; fi
		rm -f "$work/data/pg_wal/archive_status/$name".*
		if [[ $name > $first || $offset -eq 0 ]]; then rm "$file"; fi
	done
	if [ "$offset" -gt 0 ]
	then
		dd if=/dev/zero of="$work/data/pg_wal/$first" bs=8192 seek="$offset" \
			count=$((segment / 8192 - offset)) conv=notrunc status=none
	fi
	start
	sql 'CREATE TABLE after_crash_'"$offset"' AS SELECT generate_series(1, 1000)'
}

new_timeline()
{
	stop INT
	save 16
	touch "$work/data/standby.signal"
	start
	run pg_ctl -D "$work/data" -w promote
	sql 'CREATE TABLE branched AS SELECT generate_series(1, 1000)'
}

# Keep the segments of the cluster, which is stopped.  A timeline's last one
# is renamed when the next begins: called before and after.
save()
{
	local dir

	mkdir -p "$out/$1"
	for dir in "$work/archive" "$work/data/pg_wal"
	do
		find "$dir" -maxdepth 1 -type f -name '????????????????????????' \
			-exec cp --sparse=always -t "$out/$1" {} +
	done
}

for mb in 1 16 64
do
	new_cluster "$mb"
	work "$mb"
	case $mb in
		1) lose_tail 40; lose_tail 0 ;;
		16) new_timeline ;;
	esac
	stop INT
	save "$mb"
done
done=yes
