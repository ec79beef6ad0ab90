/*
 * units.h
 *		Times and sizes with units, as tandem.conf and tandemctl write them.
 *
 * Times are microseconds, sizes are bytes.  A unit is required (but for 0): a bare number would
 * be read as seconds by one and as milliseconds by the next.  Decimals are allowed ("0.5s").
 */
#ifndef TANDEM_UNITS_H
#define TANDEM_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UNITS_TEXT_SIZE 32

/* us, ms, s, min, h, d.  False if text is not a time, or does not fit. */
extern bool units_parse_time(const char *text, int64_t *us);
/* B, kB, MB, GB, TB (powers of 1024, as in postgresql.conf).  False likewise. */
extern bool units_parse_size(const char *text, int64_t *bytes);
/* The shortest exact text with the largest unit that allows it: "500ms", "1.5s", "30min".
 * buf has UNITS_TEXT_SIZE bytes; returned. */
extern const char *units_time_text(int64_t us, char *buf);
/* For people: at most four digits, "1.52 GB".  buf likewise. */
extern const char *units_size_text(int64_t bytes, char *buf);

#endif /* TANDEM_UNITS_H */
