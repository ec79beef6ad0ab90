/*
 * config_values.h
 *		The values of tandem.conf that are more than a word, a time or a number.
 *
 * Each reads a value into what a key names (target) and says in "why" (WHY_SIZE bytes) what is
 * wrong with it if it returns false.
 */
#ifndef TANDEM_CONFIG_VALUES_H
#define TANDEM_CONFIG_VALUES_H

#include "config.h"

#define WHY_SIZE              (CONFIG_PATH_SIZE + 256)
#define CONFIG_HEARTBEAT_PORT 5443

typedef bool (*ConfigReader)(void *target, const char *value, char *why);

extern bool config_read_addresses(void *node, const char *value, char *why); /* ConfigNode */
extern bool config_read_conninfo(void *node, const char *value, char *why);  /* ConfigNode */
extern bool config_read_vips(void *config, const char *value, char *why);    /* Config */
extern bool config_read_agent(void *resource, const char *value, char *why); /* ConfigResource */
extern bool config_read_options(void *text, const char *value, char *why);   /* CONFIG_PATH_SIZE */
extern bool config_is_name(const char *value); /* letters, digits, "_", "-", "." */

/* "a; b; c" one after the other: p starts at the text, part has CONFIG_PATH_SIZE bytes and gets
 * the next one without blanks around it. False after the last. */
extern bool config_next_part(const char **p, char separator, char *part);

#endif /* TANDEM_CONFIG_VALUES_H */
