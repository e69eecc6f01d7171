/* inspect.h - what is in a dataset file, a model's directory or an adapter's.
 *
 *     inspect_open     looks at the path and gathers the facts: a JSON object
 *     inspect_text / inspect_html / inspect_json      three ways of showing them
 *     inspect_close
 *
 * Of a dataset, besides the facts, documents are shown token by token, what is trained set off.
 * The file holds ids and the hash of its tokenizer, not the tokenizer: it has to be named (or a
 * config, which names it); without one, ids are shown. All documents are audited (audit.h). A
 * directory with adapter_config.json is an adapter, one with config.json a model.
 */
#ifndef CRIA_RUN_INSPECT_H
#define CRIA_RUN_INSPECT_H

#include <jansson.h>

#include "base/buf.h"
#include "config/config.h"
#include "data/store/store.h"
#include "data/tokenizer/tokenizer.h"
#include "run/audit.h"
#include "run/dataset.h"

struct inspect_options {
    const char *path; /* dataset file, model or adapter directory; not read with config */
    const struct config *config; /* its datasets are prepared into the cache; NULL: by path */
    const struct dataset_watcher *watcher; /* sees that; NULL */
    const char *tokenizer;                 /* directory or file; NULL: none, or the config's */
    int32_t max_length;  /* of what is cut; 0: the config's, or what the file was prepared with */
    int64_t from, limit; /* first document shown (0: the first of all), and how many */
};

struct inspection {
    struct inspect_options options;
    json_t *facts;
    struct store *store;         /* of a dataset */
    struct audit audit;          /* of a dataset */
    struct tokenizer *tokenizer; /* of a dataset, if it is known */
};

/* ERR_CONFIG (the path is none of the three; options that do not apply), ERR_DATA (another
 * tokenizer), and what reading files can fail with. After a failure inspect_close is still due. */
MUST_CHECK enum status inspect_open(struct inspection *in, const struct inspect_options *o,
                                    struct err *e);
void inspect_close(struct inspection *in); /* zeroed is fine */

struct inspect_look {
    int color;      /* ANSI colours; else marks, as wdiff has them: {+trained+} */
    int boundaries; /* a broken bar between tokens */
};

/* For a terminal. ERR_MEMORY, ERR_FORMAT (larger than out->max), ERR_IO, ERR_DATA. */
MUST_CHECK enum status inspect_text(struct inspection *in, const struct inspect_look *look,
                                    struct buf *out, struct err *e);

/* A page of its own, replaced whole. Errors as above, and ERR_DISK_FULL. */
MUST_CHECK enum status inspect_html(struct inspection *in, const char *path, struct err *e);

/* The facts, and of a dataset the documents asked for under "shown": one JSON text. Errors as
 * above. */
MUST_CHECK enum status inspect_json(struct inspection *in, struct buf *out, struct err *e);

/* ---- the kinds, private to inspect*.c ---- */

MUST_CHECK enum status inspect_model(const char *dir, json_t *facts, struct err *e);
MUST_CHECK enum status inspect_adapter(const char *dir, json_t *facts, struct err *e);
MUST_CHECK enum status inspect_dataset(struct inspection *in, struct err *e);
MUST_CHECK enum status inspect_documents_text(struct inspection *in,
                                              const struct inspect_look *look, struct buf *out,
                                              struct err *e);
struct html;
MUST_CHECK enum status inspect_documents_html(struct inspection *in, struct html *h, struct err *e);
MUST_CHECK enum status inspect_documents_json(struct inspection *in, json_t *shown, struct err *e);

#endif
