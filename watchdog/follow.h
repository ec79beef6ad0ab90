/*
 * follow.h
 *		Whom this node's PostgreSQL follows: standby.signal and postgresql.auto.conf.
 *
 * The settings are written where pg_basebackup -R, pg_rewind -R and ALTER SYSTEM write theirs and a
 * DBA looks for them: postgresql.auto.conf.  Only the lines of these settings are touched, and only
 * if something changes.  (An ALTER SYSTEM in that very moment could be lost.)
 *
 * follow_write() and follow_signal() block: call them from a task.
 */
#ifndef TANDEM_FOLLOW_H
#define TANDEM_FOLLOW_H

#include <stdbool.h>
#include <stddef.h>

#include "config.h"

#define FOLLOW_SIZE 2400

typedef struct Follow
{
	char conninfo[FOLLOW_SIZE]; /* primary_conninfo; empty: of nobody */
	char slot[CONFIG_NAME_SIZE];
	char node_name[CONFIG_NAME_SIZE];
	char data_directory[CONFIG_PATH_SIZE];
} Follow;

/* What to write to follow that node (FSM_NOBODY: nobody).  False with a message. */
extern bool follow_prepare(Follow *f, const Config *c, int node, char *error, size_t size);
/* A conninfo to connect to that node as the replication user; with a database it is for a program
 * of ours and has time limits. */
extern bool follow_conninfo(const Config *c, int node, const char *database, char *conninfo,
							size_t size, char *error, size_t error_size);

/* Write the settings below "directory", durably, if they differ.  1: changed, 0: not, or negative
 * errno.  Blocks. */
extern int follow_write(const Follow *f, const char *directory);
/* Make standby.signal, durably; 0 or negative errno.  Blocks. */
extern int follow_signal(const char *directory);

#endif /* TANDEM_FOLLOW_H */
