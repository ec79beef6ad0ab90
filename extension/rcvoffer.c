/*-------------------------------------------------------------------------
 *
 * rcvoffer.c
 *	  Reads what a primary answers on SHOW tandem.link_offer (see offer.c).
 *
 *-------------------------------------------------------------------------
 */
#include "receiver.h"

/* A value of the offer: "key=value" up to the next space. */
static bool
offer_value(const char *text, const char *key, char *value, size_t size)
{
	size_t key_length = strlen(key);
	const char *at = text;

	for (;;)
	{
		size_t word = strcspn(at, " ");

		if (word > key_length && strncmp(at, key, key_length) == 0 && at[key_length] == '=')
		{
			size_t length = word - key_length - 1;

			if (length >= size)
				return false;
			memcpy(value, at + key_length + 1, length);
			value[length] = '\0';
			return true;
		}
		if (at[word] == '\0')
			return false;
		at += word + 1;
	}
}

static bool
parse_key(const char *text, uint8 *key)
{
	if (strlen(text) != 2 * LINK_KEY_SIZE)
		return false;
	for (int i = 0; i < LINK_KEY_SIZE; i++)
	{
		unsigned int byte;

		if (sscanf(text + 2 * i, "%2x", &byte) != 1)
			return false;
		key[i] = byte;
	}
	return true;
}

static bool
parse_history(char *text, LinkHistory *history)
{
	char *save;

	history->count = 0;
	for (char *word = strtok_r(text, ",", &save); word != NULL; word = strtok_r(NULL, ",", &save))
	{
		LinkIncarnation *entry = &history->entry[history->count];
		unsigned long long term;
		unsigned long long start;
		unsigned long long nonce;

		if (history->count == LINK_MAX_HISTORY ||
			sscanf(word, "%llu.%u.%u.%llx.%llx", &term, &entry->incarnation, &entry->timeline,
				   &start, &nonce) != 5)
			return false;
		entry->term = term;
		entry->start = start;
		entry->nonce = nonce;
		history->count++;
	}
	return history->count > 0;
}

/*
 * Read an offer.  False if it is not understood; *result is then undefined.
 */
bool
rcvoffer_parse(const char *text, RcvOffer *result)
{
	size_t size = strlen(text) + 1;
	char *value = palloc(size);
	unsigned long long id = 0;
	bool good;

	memset(result, 0, sizeof(*result));
	good = offer_value(text, "proto", value, size) && sscanf(value, "%u", &result->proto) == 1 &&
		   offer_value(text, "id", value, size) && sscanf(value, "%llx", &id) == 1 &&
		   offer_value(text, "key", value, size) && parse_key(value, result->key) &&
		   offer_value(text, "tli", value, size) && sscanf(value, "%u", &result->timeline) == 1 &&
		   offer_value(text, "sys", value, size) &&
		   sscanf(value, UINT64_FORMAT, &result->system_identifier) == 1 &&
		   offer_value(text, "hist", value, size) && parse_history(value, &result->history);
	result->id = id;
	result->tls = offer_value(text, "tls", value, size) && strcmp(value, "1") == 0;
	if (good && offer_value(text, "full", value, size))
		result->full = atoi(value);
	if (good && offer_value(text, "addr", value, size))
		good = strlcpy(result->addresses, value, sizeof(result->addresses)) <
			   sizeof(result->addresses);
	pfree(value);
	return good;
}
