/* csv.h - records of a CSV file (RFC 4180) as JSON objects; private to data/jsonl.
 *
 * The first record names the columns. A field in double quotes may hold anything, line breaks
 * included, and a double quote written twice; elsewhere a quote is a character like others. Lines
 * end in LF or CRLF. Every value is a string.
 */
#ifndef CRIA_DATA_CSV_H
#define CRIA_DATA_CSV_H

#include <jansson.h>
#include <stddef.h>

#include "base/status.h"

#define CSV_COLUMNS_MAX 4096

/* How far a record has been followed; zero it before. */
struct csv_extent {
    size_t n; /* bytes looked at so far that belong to it, its line end not included */
    enum { CSV_FIELD_START, CSV_PLAIN, CSV_QUOTED, CSV_QUOTE_CLOSED } state;
    int complete; /* its line end stands at [n] */
};

/* Follows it over data[x->n .. size). */
void csv_follow(struct csv_extent *x, const char *data, size_t size, char separator);

/* The record's columns as an array of their names: *out is the caller's. ERR_MEMORY, ERR_FORMAT
 * (not UTF-8, a name twice, text behind a closing quote; no place). */
MUST_CHECK enum status csv_header(const char *data, size_t n, char separator, json_t **out,
                                  struct err *e);

/* The record as an object of strings; errors as above, and where it has other than as many fields
 * as the header. */
MUST_CHECK enum status csv_object(const char *data, size_t n, char separator, const json_t *header,
                                  json_t **out, struct err *e);

#endif
