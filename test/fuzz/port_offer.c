/*-------------------------------------------------------------------------
 *
 * port_offer.c
 *	  A standby's own connection, which PostgreSQL admits, and what it gets there.
 *
 *-------------------------------------------------------------------------
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "port.h"

Broker brokers[MAX_BROKERS];
int broker_count = 5;

static bool
hex_key(const char *text, uint8_t *key)
{
	for (int i = 0; i < LINK_KEY_SIZE; i++)
	{
		unsigned int byte;

		if (sscanf(text + 2 * i, "%2x", &byte) != 1)
			return false;
		key[i] = byte;
	}
	return text[2 * LINK_KEY_SIZE] == '\0';
}

static bool
parse_history(char *text, LinkHistory *history)
{
	history->count = 0;
	for (char *save, *item = strtok_r(text, ",", &save); item != NULL;
		 item = strtok_r(NULL, ",", &save))
	{
		LinkIncarnation *entry = &history->entry[history->count];

		if (history->count == LINK_MAX_HISTORY ||
			sscanf(item, "%" SCNu64 ".%" SCNu32 ".%" SCNu32 ".%" SCNx64 ".%" SCNx64, &entry->term,
				   &entry->incarnation, &entry->timeline, &entry->start, &entry->nonce) != 5)
			return false;
		history->count++;
	}
	return true;
}

/* False if it is not an offer; the words "standby" and "wait" are none. */
static bool
parse_offer(const char *answer, Told *told)
{
	char *text = strdup(answer);
	int found = 0;

	memset(told, 0, sizeof(*told));
	for (char *save, *item = strtok_r(text, " ", &save); item != NULL;
		 item = strtok_r(NULL, " ", &save))
	{
		char *value = strchr(item, '=');

		if (value == NULL)
			break;
		*value++ = '\0';
		if (strcmp(item, "proto") == 0)
			found |= atoi(value) == LINK_VERSION ? 1 : 0;
		else if (strcmp(item, "id") == 0)
			found |= sscanf(value, "%" SCNx64, &told->id) == 1 ? 2 : 0;
		else if (strcmp(item, "key") == 0)
			found |= hex_key(value, told->key) ? 4 : 0;
		else if (strcmp(item, "tls") == 0)
		{
			told->tls = strcmp(value, "1") == 0;
			found |= 8;
		}
		else if (strcmp(item, "tli") == 0)
			found |= sscanf(value, "%" SCNu32, &told->timeline) == 1 ? 16 : 0;
		else if (strcmp(item, "sys") == 0)
			found |= sscanf(value, "%" SCNu64, &told->system_identifier) == 1 ? 32 : 0;
		else if (strcmp(item, "hist") == 0)
			found |= parse_history(value, &told->history) ? 64 : 0;
	}
	free(text);
	return found == 127;
}

static bool
broker_connect(Broker *broker)
{
	const char *keys[] = {"dbname", "replication", "application_name", "connect_timeout", NULL};
	const char *values[] = {conninfo, "true", LINK_NODE, "10", NULL};

	PQfinish(broker->pg);
	broker->pg = PQconnectdbParams(keys, values, 1);
	return PQstatus(broker->pg) == CONNECTION_OK;
}

/*
 * Get an offer and the position to start from.  False if the server has none
 * just now.
 */
bool
broker_ask(Broker *broker, Told *told, uint64_t *start)
{
	PGresult *result;
	uint32_t high = 0;
	uint32_t low = 0;
	bool good;

	/* the server ends a walsender whose standby fell silent */
	if (broker->pg == NULL || PQstatus(broker->pg) != CONNECTION_OK)
	{
		if (!broker_connect(broker))
			return false;
	}
	result = PQexec(broker->pg, "SHOW tandem.link_offer");
	good = PQresultStatus(result) == PGRES_TUPLES_OK && parse_offer(PQgetvalue(result, 0, 0), told);
	PQclear(result);
	if (!good)
		return false;
	result = PQexec(broker->pg, "IDENTIFY_SYSTEM");
	good = PQresultStatus(result) == PGRES_TUPLES_OK &&
		   sscanf(PQgetvalue(result, 0, 2), "%X/%X", &high, &low) == 2;
	PQclear(result);
	*start = (uint64_t) high << 32 | low;
	return good;
}

Broker *
free_broker(void)
{
	for (int i = 0; i < broker_count; i++)
	{
		if (!brokers[i].busy)
			return &brokers[i];
	}
	return NULL;
}
