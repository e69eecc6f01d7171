/* dataset.h - from the config's list of files to an open dataset file.
 *
 * Raw files are prepared once into a cache beside the output, ".cria-cache/KEY.h5", where KEY names
 * all that decides the ids (data/prepare/prepare.h): a second run, another max_length, another rank
 * find it there. A prepared .h5 file is taken as it is, if it was made with this tokenizer and
 * template.
 */
#ifndef CRIA_RUN_DATASET_H
#define CRIA_RUN_DATASET_H

#include "config/config.h"
#include "data/prepare/prepare.h"
#include "data/store/store.h"

/* Who wants to see the preparing. Any function may be NULL. */
struct dataset_watcher {
    void *context;
    prepare_watcher *progress;
    void (*prepared)(void *context, const struct prepare_report *report, const char *path);
    void (*reference)(void *context, int64_t done, int64_t all); /* records the reference model has
                                                                    been run over; NULL: nobody */
    /* bytes of weights read, when that takes long; NULL: nobody */
    void (*weights)(void *context, uint64_t done, uint64_t all, double seconds);
};

struct dataset_request {
    const struct config *config;
    enum config_key key; /* KEY_datasets or KEY_eval_dataset */
    const struct tokenizer *tokenizer;
    const struct template *template;       /* NULL: stage pt */
    const struct dataset_watcher *watcher; /* NULL */
};

/* ERR_CONFIG (formats, mixed .h5 and raw files), ERR_DATA, ERR_FORMAT, ERR_IO, ERR_DISK_FULL,
 * ERR_MEMORY. */
MUST_CHECK enum status dataset_open(struct store **out, const struct dataset_request *r,
                                    struct err *e);

/* The path of the cached file for this list into out[size], prepared if it was not there. Errors as
 * above. */
MUST_CHECK enum status dataset_prepare(const struct dataset_request *r, char *out, size_t size,
                                       struct err *e);

/* The template that the dataset has for its records alone; NULL: it has none. The caller closes it.
 * ERR_CONFIG (at its place in the config) and what reading a file of templates returns. */
MUST_CHECK enum status dataset_own_template(const struct config *c, enum config_key key,
                                            const struct config_dataset *d,
                                            const struct template **out, struct err *e);

/* Without a config, to be read: comma-separated raw files, prepared into a file that is gone once
 * the store is closed; or one .h5 file made with this tokenizer and template. Errors as
 * dataset_open. */
struct dataset_files_request {
    const char *files, *format; /* "auto": each file for itself */
    const struct tokenizer *tokenizer;
    const struct template *template; /* NULL: plain text */
    const struct dataset_watcher *watcher;
};
MUST_CHECK enum status dataset_open_files(struct store **out, const struct dataset_files_request *r,
                                          struct err *e);

/* Without a config, to be kept: comma-separated raw files into the dataset file `out`. */
struct dataset_file_request {
    const char *files, *format; /* "auto": each file for itself */
    const char *tokenizer;      /* directory or file */
    const char *template;       /* NULL: plain text */
    int32_t max_length;         /* for the report; 0: not looked at */
    size_t threads;             /* 0: all */
    const char *out;
    const struct dataset_watcher *watcher;
};
MUST_CHECK enum status dataset_prepare_file(const struct dataset_file_request *r, struct err *e);

/* Where a document came from, for people: "chat.jsonl, line 3", "alpaca.json, record 17". */
void dataset_origin(const struct store *s, int32_t source, int64_t line, char *out, size_t size);

/* ".cria-cache" in the directory that holds output_dir: its path. ERR_IO. */
MUST_CHECK enum status dataset_cache_dir(const struct config *c, char *out, size_t size,
                                         struct err *e);

/* The tokenizer of the model directory, with the template's tokens (new_tokens.h), and the template
 * (chat_template.h; NULL for stage pt). The caller closes both, after a failure too: zero them
 * before. */
MUST_CHECK enum status dataset_tools(const struct config *c, struct tokenizer **tokenizer,
                                     const struct template **template, struct err *e);

#endif
